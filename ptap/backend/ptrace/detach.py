"""Letting go of every traced thread without a trace: no breakpoint stays, no pc behind one, no signal is lost.

The order matters: stop all threads; set back those that have run an int3; take the breakpoints out; detach.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from ptap.backend.ptrace.address_space import AddressSpace
from ptap.backend.ptrace.refusal import process_status
from ptap.backend.ptrace.registers import RIP, read_registers, write_pc
from ptap.backend.ptrace.syscalls import (
    CONT,
    DETACH,
    EVENT_STOP,
    SI_KERNEL,
    WALL,
    SignalInformation,
    ptrace,
)
from ptap.backend.ptrace.thread import SIGTRAP, Thread, ThreadTable, is_plain_stop

_PATIENCE_SECONDS = 3.0
"""How long to wait for threads that the kernel does not let stop (vfork parents, uninterruptible sleep)."""


def detach_all(table: ThreadTable, structural: Callable[[int, int], bool]) -> None:
    """Detach from every thread. `structural(tid, status)` is told each report first, and says whether it has dealt
    with it: ends of threads, new threads and processes, exec; it leaves a thread that is still there stopped.
    """
    for thread in table.threads.values():
        if thread.listening or not (thread.stopped or thread.exiting):
            thread.stopped = thread.listening = False
            thread.interrupt()
    _await_all(table, structural, lambda thread: not thread.in_vfork)
    spaces = {id(thread.space): thread.space for thread in table.threads.values()}
    for space in spaces.values():
        _disarm(space)
    for thread in list(table.threads.values()):
        _let_go(table, thread)
    if table.threads:
        # Parents of a vfork come to a stop once their children, which now run freely, exec or end.
        _await_all(table, structural, lambda thread: True)
        for thread in list(table.threads.values()):
            _let_go(table, thread)
    for space in spaces.values():
        space.release()


def _await_all(table: ThreadTable, structural: Callable[[int, int], bool], wanted: Callable[[Thread], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    nap = 0.0001
    while any(wanted(t) and not (t.stopped or t.exiting) for t in table.threads.values()) or table.reports:
        if table.reports:
            tid, status = table.reports.popleft()
        else:
            try:
                tid, status = os.waitpid(-1, WALL | os.WNOHANG)
            except ChildProcessError:
                break
            if tid == 0:
                if time.monotonic() > deadline:
                    break
                time.sleep(nap)
                nap = min(nap * 2, 0.01)
                continue
        if not structural(tid, status):
            _note_stop(table.threads[tid], status)
        for thread in table.threads.values():
            # Also those that have only now come to be known.
            if not (thread.stopped or thread.exiting):
                thread.interrupt()


def _note_stop(thread: Thread, status: int) -> None:
    """Remember what a stopped thread needs before it is let go."""
    thread.stopped = True
    with suppress(ProcessLookupError):
        if status >> 16 == EVENT_STOP:
            if is_plain_stop(status) and _trap_pending(thread):
                # Its SIGTRAP is not delivered yet: it is reported at once when the thread goes on.
                thread.stopped = False
                ptrace(CONT, thread.tid)
        elif status >> 16 == 0:
            number = os.WSTOPSIG(status)
            address = read_registers(thread.tid)[RIP] - 1 if number == SIGTRAP else 0
            if number == SIGTRAP and SignalInformation(thread.tid).code == SI_KERNEL and _ours(thread, address):
                thread.hit = address
            else:
                thread.pending_signal = number


def _trap_pending(thread: Thread) -> bool:
    if not _ours(thread, read_registers(thread.tid)[RIP] - 1):
        return False
    pending = process_status(thread.tid).get("SigPnd", "0")
    return bool(int(pending, 16) >> (SIGTRAP - 1) & 1)


def _ours(thread: Thread, address: int) -> bool:
    return address in thread.space.breakpoints or thread.space.trap_is_stale(address)


def _disarm(space: AddressSpace) -> None:
    for address in list(space.breakpoints):
        space.remove(address)


def _let_go(table: ThreadTable, thread: Thread) -> None:
    if not (thread.stopped or thread.exiting):
        return
    with suppress(OSError):
        if thread.hit is not None:
            write_pc(thread.tid, thread.hit)
        ptrace(DETACH, thread.tid, 0, thread.pending_signal)
    del table.threads[thread.tid]
