"""Records of the kernel module → the events of the Capture model: from a capture file, or as they come.

Data comes from the bytes of a file that the program on the traced machine has written (`ptap_target.collector`), or
from the files of the running module. What is damaged is an error; what was dropped is an event.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relay_reader import record_layout as layout
from relay_reader.capture import Event, KernelSectionPlaced, KernelStack, RecordsLost, Sample, StackSlice, ThreadNamed
from relay_reader.told_spaces import ToldSpaces
from relay_reader.user_stack import UserStackError, read_user_stack

MAGIC = b"ptap kernel capture 1\n"


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
        head = self._head(memoryview(record), 0)
        if head["kind"] == layout.RECORD_KIND_HIT:
            yield from self._told(*self._hit(head, memoryview(record)[layout.HIT_SIZE :], 0))
        elif head["kind"] == layout.RECORD_KIND_MODULE_SECTION:
            yield _section(head)
        elif head["kind"] == layout.RECORD_KIND_FINISHED:
            self._finish(head)
            yield from self._lost(self.accounts[-1].cpu, self.accounts[-1].dropped, int(head["time_ns"]))

    def _told(self, dropped: int, comm: str, _: int, sample: Sample) -> Iterator[Event]:
        """The events of one hit."""
        yield from self._lost(sample.cpu, dropped, sample.time_ns)
        if self._names.get(sample.tid) != comm:
            self._names[sample.tid] = comm
            yield ThreadNamed(sample.time_ns, sample.pid, sample.tid, comm)
        yield from self.spaces.events_for(sample, comm)
        yield sample

    def _lost(self, cpu: int, dropped: int, time_ns: int) -> Iterator[Event]:
        """What a CPU dropped that was not told before; it says how many there are in all."""
        before = self._dropped.get(cpu, 0)
        if dropped > before:
            self._dropped[cpu] = dropped
            yield RecordsLost(time_ns, cpu, dropped - before)

    def _finish(self, head: Any) -> None:
        counts = [int(head[name]) for name in ("cpu", "sequence", "dropped", "stop_detail", "slide")]
        counts.append(int(head["registers"][0]))
        self.accounts.append(CpuAccount(*counts))

    def _add_space(self, head: Any, content: memoryview, at: int) -> None:
        try:
            self.spaces.add(int(head["time_ns"]), int(head["pid"]), bytes(content))
        except ValueError as error:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is damaged: {error}") from None

    def _head(self, records: memoryview, at: int) -> Any:
        if len(records) - at < layout.HIT_SIZE:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is cut off")
        head = np.frombuffer(records, dtype=layout.HIT_DTYPE, count=1, offset=at)[0]
        length = int(head["length"])
        sound = head["magic"] == layout.RECORD_MAGIC and head["version"] == layout.RECORD_VERSION
        if not sound or not layout.HIT_SIZE <= length <= len(records) - at or length % 8:
            raise ModuleCaptureError(f"{self._path}: the record at byte {at} is damaged, or of another version of ptap")
        return head

    def _hit(self, head: Any, payload: memoryview, at: int) -> tuple[int, str, int, Sample]:
        """(its CPU's drops until then, comm, sequence, the sample) of one HIT record."""
        frames_end = 8 * int(head["frame_count"])
        slices, oracle_start = _slices(payload, frames_end, int(head["slice_count"]))
        oracle_end = oracle_start + 8 * int(head["oracle_count"])
        has_user = bool(head["flags"] & layout.HIT_FLAG_USER_STACK)
        registers = tuple(head["registers"].tolist())
        try:
            if oracle_end > len(payload) or (oracle_end != len(payload) and not has_user):
                raise UserStackError
            user, user_slices = (
                read_user_stack(payload[oracle_end:], head, registers) if has_user else (None, [])
            )  # fmt: skip
        except UserStackError:
            raise ModuleCaptureError(f"{self._path}: the parts of the record at byte {at} do not fill it") from None
        stack = KernelStack(
            registers=registers,
            known=int(head["known"]),
            slices=slices,
            slide=int(head["slide"]),
            stop=int(head["stop"]),
            stop_detail=int(head["stop_detail"]),
            flags=int(head["flags"]),
            oracle=_words(payload[oracle_start:oracle_end]),
        )
        sample = Sample(
            time_ns=int(head["time_ns"]),
            cpu=int(head["cpu"]),
            pid=int(head["pid"]),
            tid=int(head["tid"]),
            places=(int(head["probe"]),),
            registers=user.registers if user is not None else (),
            known=user.known if user is not None else 0,
            slices=user_slices,
            kernel_chain=_words(payload[:frames_end]),
            # A probe in user space has no stack of the kernel's.
            kernel_stack=stack if frames_end else None,
            user_stack=user,
        )
        comm = bytes(head["comm"]).split(b"\0")[0].decode("utf-8", "backslashreplace")
        return int(head["dropped"]), comm, int(head["sequence"]), sample


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
        self._samples: list[tuple[int, str, int, Sample]] = []
        self._sections: list[KernelSectionPlaced] = []
        self._read(memoryview(content)[end + 1 :])

    def _read(self, records: memoryview) -> None:
        at = 0
        while at < len(records):
            head = self._head(records, at)
            length = int(head["length"])
            if head["kind"] == layout.RECORD_KIND_HIT:
                self._samples.append(self._hit(head, records[at + layout.HIT_SIZE : at + length], at))
            elif head["kind"] == layout.RECORD_KIND_MODULE_SECTION:
                self._sections.append(_section(head))
            elif head["kind"] == layout.RECORD_KIND_FINISHED:
                self._finish(head)
            elif head["kind"] == layout.RECORD_KIND_SPACE:
                self._add_space(head, records[at + layout.HIT_SIZE : at + length], at)
            at += length

    def events(self) -> Iterator[Event]:
        """Every hit in time order; names of threads and losses come before the hit that tells of them."""
        self._dropped, self._names = {}, {}
        sections = deque(sorted(self._sections, key=lambda each: each.time_ns))
        for each in sorted(self._samples, key=lambda each: (each[3].time_ns, each[2])):
            while sections and sections[0].time_ns <= each[3].time_ns:
                yield sections.popleft()
            yield from self._told(*each)
        for account in self.accounts:
            yield from self._lost(account.cpu, account.dropped, 0)


def _section(head: Any) -> KernelSectionPlaced:
    return KernelSectionPlaced(*(int(head[name]) for name in ("time_ns", "probe", "tid", "stop_detail")))


def _words(content: memoryview) -> tuple[int, ...]:
    return tuple(np.frombuffer(content, dtype="<u8").tolist())


def _slices(payload: memoryview, at: int, count: int) -> tuple[list[StackSlice], int]:
    """The slices from byte `at` on, and the byte behind them; one that is cut off ends behind the payload."""
    slices: list[StackSlice] = []
    for _ in range(count):
        if at + layout.SLICE_SIZE > len(payload):
            return slices, len(payload) + 1
        head = np.frombuffer(payload, dtype=layout.SLICE_DTYPE, count=1, offset=at)[0]
        begin = at + layout.SLICE_SIZE
        at = begin + int(head["copied"])
        slices.append(StackSlice(int(head["address"]), bytes(payload[begin:at])))
    return slices, at
