"""One moment of a running process: the registers and stacks of its threads, its mappings, and how long it stood still.

While the process stands still nothing is done that can wait: registers are read and memory is copied.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Thread

from ptap.backend.ptrace.memory_map import MapRow, parse_memory_map
from ptap.backend.ptrace.refusal import attach_error
from ptap.backend.ptrace.registers import (
    ALL_KNOWN,
    CS,
    CS_64,
    FS_BASE,
    RSP_COLUMN,
    dwarf_order,
    read_registers,
    read_vector_registers,
)
from ptap.snapshot.blocked_thread import KernelFrame, KernelStay, blocked_registers, kernel_stay, symbol_addresses
from ptap.snapshot.memory_copy import CopiedMemory, copy_memory
from ptap.snapshot.stack_extent import home_extent, stack_extent
from ptap.snapshot.thread_stop import SeizedThread, ThreadState, ThreadStop, refuse_what_is_no_process, thread_state

_URGENT = -20
"""The nice value while a process stands still."""
_LOOKED_THROUGH = 64 << 10
"""Bytes of another stack in which the interrupted stack pointer is looked for."""


@dataclass(slots=True)
class ThreadCopy:
    """One thread as it was."""

    tid: int
    comm: str
    registers: tuple[int, ...] = ()
    """In DWARF order (see `relay_reader.capture.Sample`); () where they are not known."""
    known: int = 0
    """Bit r: `registers[r]` is known."""
    stacks: list[tuple[int, memoryview]] = field(default_factory=list)
    """Where the copy of its stack begins, and the bytes; then its own stack, where it runs on another one."""
    vector_registers: dict[int, bytes] | None = None
    kernel_frames: tuple[KernelFrame, ...] = ()
    problem: str | None = None
    """What a person must know about it: why there is no stack, or how far it is to be trusted."""


@dataclass
class ProcessSnapshot:
    """What was copied of a process."""

    pid: int
    comm: str
    rows: list[MapRow]
    threads: list[ThreadCopy]
    """Those of the process in the order of their ids, the first one first."""
    memory: CopiedMemory
    time_ns: int
    """When it stood still (CLOCK_MONOTONIC)."""
    living: int
    """A thread by which /proc tells of the process: of a first thread that has ended it tells nothing any more."""
    pause_ns: int
    """From asking the first thread to stop to letting the last one go."""
    missing: list[int] = field(default_factory=list)
    """Threads that were asked for and are not there."""

    @cached_property
    def kernel_addresses(self) -> dict[str, int]:
        """Where the functions of the kernel's frames begin."""
        names = {frame.function for copy in self.threads for frame in copy.kernel_frames}
        return symbol_addresses(names) if names else {}


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """What is copied."""

    tids: frozenset[int] = frozenset()
    """Of which threads; empty for all."""
    values: bool = False
    """Whether memory is copied that values lead to, and vector registers."""
    kernel: bool = False
    """Whether the kernel's frames of blocked threads are read, too."""


def take_snapshot(pid: int, options: SnapshotOptions) -> ProcessSnapshot:
    """Stop process `pid`, copy it and let it go on. Raises CaptureError with the remedy."""
    refuse_what_is_no_process(pid)
    found: list[ProcessSnapshot | BaseException] = []

    def run() -> None:
        try:
            with suppress(OSError):  # root may: the process waits for this thread
                os.setpriority(os.PRIO_PROCESS, 0, _URGENT)
            found.append(_Taker(pid, options).take())
        except BaseException as error:
            found.append(error)

    # The kernel lets go of what a tracer could not, when that thread ends.
    tracer = Thread(target=run, name="tracer")
    tracer.start()
    tracer.join()
    outcome = found[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class _Taker:
    def __init__(self, pid: int, options: SnapshotOptions) -> None:
        self._pid = pid
        self._options = options
        self._memory = CopiedMemory()
        self._living = pid
        self._stays: dict[int, KernelStay] = {}
        if options.values:
            import ptap.snapshot.pointed_memory  # noqa: F401  before the process stands still

    def take(self) -> ProcessSnapshot:
        stop = ThreadStop(self._pid, self._options.tids)
        stop.seize()
        self._living = self._pid if self._pid in stop.threads else min(stop.threads)
        text = self._read_maps()
        rows = parse_memory_map(text)
        names = {tid: _comm(self._pid, tid) for tid in stop.threads}
        if self._options.kernel:
            self._stays = {tid: kernel_stay(self._pid, tid) for tid in stop.threads}
        collects = gc.isenabled()
        gc.disable()
        try:
            stop.stop()
            latest = self._read_maps()
            if latest != text:
                rows = parse_memory_map(latest)
            copies = self._copy_threads(stop.threads.values(), rows)
        finally:
            stop.release()
            end_ns = time.monotonic_ns()
            if collects:
                gc.enable()
        for copy in copies:
            copy.comm = names.get(copy.tid) or _comm(self._pid, copy.tid)
        copies.sort(key=lambda copy: (copy.tid != self._pid, copy.tid))
        return ProcessSnapshot(
            pid=self._pid,
            comm=_comm(self._pid, self._pid),
            rows=rows,
            threads=copies,
            memory=self._memory,
            time_ns=stop.stopped_ns,
            living=self._living,
            pause_ns=end_ns - stop.stopped_ns,
            missing=sorted(self._options.tids - set(stop.threads)),
        )

    def _read_maps(self) -> str:
        """What is mapped. Raises CaptureError."""
        try:
            with open(f"/proc/{self._living}/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as maps:
                return maps.read()
        except OSError as error:
            raise attach_error(self._pid, error) from None

    def _copy_threads(self, threads: Iterable[SeizedThread], rows: list[MapRow]) -> list[ThreadCopy]:
        copies = []
        words: list[int] = []
        stacks: list[tuple[int, memoryview]] = []
        for thread in threads:
            if thread.state is ThreadState.ENDED:
                continue
            if thread.state is ThreadState.RUNNING:
                copies.append(self._copy_unstopped(thread.tid, rows))
                continue
            try:
                registers = read_registers(thread.tid)
            except OSError:
                continue  # killed while it stood still
            copy = ThreadCopy(thread.tid, "", dwarf_order(registers), ALL_KNOWN)
            copies.append(copy)
            stay = self._stays.get(thread.tid)
            if stay is not None and stay.is_where(copy.registers):
                copy.kernel_frames = stay.frames
            if registers[CS] != CS_64:
                copy.registers, copy.known = (), 0
                copy.problem = "32-bit code: stacks are walked on x86-64 only; use gdb"
                continue
            stacks += self._copy_stack(copy, rows, registers[FS_BASE])
            words += copy.registers
            if self._options.values:
                copy.vector_registers = read_vector_registers(thread.tid)
        if self._options.values:
            from ptap.snapshot.pointed_memory import copy_pointed_memory

            copy_pointed_memory(self._living, rows, words, stacks, self._memory)
        return copies

    def _copy_stack(self, copy: ThreadCopy, rows: list[MapRow], thread_block: int) -> list[tuple[int, memoryview]]:
        """Copy the stack in use, and the thread's own where it runs on another one."""
        stack_pointer = copy.registers[RSP_COLUMN]
        extent = stack_extent(rows, stack_pointer, thread_block)
        if not extent[1]:
            return []
        found = copy_memory(self._living, [extent])
        data = found[0][1]
        words = data[: min(len(data), _LOOKED_THROUGH) & ~7].cast("Q")
        home = home_extent(rows, copy.tid == self._pid, thread_block, stack_pointer, words)
        if home[1]:
            # Together they may overlap only when a mapping holds both, which `home_extent` rules out.
            found += copy_memory(self._living, [home])
        self._memory.add(found)
        copy.stacks = found
        return found

    def _copy_unstopped(self, tid: int, rows: list[MapRow]) -> ThreadCopy:
        """What can be told of a thread that the kernel does not let stop: where it went into the kernel."""
        copy = ThreadCopy(tid, "")
        copy.problem = (
            "it did not stop: it sleeps in the kernel and cannot be interrupted"
            if thread_state(self._pid, tid) == "D"
            else "it did not stop in time: the machine is too busy; try again"
        )
        before = blocked_registers(self._pid, tid)
        if before is None:
            return copy
        copy.registers, copy.known = before
        self._copy_stack(copy, rows, 0)
        if blocked_registers(self._pid, tid) != before:
            return ThreadCopy(tid, "", problem=copy.problem)
        stay = self._stays.get(tid)
        if stay is not None and stay.is_where(copy.registers):
            copy.kernel_frames = stay.frames
        copy.problem += "; of its registers only the pc and the stack pointer are known"
        return copy


def _comm(pid: int, tid: int) -> str:
    try:
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().rstrip("\n")
    except OSError:
        return ""
