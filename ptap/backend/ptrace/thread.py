"""Traced threads: their states, and the wait statuses that the kernel reports about them."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ptap.backend.ptrace.address_space import AddressSpace
from ptap.backend.ptrace.return_watch import ReturnWatch
from ptap.backend.ptrace.syscalls import (
    CONT,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_STOP,
    INTERRUPT,
    LISTEN,
    WALL,
    event_message,
    ptrace,
)

SIGTRAP = 5


@dataclass(slots=True)
class Thread:
    """One traced thread."""

    tid: int
    pid: int
    space: AddressSpace
    stopped: bool = False
    """It does nothing until it is resumed (also in a group stop that is listened to)."""
    listening: bool = False
    """It is left in its group stop, and reports when that ends."""
    pending_signal: int = 0
    """It is stopped before the delivery of this signal."""
    exiting: bool = False
    """It is past its last user instruction."""
    in_vfork: bool = False
    """It sleeps in the kernel until its vfork child execs or ends, and cannot be interrupted."""
    regroup: bool = False
    """A single step has taken it through a group stop, which it must enter again."""
    hit: int | None = None
    """It has run the int3 at this address and its pc is yet to be set back."""
    trap_due: bool = False
    """It has been let on to report the int3 that it has run; until then it is not to be interrupted."""
    returns: ReturnWatch = field(default_factory=ReturnWatch)
    comm: str = ""
    named_ns: int = 0
    """When `comm` was last read."""

    def resume(self, signal: int = 0) -> None:
        """Let it run, with `signal` delivered. A thread that has been killed meanwhile reports so by itself."""
        self.stopped = self.listening = False
        with suppress(ProcessLookupError):
            ptrace(CONT, self.tid, 0, signal)

    def listen(self) -> None:
        """Leave it in its group stop, until SIGCONT or another event is reported."""
        self.listening = True
        with suppress(ProcessLookupError):
            ptrace(LISTEN, self.tid)

    def interrupt(self) -> bool:
        """Ask it to stop. False when it is gone."""
        try:
            ptrace(INTERRUPT, self.tid)
        except OSError:
            return False
        return True

    def read_comm(self) -> str:
        """Its name now; the last known one when it is gone."""
        with suppress(OSError):
            data = Path(f"/proc/{self.pid}/task/{self.tid}/comm").read_bytes()
            return data.decode("utf-8", "replace").rstrip("\n")
        return self.comm


def is_plain_stop(status: int) -> bool:
    """Whether a status is the answer to PTRACE_INTERRUPT and nothing else."""
    return status >> 16 == EVENT_STOP and (status >> 8) & 0xFF == SIGTRAP


class ThreadTable:
    """All traced threads, and reports about them that wait for their turn."""

    def __init__(self) -> None:
        self.threads: dict[int, Thread] = {}
        self.reports: deque[tuple[int, int]] = deque()
        """Thread ids and wait statuses that were fetched while something else was waited for."""

    def reporter(self, tid: int, status: int) -> Thread | None:
        """The thread that a report is about, None when it is not known.

        An exec takes over the id of the process's first thread, which is unknown when it had ended before we attached.
        """
        thread = self.threads.get(tid)
        if thread is None and os.WIFSTOPPED(status) and status >> 16 == EVENT_EXEC:
            with suppress(ProcessLookupError):
                thread = self.threads.get(event_message(tid))
        return thread

    def sharing(self, space: AddressSpace) -> list[Thread]:
        """The threads that run in `space`."""
        return [thread for thread in self.threads.values() if thread.space is space]

    def next_report(self) -> tuple[int, int]:
        """The next report in order of arrival; waits for one. Raises ChildProcessError when nobody is left."""
        if self.reports:
            return self.reports.popleft()
        return os.waitpid(-1, WALL)

    def await_stops(self, tids: set[int]) -> dict[int, int]:
        """Wait until each of `tids` has reported; the reports of those, all others go to `reports`.

        A thread on its way out is not held up: another one that execs waits for it in the kernel.
        """
        found: dict[int, int] = {}
        waiting = {tid for tid in tids if tid in self.threads}
        while waiting:
            try:
                tid, status = os.waitpid(-1, WALL)
            except ChildProcessError:
                break
            thread = self.reporter(tid, status)
            if thread is not None and os.WIFSTOPPED(status):
                thread.stopped = True
                if status >> 16 == EVENT_EXIT:
                    thread.exiting = True
                    thread.resume()
                elif status >> 16 == EVENT_EXEC:
                    # The other threads of the process are gone, some of them without a report.
                    waiting -= {t for t in waiting if t != tid and self.threads[t].pid == thread.pid}
            if tid in waiting:
                waiting.discard(tid)
                found[tid] = status
            else:
                self.reports.append((tid, status))
        return found

    def hold_others(self, thread: Thread) -> list[Thread]:
        """Stop all other threads of the same address space; those that are to be resumed afterwards."""
        asked: set[int] = set()
        for other in self.sharing(thread.space):
            if other is thread or other.stopped or other.exiting or other.in_vfork:
                continue
            if other.interrupt():
                asked.add(other.tid)
        held = []
        for tid, status in self.await_stops(asked).items():
            if is_plain_stop(status):
                held.append(self.threads[tid])
            else:
                self.reports.append((tid, status))
        return held
