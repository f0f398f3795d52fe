"""Where the records of a capture of the kernel module lie: read once for an index, then each CPU's by pieces.

A capture has the records of all CPUs as they were read from the module, some of one CPU and then some of another; those
of one CPU are in the order of their time. What is damaged is passed over up to the next records that follow each other,
and counted.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from relay_reader import record_layout as layout

_BEGIN = struct.Struct("<IIHHI")
"""What a RECORD_HEAD begins with: magic, length, version, kind, CPU."""
_MAGIC = layout.RECORD_MAGIC.to_bytes(4, "little")
_LEAST = {
    layout.RECORD_KIND_HIT: layout.HIT_SIZE,
    layout.RECORD_KIND_FINISHED: layout.FINISHED_SIZE,
    layout.RECORD_KIND_SPACE: layout.SPACE_TOLD_SIZE,
    layout.RECORD_KIND_MODULE_SECTION: layout.SECTION_PLACED_SIZE,
}
"""Kind of record -> the bytes that it has at the least."""
_PIECE = 1 << 20
"""Bytes that are read at once of one CPU."""
_WORD = 8


def record_fault(content: bytes | memoryview, at: int, room: int) -> str | None:
    """Why no record of up to `room` bytes begins there; None for one that is whole and as long as its kind is."""
    if room < layout.RECORD_HEAD_SIZE:
        return "is cut off"
    magic, length, version, kind, _ = _BEGIN.unpack_from(content, at)
    if magic != layout.RECORD_MAGIC or version != layout.RECORD_VERSION or length % _WORD:
        return "is damaged, or of another version of ptap"
    if length < _LEAST.get(kind, layout.RECORD_HEAD_SIZE):
        return "is damaged, or of another version of ptap"
    return "is cut off" if length > room else None


def record_kind(record: bytes | memoryview) -> int:
    """The kind of a whole record."""
    return int(_BEGIN.unpack_from(record)[3])


@dataclass(slots=True)
class _Run:
    """Hits of one CPU that follow each other."""

    begin: int
    end: int


@dataclass(slots=True)
class RecordIndex:
    """The records of the file that is open as `file`, from byte `begin` on."""

    file: BinaryIO
    begin: int
    others: list[int] = field(default_factory=list)
    """Where the records lie that are no hits."""
    skipped: int = 0
    """Bytes that are no records."""
    damage: list[str] = field(default_factory=list)
    """A line for each place with such bytes."""
    _runs: dict[int, list[_Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = os.fstat(self.file.fileno()).st_size
        at, window, base = self.begin, b"", self.begin
        while at < size:
            if at + layout.RECORD_HEAD_SIZE > base + len(window):
                base, window = at, self._read(at, _PIECE)
            fault = record_fault(window, at - base, size - at)
            if fault is not None:
                going_on = self._next_record(at, size)
                self.damage.append(f"the record at byte {at} {fault}: {going_on - at} bytes were passed over")
                self.skipped += going_on - at
                at = going_on
                continue
            _, length, _, kind, cpu = _BEGIN.unpack_from(window, at - base)
            if kind == layout.RECORD_KIND_HIT:
                self._add_hit(cpu, at, at + length)
            else:
                self.others.append(at)
            at += length

    def _read(self, at: int, count: int) -> bytes:
        return os.pread(self.file.fileno(), count, at)

    def _add_hit(self, cpu: int, begin: int, end: int) -> None:
        runs = self._runs.setdefault(cpu, [])
        if runs and runs[-1].end == begin and end - runs[-1].begin <= _PIECE:
            runs[-1].end = end
        else:
            runs.append(_Run(begin, end))

    def _next_record(self, damaged: int, size: int) -> int:
        """Where a record begins that another one or the end of the file follows; the end where there is none."""
        at = damaged + _WORD
        while at < size:
            window = self._read(at, _PIECE)
            found = window.find(_MAGIC)
            while found >= 0:
                place = at + found
                # Records are whole words, and so is what is damaged.
                if (place - damaged) % _WORD == 0 and self._is_followed(place, size):
                    return place
                found = window.find(_MAGIC, found + 1)
            at += max(len(window) - len(_MAGIC) + 1, 1)
        return size

    def _is_followed(self, place: int, size: int) -> bool:
        head = self._read(place, layout.RECORD_HEAD_SIZE)
        if record_fault(head, 0, size - place) is not None:
            return False
        end = place + _BEGIN.unpack_from(head)[1]
        return end == size or record_fault(self._read(end, layout.RECORD_HEAD_SIZE), 0, size - end) is None

    @property
    def cpus(self) -> list[int]:
        """The CPUs that have hits."""
        return sorted(self._runs)

    def record(self, at: int) -> memoryview:
        """The whole record at one of `others`."""
        length = _BEGIN.unpack(self._read(at, _BEGIN.size))[1]
        return memoryview(self._read(at, length))

    def hits(self, cpu: int) -> Iterator[tuple[int, memoryview]]:
        """(place, record) of each hit of a CPU, in their order; a piece of them is held at a time."""
        for run in self._runs.get(cpu, ()):
            content = memoryview(self._read(run.begin, run.end - run.begin))
            at = 0
            while at < len(content):
                length = _BEGIN.unpack_from(content, at)[1]
                yield run.begin + at, content[at : at + length]
                at += length
