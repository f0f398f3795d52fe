"""Records of the kernel module → the events of the Capture model: from a capture file, or as they come.

Data comes from the bytes of a file that the program on the traced machine has written (`ptap_target.collector`), or
from the files of the running module. What is damaged is an error; what was dropped is an event.
"""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relay_reader import record_layout as layout
from relay_reader.capture import Event, KernelSectionPlaced, RecordsLost, ThreadNamed
from relay_reader.capture_kind import MODULE_CAPTURE_MAGIC
from relay_reader.hit_record import Hit, HitRecordError, read_hit
from relay_reader.told_spaces import ToldSpaces

MAGIC = MODULE_CAPTURE_MAGIC
_BEGIN = struct.Struct("<IIHH")
"""What a RECORD_HEAD begins with: magic, length, version, kind."""
_LEAST = {
    layout.RECORD_KIND_HIT: layout.HIT_SIZE,
    layout.RECORD_KIND_FINISHED: layout.FINISHED_SIZE,
    layout.RECORD_KIND_SPACE: layout.SPACE_TOLD_SIZE,
    layout.RECORD_KIND_MODULE_SECTION: layout.SECTION_PLACED_SIZE,
}
"""Kind of record -> the bytes that it has at the least."""


class ModuleCaptureError(Exception):
    """The file is no capture, or damaged; the text says where."""


@dataclass(frozen=True, slots=True)
class CpuAccount:
    """What one CPU's last record says."""

    cpu: int
    hits: int
    """All of them."""
    dropped: int
    """Of those, how many have no record."""
    missed: int
    """Hits that the kernel has left out itself, as inside of another probe: of all CPUs, told by one of them."""
    unwanted: int
    """Hits whose stacks the session's predicate refused."""
    others: int
    """Hits of processes that are no target of the session; `hits` has them, too."""


class RecordStream:
    """Decodes the records of all CPUs, those of each in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        """`path` is where they come from, for messages."""
        self._path = path
        self.accounts: list[CpuAccount] = []
        """Of the CPUs whose records are all there: it is one a CPU, where the run has come to its end."""
        self.spaces = ToldSpaces()
        self._dropped: dict[int, int] = {}
        self._names: dict[int, str] = {}

    def decode(self, record: bytes) -> Iterator[Event]:
        """What one whole record tells: losses and the thread's name come before the hit. Raises ModuleCaptureError."""
        whole = memoryview(record)
        kind, _ = self._head(whole, 0)
        if kind == layout.RECORD_KIND_HIT:
            yield from self._told(self._hit(whole, 0))
        elif kind == layout.RECORD_KIND_MODULE_SECTION:
            yield self._section(whole)
        elif kind == layout.RECORD_KIND_FINISHED:
            time_ns = self._finish(whole)
            yield from self._lost(self.accounts[-1].cpu, self.accounts[-1].dropped, time_ns)

    def _told(self, hit: Hit) -> Iterator[Event]:
        """The events of one hit."""
        sample = hit.sample
        yield from self._lost(sample.cpu, hit.dropped, sample.time_ns)
        if self._names.get(sample.tid) != hit.comm:
            self._names[sample.tid] = hit.comm
            yield ThreadNamed(sample.time_ns, sample.pid, sample.tid, hit.comm)
        yield from self.spaces.events_for(sample, hit.comm)
        yield sample

    def _lost(self, cpu: int, dropped: int, time_ns: int) -> Iterator[Event]:
        """What a CPU dropped that was not told before; it says how many there are in all."""
        before = self._dropped.get(cpu, 0)
        if dropped > before:
            self._dropped[cpu] = dropped
            yield RecordsLost(time_ns, cpu, dropped - before)

    def _finish(self, record: memoryview) -> int:
        """Take what a CPU's last record says; its time."""
        head = np.frombuffer(record, dtype=layout.FINISHED_DTYPE, count=1)[0]
        counts = (int(head[name]) for name in ("cpu", "hits", "dropped", "missed", "unwanted", "others"))
        self.accounts.append(CpuAccount(*counts))
        return int(head["time_ns"])

    def _add_space(self, record: memoryview, at: int) -> None:
        head = np.frombuffer(record, dtype=layout.SPACE_TOLD_DTYPE, count=1)[0]
        try:
            self.spaces.add(int(head["time_ns"]), int(head["pid"]), bytes(record[layout.SPACE_TOLD_SIZE :]))
        except ValueError as error:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is damaged: {error}") from None

    def _head(self, records: memoryview, at: int) -> tuple[int, int]:
        """(kind, length) of the record that begins there, which is whole and as long as its kind has to be."""
        if len(records) - at < layout.RECORD_HEAD_SIZE:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is cut off")
        magic, length, version, kind = _BEGIN.unpack_from(records, at)
        sound = magic == layout.RECORD_MAGIC and version == layout.RECORD_VERSION
        least = _LEAST.get(kind, layout.RECORD_HEAD_SIZE)
        if not sound or not least <= length <= len(records) - at or length % 8:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is damaged, or of another version of ptap")
        return kind, length

    def _hit(self, record: memoryview, at: int) -> Hit:
        """One whole HIT record, which lies at byte `at`."""
        try:
            return read_hit(record)
        except HitRecordError:
            raise ModuleCaptureError(f"{self._path}: the parts of the record at byte {at} do not fill it") from None

    def _section(self, record: memoryview) -> KernelSectionPlaced:
        head = np.frombuffer(record, dtype=layout.SECTION_PLACED_DTYPE, count=1)[0]
        return KernelSectionPlaced(*(int(head[name]) for name in ("time_ns", "module", "section", "address")))


class ModuleCapture(RecordStream):
    """One capture file, decoded. Raises ModuleCaptureError and OSError."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        content = path.read_bytes()
        end = content.find(b"\n", len(MAGIC))
        if not content.startswith(MAGIC) or end < 0:
            raise ModuleCaptureError(f"{path}: no capture of the kernel module")
        self.description: dict[str, Any] = json.loads(content[len(MAGIC) : end])
        """The session's."""
        self._hits: list[Hit] = []
        self._sections: list[KernelSectionPlaced] = []
        self._read(memoryview(content)[end + 1 :])

    def _read(self, records: memoryview) -> None:
        at = 0
        while at < len(records):
            kind, length = self._head(records, at)
            record = records[at : at + length]
            if kind == layout.RECORD_KIND_HIT:
                self._hits.append(self._hit(record, at))
            elif kind == layout.RECORD_KIND_MODULE_SECTION:
                self._sections.append(self._section(record))
            elif kind == layout.RECORD_KIND_FINISHED:
                self._finish(record)
            elif kind == layout.RECORD_KIND_SPACE:
                self._add_space(record, at)
            at += length

    def events(self) -> Iterator[Event]:
        """Every hit in time order; names of threads and losses come before the hit that tells of them."""
        self._dropped, self._names = {}, {}
        sections = deque(sorted(self._sections, key=lambda each: each.time_ns))
        for each in sorted(self._hits, key=lambda each: (each.sample.time_ns, each.sequence)):
            while sections and sections[0].time_ns <= each.sample.time_ns:
                yield sections.popleft()
            yield from self._told(each)
        for account in self.accounts:
            yield from self._lost(account.cpu, account.dropped, 0)
