"""Unwind tables of files that the target maps while it runs: compiled by a thread of their own, and handed on.

Owns that thread. Files that the session has tables of need none of it; those of others are opened when they are seen,
as the process that maps them may soon be gone, and compiled one after the other.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

from cfi_tables.elf_image import ElfError, ElfImage
from ptap.kernel_module.program_tables import table_of
from ptap_target.session_folder import SessionFolder


class LiveTables:
    """A table source (ptap_target.space_follower). `take` gets, in the thread, the tables that were not there at once.

    Its thread runs from the first file that has no table to `close`.
    """

    def __init__(self, session: SessionFolder, take: Callable[[str, bytes], None]) -> None:
        self._session = session
        self._take = take
        self._files: queue.SimpleQueue[tuple[str, ElfImage] | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closing = False

    def table_of(self, build_id: str, path: str) -> bytes | None:
        """The table for files of that build-id, of which there is one at `path`; None where it has to be compiled."""
        content = self._session.table_of(build_id)
        if content is None and build_id not in self._asked:
            image = _opened(path, build_id)
            if image is not None:
                self._asked.add(build_id)
                self._compile(build_id, image)
        return content

    def close(self) -> None:
        """End the thread, without waiting for it: what it has not done stays undone."""
        self._closing = True
        self._files.put(None)

    def _compile(self, build_id: str, image: ElfImage) -> None:
        self._files.put((build_id, image))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ptap-tables", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (item := self._files.get()) is not None and not self._closing:
            build_id, image = item
            table = table_of(image)
            if table is not None and not self._closing:
                self._take(build_id, table.data.tobytes())


def _opened(path: str, build_id: str) -> ElfImage | None:
    """The file, which stays open though the path may go; None where it is no longer the one that was mapped."""
    try:
        image = ElfImage.open(os.path.realpath(path))
    except (ElfError, OSError):
        try:
            image = ElfImage.open(path)  # deleted, or in a file system of the process's own
        except (ElfError, OSError):
            return None
    return image if image.build_id is not None and image.build_id.hex() == build_id else None
