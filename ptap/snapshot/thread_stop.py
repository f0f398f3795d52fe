"""Stopping the threads of a process for a moment by ptrace(2), and letting each go on as it was.

PTRACE_SEIZE does not stop a thread, PTRACE_INTERRUPT does without a signal that the program could see. A thread that
job control has stopped stays so, a signal that comes meanwhile is delivered afterwards. ptrace knows one tracer
thread: everything here is done in one, and when that ends the kernel lets go of whatever could not be let go
(exit_ptrace, kernel/ptrace.c), which is why a snapshot runs in a thread of its own.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from ptap.backend.live_capture import CaptureError
from ptap.backend.ptrace.refusal import attach_error, process_status
from ptap.backend.ptrace.syscalls import DETACH, INTERRUPT, SEIZE, WALL, ptrace

_PATIENCE_SECONDS = 2.0
"""How long a thread that runs is waited for: on a busy machine it must come to a processor first."""
_SHORT_PATIENCE_SECONDS = 0.05
"""How long one is waited for that sleeps uninterruptibly, while the others stand still."""
_SPIN_SECONDS = 0.0001
"""No longer: what is waited for may need this processor."""
_NAP_SECONDS = 0.00005
_EVENT_SHIFT = 16


class ThreadState(Enum):
    """How far the stop of a thread has come."""

    RUNNING = auto()
    """It is traced, and has not stopped (yet)."""
    STOPPED = auto()
    ENDED = auto()
    """It ended before it could be stopped."""


@dataclass(slots=True)
class SeizedThread:
    """One thread that is traced."""

    tid: int
    state: ThreadState = ThreadState.RUNNING
    pending_signal: int = 0
    """It is stopped before the delivery of this signal."""


class ThreadStop:
    """Stops the threads of process `pid`: all of them, or those of `wanted`."""

    def __init__(self, pid: int, wanted: frozenset[int] = frozenset()) -> None:
        self.pid = pid
        self.threads: dict[int, SeizedThread] = {}
        self._wanted = wanted
        self._looked_at: set[int] = set()
        """Threads that cannot be traced because they have ended count, too."""
        self.stopped_ns = 0
        """When the first thread was asked to stop (CLOCK_MONOTONIC), 0 before."""

    def seize(self) -> None:
        """Trace the threads; none is stopped. Raises CaptureError with the remedy."""
        while self._seize_new():
            pass
        if not self.threads and self._wanted and self._list_threads():
            listed = ", ".join(map(str, sorted(self._wanted)))
            raise CaptureError(
                f"process {self.pid} has no thread {listed}: `ls /proc/{self.pid}/task` lists those that it has"
            )
        if not self.threads:
            raise attach_error(self.pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))

    def stop(self) -> None:
        """Stop the threads, those too that come meanwhile; who sleeps uninterruptibly stays RUNNING."""
        self.stopped_ns = time.monotonic_ns()
        fresh = list(self.threads.values())
        while fresh:
            for thread in fresh:
                _interrupt(thread)
            self._await_stops(fresh)
            # Threads that are stopped make no others, so that what is not known now will not come.
            fresh = self._seize_new()

    def release(self) -> None:
        """Let every stopped thread go on. Those that are still RUNNING are let go when the tracer thread ends."""
        for thread in self.threads.values():
            if thread.state is not ThreadState.STOPPED:
                continue
            try:
                ptrace(DETACH, thread.tid, 0, thread.pending_signal)
            except OSError:
                # Killed while it was stopped: its parent does not see its end before we have.
                thread.state = ThreadState.RUNNING
                self._await_stops([thread], _SHORT_PATIENCE_SECONDS)

    def _seize_new(self) -> list[SeizedThread]:
        """Trace the threads that are not looked at yet; those that could be. Raises CaptureError."""
        fresh = []
        for tid in self._list_threads():
            if tid in self._looked_at or (self._wanted and tid not in self._wanted):
                continue
            self._looked_at.add(tid)
            try:
                ptrace(SEIZE, tid, 0, 0)
            except OSError as error:
                if error.errno != errno.ESRCH and not _has_ended(self.pid, tid):
                    raise attach_error(self.pid, error) from None
                if tid == self.pid and len(self._list_threads()) <= 1:
                    raise attach_error(self.pid, error) from None
                continue
            thread = self.threads[tid] = SeizedThread(tid)
            fresh.append(thread)
        return fresh

    def _list_threads(self) -> list[int]:
        try:
            return sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/task"))
        except OSError:
            return []

    def _await_stops(self, threads: list[SeizedThread], patience: float = _PATIENCE_SECONDS) -> None:
        """Wait until each of `threads` has stopped or ended, as long as that may take."""
        waiting = [thread for thread in threads if thread.state is ThreadState.RUNNING]
        begin = time.monotonic()
        looked_asleep = False
        while True:
            waiting = [thread for thread in waiting if not _has_reported(thread)]
            if not waiting:
                return
            spent = time.monotonic() - begin
            if spent > patience:
                return
            if spent > _SHORT_PATIENCE_SECONDS and not looked_asleep:
                looked_asleep = True
                waiting = [thread for thread in waiting if not sleeps_uninterruptibly(self.pid, thread.tid)]
            if spent < _SPIN_SECONDS:
                os.sched_yield()
            else:
                time.sleep(_NAP_SECONDS)


def refuse_what_is_no_process(pid: int) -> None:
    """Raises CaptureError for a number that is a thread's, a kernel thread's, or nobody's."""
    status = process_status(pid)
    if not status:
        raise attach_error(pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))
    own = int(status.get("Tgid", pid))
    if own != pid:
        raise CaptureError(f"{pid} is a thread of process {own}; give the process and the thread: {own} -t {pid}")


def sleeps_uninterruptibly(pid: int, tid: int) -> bool:
    """Whether a thread waits in the kernel for what nothing but its end can interrupt (state D of proc(5))."""
    return thread_state(pid, tid) == "D"


def thread_state(pid: int, tid: int) -> str:
    """The letter of proc(5) for what a thread does, "" when it is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _has_ended(pid: int, tid: int) -> bool:
    return thread_state(pid, tid) in ("", "Z", "X")


def _interrupt(thread: SeizedThread) -> None:
    with suppress(OSError):  # it has ended, which its report tells
        ptrace(INTERRUPT, thread.tid)


def _has_reported(thread: SeizedThread) -> bool:
    """Take the report of a thread, if there is one: it has stopped, or it has ended."""
    try:
        found, status = os.waitpid(thread.tid, WALL | os.WNOHANG)
    except ChildProcessError:
        thread.state = ThreadState.ENDED
        return True
    if not found:
        return False
    if not os.WIFSTOPPED(status):
        thread.state = ThreadState.ENDED
        return True
    thread.state = ThreadState.STOPPED
    if status >> _EVENT_SHIFT == 0:
        thread.pending_signal = os.WSTOPSIG(status)
    return True
