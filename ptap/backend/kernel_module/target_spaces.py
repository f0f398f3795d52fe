"""Telling the module of the mappings of the target's processes, and of tables that come while it runs.

Two threads come here: the one that reads records, which say whose mappings are not known, and the one that compiles
tables. A lock keeps them apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ptap.backend.kernel_module.followed_threads import FollowedThreads
from ptap.backend.kernel_module.live_tables import LiveTables
from ptap_target.session_folder import SessionFolder
from ptap_target.space_follower import SpaceFollower
from ptap_target.space_messages import SpaceMapping


class TargetSpaces(SpaceFollower):
    """A follower of the target's processes, not of all that are hit. `note` gets, for people, what was told."""

    def __init__(self, followed: FollowedThreads, session: SessionFolder, note: Callable[[str], None]) -> None:
        self._live_tables = LiveTables(session, self._table_has_come)
        # The mappings come from perf: nothing has to be noted for those who read a capture.
        super().__init__(self._live_tables.table_of, lambda _: None)
        self._followed = followed
        self._note_told = note
        self._lock = threading.RLock()
        self._closed = False
        self._waiting: dict[str, set[int]] = {}
        """Build-id -> processes that were told without its table."""

    def watch(self, records: bytes | memoryview) -> None:
        """Look at the processes that `records` say are not known."""
        with self._lock:
            super().watch(records)

    def tell(self, pid: int) -> bool:
        """Tell of a process; False where it is none of the target, or not yet known to be."""
        # A table may come before it is noted that the process waits for it.
        with self._lock:
            return pid in self._followed and super().tell(pid)

    def close(self) -> None:
        """End what compiles tables, and close the module's file."""
        self._live_tables.close()
        with self._lock:
            self._closed = True
            super().close()

    def _was_told(self, pid: int, mappings: list[SpaceMapping]) -> None:
        with_table = sum(1 for each in mappings if each.table)
        for each in mappings:
            if each.build_id is not None and not each.table:
                self._waiting.setdefault(each.build_id, set()).add(pid)
        self._note_told(f"process {pid}: {with_table} of {len(mappings)} mappings are walked through at the probe")

    def _table_has_come(self, build_id: str, content: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            self._take_table(build_id, content)
            for pid in self._waiting.pop(build_id, ()):
                self.tell(pid)
