"""Records of the kernel module → the events of the Capture model: from a capture file, or as they come.

Data comes from a file that the program on the traced machine has written (`ptap_target.collector`), or from the files
of the running module. What is damaged is an error where it comes from the module, and counted in a file; what was
dropped, or is missing, is an event.
"""

from __future__ import annotations

import heapq
import json
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
from relay_reader.module_records import RecordIndex, record_fault, record_kind
from relay_reader.told_spaces import ToldSpaces

MAGIC = MODULE_CAPTURE_MAGIC
_MOST_LINES = 8


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
        fault = record_fault(whole, 0, len(whole))
        if fault is not None:
            raise ModuleCaptureError(f"{self._path}: a record {fault}")
        kind = record_kind(whole)
        if kind == layout.RECORD_KIND_HIT:
            try:
                hit = read_hit(whole)
            except HitRecordError:
                raise ModuleCaptureError(f"{self._path}: the parts of a record do not fill it") from None
            yield from self._told(hit)
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

    def _section(self, record: memoryview) -> KernelSectionPlaced:
        head = np.frombuffer(record, dtype=layout.SECTION_PLACED_DTYPE, count=1)[0]
        return KernelSectionPlaced(*(int(head[name]) for name in ("time_ns", "module", "section", "address")))


class ModuleCapture(RecordStream):
    """One capture file: its index is read at once, its hits by pieces. Raises ModuleCaptureError and OSError.

    Of a damaged file, or one whose writer was killed, what is whole is given; `problems` says what is not.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = open(path, "rb")  # noqa: SIM115
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        if self._file.read(len(MAGIC)) != MAGIC:
            raise ModuleCaptureError(f"{self._path}: no capture of the kernel module")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ModuleCaptureError(f"{self._path}: no capture of the kernel module: it ends before its records")
        self.description: dict[str, Any] = json.loads(line)
        """The session's."""
        self._index = RecordIndex(self._file, self._file.tell())
        self._damaged: set[int] = set()
        """Places of records whose parts do not fit."""
        self._sections: list[KernelSectionPlaced] = []
        for at in self._index.others:
            self._take_other(self._index.record(at), at)
        if self._index.damage and not self._index.cpus and not self._index.others:
            raise ModuleCaptureError(f"{self._path}: {self._index.damage[0]}")

    def _take_other(self, record: memoryview, at: int) -> None:
        kind = record_kind(record)
        if kind == layout.RECORD_KIND_MODULE_SECTION:
            self._sections.append(self._section(record))
        elif kind == layout.RECORD_KIND_FINISHED:
            self._finish(record)
        elif kind == layout.RECORD_KIND_SPACE:
            head = np.frombuffer(record, dtype=layout.SPACE_TOLD_DTYPE, count=1)[0]
            content = bytes(record[layout.SPACE_TOLD_SIZE :])
            try:
                self.spaces.add(int(head["time_ns"]), int(head["pid"]), content)
            except ValueError as error:
                self._index.damage.append(f"the record at byte {at} is damaged: {error}")
        else:
            self._index.damage.append(f"the record at byte {at} is of a kind that is not known: {kind}")

    @property
    def problems(self) -> list[str]:
        """What could not be read, a line each for the first places; of hits once `events` has ended."""
        lines = [f"{self._path}: {each}" for each in self._index.damage[:_MOST_LINES]]
        more = len(self._index.damage) - len(lines)
        if more > 0:
            lines.append(f"{self._path}: and {more} more places that are damaged")
        if self._damaged:
            lines.append(f"{self._path}: the parts of {len(self._damaged)} records do not fill them: hits are missing")
        return lines

    def events(self) -> Iterator[Event]:
        """Every hit in time order; names of threads and losses come before the hit that tells of them.

        A loss that the module does not tell of, a gap in the numbers of a CPU's hits, comes there, too.
        """
        self._dropped, self._names = {}, {}
        sections = deque(sorted(self._sections, key=lambda each: each.time_ns))
        gaps = {cpu: _NumberGaps(self._is_gapless(cpu)) for cpu in self._index.cpus}
        merged = heapq.merge(
            *(self._hits_of(cpu, gaps[cpu]) for cpu in self._index.cpus),
            key=lambda each: (each[0].sample.time_ns, each[0].sequence),
        )
        for hit, gap in merged:
            while sections and sections[0].time_ns <= hit.sample.time_ns:
                yield sections.popleft()
            if gap:
                yield RecordsLost(hit.sample.time_ns, hit.sample.cpu, gap)
            yield from self._told(hit)
        for account in self.accounts:
            yield from self._lost(account.cpu, account.dropped, 0)
            counted = gaps[account.cpu].counted if account.cpu in gaps else 0
            kept = account.hits - account.others - account.unwanted - account.dropped
            if kept > counted:
                yield RecordsLost(0, account.cpu, kept - counted)

    def _is_gapless(self, cpu: int) -> bool:
        """Whether all hits of a CPU that were not dropped have a record: those that the session refused have none."""
        known = [each.unwanted for each in self.accounts if each.cpu == cpu]
        return self.description.get("when") is None if not known else known[0] == 0

    def _hits_of(self, cpu: int, gaps: _NumberGaps) -> Iterator[tuple[Hit, int]]:
        """Each hit of a CPU, and how many are missing before it."""
        for at, record in self._index.hits(cpu):
            try:
                hit = read_hit(record)
            except HitRecordError:
                self._damaged.add(at)
                continue
            yield hit, gaps.before(hit)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _NumberGaps:
    """Looks for gaps in the numbers of one CPU's hits. `counted` is how many hits there are so far, with the gaps."""

    def __init__(self, gapless: bool) -> None:
        """With `gapless` only what was dropped or got lost is missing."""
        self.counted = 0
        self._gapless = gapless

    def before(self, hit: Hit) -> int:
        """How many hits are missing between the one before and this one, the dropped ones not among them."""
        self.counted += 1
        # Its number counts the hits with and those without a record.
        gap = hit.sequence - hit.dropped - self.counted if self._gapless else 0
        if gap <= 0:
            return 0
        self.counted += gap
        return gap
