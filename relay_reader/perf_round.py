"""Putting perf's records in order of time while they are read, in bounded memory.

perf copies the ring of each CPU in turn, so times go back at every ring. At the end of a round
(PERF_RECORD_FINISHED_ROUND) all records up to the newest time of the round before are there
(tools/perf/util/ordered-events.c says why). Without such marks the oldest ones go on when too many wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

_ENTRY = 200
"""Bytes that a waiting record takes beside its own."""


class RoundOrder:
    """Holds records until their turn. `late` counts those that came after later ones had gone on."""

    def __init__(self, limit: int = 1 << 28) -> None:
        """At most `limit` bytes wait."""
        self.late = 0
        self._limit = limit
        self._held = 0
        # (time, order in the file, record)
        self._waiting: list[tuple[int, int, bytes]] = []
        self._order = 0
        self._newest = self._complete = self._given = 0

    def add(self, time: int, record: bytes) -> Iterator[bytes]:
        """Take a record of that time (0: it has none, and is the oldest); gives what can wait no longer."""
        self._newest = max(self._newest, time)
        self._order += 1
        heapq.heappush(self._waiting, (time, self._order, record))
        self._held += len(record) + _ENTRY
        if self._held > self._limit:
            while self._held > self._limit // 2:
                yield self._pop()

    def finish_round(self) -> Iterator[bytes]:
        """What is complete now that a round has ended."""
        while self._waiting and self._waiting[0][0] <= self._complete:
            yield self._pop()
        self._complete = self._newest

    def rest(self) -> Iterator[bytes]:
        """All that still waits: there is no more to come."""
        while self._waiting:
            yield self._pop()

    def _pop(self) -> bytes:
        time, _, record = heapq.heappop(self._waiting)
        self._held -= len(record) + _ENTRY
        if time:
            self.late += time < self._given
            self._given = max(self._given, time)
        return record
