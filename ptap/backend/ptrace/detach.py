"""Letting go of every traced thread without a trace: no breakpoint stays, no pc behind one, no signal is lost.

The order matters: stop all threads; set back those that have run an int3; take the breakpoints out; detach.

Two kinds of thread cannot be stopped, and so not be detached either: parents of a vfork, and threads on their way
out. The latter are to be reaped: as long as a tracer has not fetched the end of a thread, the thread's own parent
waits for it in vain (wait_task_zombie, kernel/exit.c).
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
from ptap.backend.ptrace.thread import SIGTRAP, Thread, ThreadTable

_PATIENCE_SECONDS = 3.0
"""How long to wait for threads that the kernel does not let stop (vfork parents, exits, uninterruptible sleep)."""
_SHORT_PATIENCE_SECONDS = 0.1
"""The same, when all that is left are first threads whose process may go on for long without them."""
_LONGEST_NAP = 0.01

Structural = Callable[[int, int], bool]
"""`structural(tid, status)` is told each report first, and says whether it has dealt with it: ends of threads, new
threads and processes, exec; it leaves a thread that is still there stopped."""


def detach_all(table: ThreadTable, structural: Structural) -> None:
    """Detach from every thread. Those that neither stop nor end in time stay in `table`, for `await_stragglers`."""
    for thread in table.threads.values():
        if thread.listening or not (thread.stopped or thread.exiting):
            thread.stopped = thread.listening = False
            thread.interrupt()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    nap = _Nap()
    while table.reports or any(not (t.stopped or t.exiting or t.in_vfork) for t in table.threads.values()):
        if not _take_next(table, structural, nap) and time.monotonic() > deadline:
            break
    _let_go_of_stopped(table)
    short_deadline = time.monotonic() + _SHORT_PATIENCE_SECONDS
    while table.threads:
        # Parents of a vfork come to a stop once their children, which now run freely, exec or end.
        if _take_next(table, structural, nap):
            _let_go_of_stopped(table)
        elif time.monotonic() > (short_deadline if _all_outlived(table) else deadline):
            break


def await_stragglers(table: ThreadTable, structural: Structural, pid: int) -> None:
    """Let go of the threads that `detach_all` has left in `table`, until there are none or child `pid` has ended.

    Looks at those and `pid` only: other children of this process are not reaped.
    """
    nap = _Nap()
    ended = False
    while table.threads and not ended:
        found = False
        # An exec reports under the id of the first thread.
        for tid in {pid, *table.threads, *(thread.pid for thread in table.threads.values())}:
            try:
                reported, status = os.waitpid(tid, WALL | os.WNOHANG)
            except ChildProcessError:
                table.threads.pop(tid, None)
                ended = ended or tid == pid
                continue
            if reported:
                found = True
                ended = ended or (tid == pid and not os.WIFSTOPPED(status))
                table.reports.append((tid, status))
                _take_all(table, structural)
                _let_go_of_stopped(table)
        if not found:
            nap.take()


class _Nap:
    """Pauses between looks for reports, which grow."""

    def __init__(self) -> None:
        self._seconds = 0.0001

    def take(self) -> None:
        time.sleep(self._seconds)
        self._seconds = min(self._seconds * 2, _LONGEST_NAP)


def _take_next(table: ThreadTable, structural: Structural, nap: _Nap) -> bool:
    """Deal with all reports that wait, or one that comes; False after a nap when there was none."""
    if not table.reports:
        try:
            tid, status = os.waitpid(-1, WALL | os.WNOHANG)
        except ChildProcessError:
            # Nobody is left, whatever the table says.
            for thread in table.threads.values():
                thread.space.release()
            table.threads.clear()
            return True
        if tid == 0:
            nap.take()
            return False
        table.reports.append((tid, status))
    _take_all(table, structural)
    return True


def _take_all(table: ThreadTable, structural: Structural) -> None:
    """Deal with the reports that wait; none is left, so that no thread is let go with one unread."""
    while table.reports:
        tid, status = table.reports.popleft()
        if not structural(tid, status):
            _note_stop(table.threads[tid], status)
        for thread in table.threads.values():
            # Also those that have only now come to be known.
            if not (thread.stopped or thread.exiting or thread.trap_due):
                thread.interrupt()


def _all_outlived(table: ThreadTable) -> bool:
    """Whether all that is left are first threads that have ended, which the kernel reports after the others only."""
    for thread in table.threads.values():
        if not thread.exiting or thread.tid != thread.pid:
            return False
        with suppress(OSError):
            if len(os.listdir(f"/proc/{thread.pid}/task")) == 1:
                return False
    return True


def _note_stop(thread: Thread, status: int) -> None:
    """Remember what a stopped thread needs before it is let go."""
    thread.stopped = True
    with suppress(ProcessLookupError):
        if status >> 16 == EVENT_STOP:
            if _trap_pending(thread):
                # Its SIGTRAP is not delivered yet: it is reported at once when the thread goes on, as long as
                # nobody interrupts it again. A group stop is taken up again by the kernel at the detach.
                thread.stopped = False
                thread.trap_due = True
                ptrace(CONT, thread.tid)
        elif status >> 16 == 0:
            thread.trap_due = False
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


def _let_go_of_stopped(table: ThreadTable) -> None:
    """Detach from all threads that are stopped, with all breakpoints out."""
    spaces = {id(thread.space): thread.space for thread in table.threads.values()}
    for space in spaces.values():
        _disarm(space)
    for thread in [thread for thread in table.threads.values() if thread.stopped]:
        try:
            if thread.hit is not None:
                write_pc(thread.tid, thread.hit)
            ptrace(DETACH, thread.tid, 0, thread.pending_signal)
        except OSError:
            # Killed while it was stopped: its end is still ours to reap.
            thread.stopped, thread.exiting = False, True
            continue
        del table.threads[thread.tid]
    for space in spaces.values():
        if not table.sharing(space):
            space.release()
