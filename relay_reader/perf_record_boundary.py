"""Where the records of a damaged perf.data go on: the first place from which they follow each other soundly.

A record does not say where it begins, so what looks like one may lie inside of another. A place counts as a boundary
only when each record from there on is of a known kind, with a header as perf and the kernel write them and of an event
that the file declares, up to the end of the data, or for longer than any record is. The kernel's records are whole
words, so where none is packed they stay aligned.

Whole records do lie in others: of a stack that is smaller than the room for its copy the kernel leaves the rest of
the room as it was in the ring, which is older records, and they may go on to the real ones. Their times give them away:
no boundary is older than the last record before the damage, even where the next ring begins with one that is.
"""

from __future__ import annotations

import re
from enum import Enum

from relay_reader.perf_record import RECORD_SAMPLE, RecordDecoder
from relay_reader.perf_record_stream import (
    FINISHED_ROUND,
    FIRST_USER_RECORD,
    RECORD_HEADER,
    USER_RECORDS,
    is_possible,
    payload_size,
)
from relay_reader.perf_side_band import PASSED_OVER, SIDE_BAND

LARGEST_RECORD = 0xFFFF
"""A record's size has 16 bits."""
_KINDS = {RECORD_SAMPLE, *SIDE_BAND, *PASSED_OVER, *USER_RECORDS}
_BEGIN = re.compile(b"(?=[" + re.escape(bytes(sorted(_KINDS))) + rb"]\0\0\0)")
_LEAST_UNNAMED = 8
_NO_MISC = 0x07F8
"""Bits of perf_event_header.misc that have no meaning (linux/perf_event.h)."""

_ID_SIZE = 8


class _Chain(Enum):
    SOUND = "sound"
    BROKEN = "broken"
    OPEN = "more bytes would tell"


class BoundarySearch:
    """Looks for the first boundary behind a damaged header, in bytes that come piece by piece from there on.

    Some 128 KiB of those before the last piece are held.
    """

    def __init__(self, decoder: RecordDecoder | None, last: bytes, alignment: int) -> None:
        """`decoder` knows the file's events; without one, the kernel's records do not count. `last` is that before.

        Records begin at multiples of `alignment` bytes from the damaged header.
        """
        self.content = bytearray()
        """What is not yet decided on; from the boundary on, once it is found."""
        self.passed = 0
        """Bytes before `content`."""
        self._decoder = decoder
        self._alignment = alignment
        self._has_times = decoder is not None and "time" in decoder.first.head_offsets
        self._not_before = decoder.time_of(last) if decoder is not None and last else 0
        self._id_at, self._id_from_end = decoder.id_positions if decoder is not None else (-1, 0)
        self._least = 1 if self._id_at >= 0 else _LEAST_UNNAMED
        # Places from which a chain is known to break; chains meet, so that each place is looked at once.
        self._broken: set[int] = set()

    def add(self, data: bytes, ended: bool) -> bool:
        """Take more bytes, with `ended` the last ones; whether a boundary was found."""
        self.content += data
        state, at = self._first_chain(memoryview(self.content), ended)
        del self.content[:at]
        self.passed += at
        self._broken = {place - at for place in self._broken if place >= at}
        return state is _Chain.SOUND

    def _first_chain(self, content: memoryview, ended: bool) -> tuple[_Chain, int]:
        """The state of the first chain that is not broken, and where it begins."""
        for match in _BEGIN.finditer(content):
            at = match.start()
            if (self.passed + at) % self._alignment or self.passed + at == 0 or self._is_old(content, at):
                continue
            state = self._follow(content, at, ended)
            if state is not _Chain.BROKEN:
                return state, at
        return _Chain.BROKEN, len(content) if ended else max(len(content) - RECORD_HEADER.size, 0)

    def _is_old(self, content: memoryview, at: int) -> bool:
        """Whether what looks like a record of the kernel's may be one that was told before."""
        if at + RECORD_HEADER.size > len(content):
            return False
        kind, _, size = RECORD_HEADER.unpack_from(content, at)
        if kind >= FIRST_USER_RECORD or at + size > len(content):
            return False
        time = self._decoder.time_of(content[at : at + size]) if self._decoder is not None and self._has_times else 0
        # Only perf itself writes records without a time, which never were in a ring.
        return not self._has_times or 0 < time < self._not_before

    def _follow(self, content: memoryview, begin: int, ended: bool) -> _Chain:
        """Whether the records from `begin` on are sound as far as is asked for."""
        at, seen = begin, [begin]
        while at - begin <= LARGEST_RECORD and not (ended and at == len(content) and len(seen) > self._least):
            size = 0 if at in self._broken else self._size_at(content, at)
            if size < 0 and not ended:
                return _Chain.OPEN
            if size <= 0:
                self._broken.update(seen)
                return _Chain.BROKEN
            at += size
            seen.append(at)
        return _Chain.SOUND

    def _size_at(self, content: memoryview, at: int) -> int:
        """Bytes of a sound record with what follows it, 0 for one that is not; -1 when it is not there as a whole."""
        if at + RECORD_HEADER.size > len(content):
            return -1
        kind, misc, size = RECORD_HEADER.unpack_from(content, at)
        if kind not in _KINDS or misc & _NO_MISC or not is_possible(kind, size):
            return 0
        if kind == FINISHED_ROUND and size != RECORD_HEADER.size:
            return 0
        record = content[at : at + size]
        if len(record) < size:
            return -1
        if kind < FIRST_USER_RECORD:
            return size if self._names_event(record) else 0
        whole: int = size + payload_size(record)
        # A trace that is longer than what is held here proves nothing.
        return whole if at + whole <= len(content) else 0

    def _names_event(self, record: memoryview) -> bool:
        """Whether a record of the kernel's has the id of an event, or 0, as those have that perf makes up."""
        if self._decoder is None:
            return False
        is_sample = RECORD_HEADER.unpack_from(record)[0] == RECORD_SAMPLE
        if self._id_at < 0 or (not is_sample and not self._id_from_end):
            return True
        at = self._id_at if is_sample else len(record) + self._id_from_end
        if not RECORD_HEADER.size <= at <= len(record) - _ID_SIZE:
            return False
        number = int.from_bytes(record[at : at + _ID_SIZE], "little")
        return number in self._decoder.layouts or (number == 0 and not is_sample)
