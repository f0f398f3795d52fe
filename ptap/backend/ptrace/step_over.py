"""Taking a thread over the instruction that a breakpoint covers.

Most first instructions of functions are emulated (instruction.py). For the others the original byte is put back
and the one thread makes a single step, while all others that share the address space are held, so that none runs
past the place unseen.
"""

from __future__ import annotations

import os
import signal

from ptap.backend.ptrace.address_space import Breakpoint
from ptap.backend.ptrace.instruction import emulate
from ptap.backend.ptrace.registers import write_registers
from ptap.backend.ptrace.syscalls import (
    EVENT_STOP,
    SI_KERNEL,
    SINGLESTEP,
    SYSCALL,
    SignalInformation,
    ptrace,
    send_signal,
)
from ptap.backend.ptrace.thread import SIGTRAP, Thread, ThreadTable, is_plain_stop

_SYSTEM_CALLS = (b"\x0f\x05", b"\xcd\x80", b"\x0f\x34")
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


def go_on(table: ThreadTable, thread: Thread, point: Breakpoint, registers: list[int]) -> None:
    """Resume a thread that has hit `point`; `registers` has rip at the breakpoint.

    Raises ProcessLookupError when the thread has been killed meanwhile.
    """
    thread.hit = None
    if emulate(point.code, registers, thread.space):
        write_registers(thread.tid, registers)
        thread.resume()
        return
    write_registers(thread.tid, registers)
    held = table.hold_others(thread)
    space = thread.space
    stepped = None
    deferred: list[SignalInformation] = []
    if table.threads.get(thread.tid) is thread and not thread.exiting:
        stepped = _step(table, thread, point, deferred)
    if stepped is not None:
        _resume_after_step(table, thread, stepped, deferred)
    for other in held:
        if other.stopped and not other.exiting and other.space is space:
            other.resume()


def _step(table: ThreadTable, thread: Thread, point: Breakpoint, deferred: list[SignalInformation]) -> int | None:
    """One step; the status that ended it, None when the thread is gone.

    A signal from elsewhere that arrives first is kept for afterwards: its handler would return to the breakpoint,
    and the hit would count twice.
    """
    request = SYSCALL if point.code[:2] in _SYSTEM_CALLS else SINGLESTEP
    space = thread.space
    space.lift(point.address)
    try:
        while True:
            thread.stopped = False
            ptrace(request, thread.tid)
            status = table.await_stops({thread.tid}).get(thread.tid)
            if status is None:
                return None
            if thread.exiting or not os.WIFSTOPPED(status):
                if not thread.exiting:
                    table.reports.append((thread.tid, status))
                return None
            if status >> 16 == EVENT_STOP:
                # An interruption or a group stop. The step runs through the latter, and asks for it again.
                thread.regroup = thread.regroup or not is_plain_stop(status)
                continue
            if status >> 16:
                return status
            information = SignalInformation(thread.tid)
            if not _from_elsewhere(information):
                return status
            deferred.append(information)
    finally:
        space.reinsert(point.address)


def _from_elsewhere(information: SignalInformation) -> bool:
    """Whether a signal is not the instruction's own: a finished step, a fault, an int3 of the program."""
    return information.code <= 0 or (information.number != SIGTRAP and information.number not in _FAULTS)


def _resume_after_step(table: ThreadTable, thread: Thread, status: int, deferred: list[SignalInformation]) -> None:
    """Let the thread run on from a finished step, with what the step has put off."""
    if status >> 16 or os.WSTOPSIG(status) != SIGTRAP or SignalInformation(thread.tid).code == SI_KERNEL:
        # A system call that makes a thread or execs, a fault, or the program's own int3: an event of its own.
        for information in deferred:
            send_signal(thread.pid, thread.tid, information.number)
        if status >> 16:
            table.reports.append((thread.tid, status))
        else:
            thread.resume(os.WSTOPSIG(status))
    elif deferred:
        first, *others = deferred
        for information in others:
            send_signal(thread.pid, thread.tid, information.number)
        first.restore(thread.tid)
        thread.resume(first.number)
    else:
        thread.resume()
    if thread.regroup:
        thread.regroup = False
        thread.interrupt()
