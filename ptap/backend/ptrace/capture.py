"""The ptrace capture: the loop that turns wait statuses of traced threads into capture events.

Data comes from waitpid(2), registers and /proc/PID/mem of the stopped thread; it goes as events to the trace
command, which walks the stack while the thread stands still. Asking for the next event lets it run on. ptrace
knows one tracer thread: `start`, `events` and `close` must be called in the same one.

While a capture is under way, it reaps all children of this process (waitpid(-1)): start none of your own that are
still running when the next event is asked for.

A limit that all breakpoints share: when a thread hits one while it blocks or ignores SIGTRAP, the kernel resets
the program's SIGTRAP handler (force_sig_info_to_task, kernel/signal.c).
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from ptap.backend.live_capture import CaptureError, CaptureLimits, ProbePlace, Target
from ptap.backend.ptrace.address_space import AddressSpace, Breakpoint
from ptap.backend.ptrace.creation import creation_flags
from ptap.backend.ptrace.detach import await_stragglers, detach_all
from ptap.backend.ptrace.launch import attach, launch
from ptap.backend.ptrace.library_mapping import refresh
from ptap.backend.ptrace.place_table import PlaceTable
from ptap.backend.ptrace.refusal import attach_error, process_status
from ptap.backend.ptrace.registers import (
    ALL_KNOWN,
    RIP,
    RSP,
    dwarf_order,
    read_registers,
    read_vector_registers,
    write_pc,
)
from ptap.backend.ptrace.step_over import go_on
from ptap.backend.ptrace.syscalls import (
    EVENT_CLONE,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_STOP,
    EVENT_VFORK,
    EVENT_VFORK_DONE,
    SI_KERNEL,
    WALL,
    SignalInformation,
    event_message,
)
from ptap.backend.ptrace.thread import SIGTRAP, Thread, ThreadTable, is_plain_stop
from relay_reader.capture import (
    Event,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    Sample,
    StackSlice,
    ThreadExited,
    ThreadNamed,
)

_FIRST_READ = 2048
"""Bytes of stack that a sample carries; the walk reads the rest as it needs it."""
_NAME_AGE_NS = 100_000_000
"""A thread's name is read again at a hit when it is older than this."""
_CREATIONS = (EVENT_FORK, EVENT_VFORK, EVENT_CLONE)


class PtraceCapture:
    """A LiveCapture by ptrace (ptap/backend/live_capture.py)."""

    name = "ptrace"

    def __init__(self, target: Target, places: Sequence[ProbePlace], limits: CaptureLimits) -> None:
        """Raises CaptureError when a place's file cannot be looked at."""
        self.child_pid: int | None = None
        self.exit_status: int | None = None
        self.unwatched_returns = 0
        """Calls whose return could not be watched, because no breakpoint could be written where they return."""
        self._target = target
        self._places = PlaceTable(places)
        self._first_read = min(_FIRST_READ, limits.user_stack) or _FIRST_READ
        self._table = ThreadTable()
        self._early: dict[int, int] = {}
        """First stops of threads whose creation has not been reported yet."""
        self._events: deque[Event] = deque()
        self._stopping = False
        self._detached = False

    # --- the LiveCapture protocol

    def start(self) -> None:
        """Arm the places and let the target run. Raises CaptureError with the remedy."""
        try:
            for pid in self._target.pids:
                self._attach(pid)
            if self._target.command:
                pid, status = launch(self._target.command)
                self.child_pid = pid
                self._table.threads[pid] = Thread(pid, pid, AddressSpace.of_process(pid), stopped=True)
                self._dispatch(pid, status)
        except BaseException:
            self.close()
            raise

    def events(self) -> Iterator[Event]:
        """Events in time order; see LiveCapture. A sample's thread stands still until the next event is asked for."""
        pending = self._events
        table = self._table
        while True:
            while pending:
                yield pending.popleft()
            if self._stopping or not table.threads:
                break
            try:
                tid, status = table.next_report()
            except ChildProcessError:
                break
            found = self._dispatch(tid, status)
            if found is None:
                continue
            thread, point, registers, sample = found
            while pending:
                yield pending.popleft()
            yield sample
            if not self._stopping and thread.hit is not None:
                self._go_on(thread, point, registers)
        self._detach()

    def stop(self) -> None:
        """End the capture soon; safe in a signal handler and from another thread."""
        if self._stopping:
            return
        self._stopping = True
        # The tracer may sleep in waitpid, which Python resumes after a signal's handler: a child that ends wakes it,
        # without a race and whichever thread we are.
        with warnings.catch_warnings(), suppress(OSError):
            warnings.simplefilter("ignore", DeprecationWarning)
            if os.fork() == 0:
                os._exit(0)

    def close(self) -> None:
        """Take every breakpoint out and let the target go on. Never raises; may be called twice."""
        with suppress(OSError):
            self._detach()

    def wait_for_command(self) -> int | None:
        """Wait for the end of the command after `stop` and `close`; its wait status, None without a command."""
        if self.child_pid is not None and self.exit_status is None:
            await_stragglers(self._table, self._structural, self.child_pid)
        if self.child_pid is not None and self.exit_status is None:
            with suppress(ChildProcessError):
                self.exit_status = os.waitpid(self.child_pid, WALL)[1]
        return self.exit_status

    def shortcomings(self) -> list[str]:
        """What this capture could not do, each as a line for the user; to be asked after `close`."""
        lines = [
            f"{path}+{offset:#x}: a breakpoint of somebody else was already there. A uprobe (perf, bpftrace, another "
            "ptap) takes the hits from ptrace; end that one and trace again"
            for path, offset in sorted(self._places.taken)
        ]
        if self.unwatched_returns:
            lines.append(
                f"{self.unwatched_returns} calls whose return could not be watched: "
                "no breakpoint of ours can be where they return to"
            )
        return lines

    # --- beginning and end

    def _attach(self, pid: int) -> None:
        tids = attach(pid)
        try:
            space = AddressSpace.of_process(tids[0])
        except OSError as error:
            raise attach_error(pid, error) from None
        for tid in tids:
            thread = self._table.threads[tid] = Thread(tid, pid, space)
            self._tell_name(thread)
        self._refresh(self._table.threads[tids[0]])
        if not space.rows:
            raise CaptureError(f"process {pid} ended while it was attached to")

    def _detach(self) -> None:
        if not self._detached:
            detach_all(self._table, self._structural)
            self._detached = True

    def _structural(self, tid: int, status: int) -> bool:
        """Keep the tables right while everything is being stopped; True when there is nothing left to do."""
        thread = self._table.reporter(tid, status)
        if thread is None or not os.WIFSTOPPED(status):
            self._dispatch(tid, status)
            return True
        event = status >> 16
        if event == 0 or event == EVENT_STOP:
            return False
        thread.stopped = True
        with suppress(OSError):
            if event in _CREATIONS:
                self._created(thread, event)
            elif event == EVENT_EXEC:
                self._execed(thread)
            elif event == EVENT_EXIT:
                self._exiting(thread)
            elif event == EVENT_VFORK_DONE:
                thread.in_vfork = False
        return True

    # --- reports

    def _dispatch(self, tid: int, status: int) -> tuple[Thread, Breakpoint, list[int], Sample] | None:
        thread = self._table.reporter(tid, status)
        if not os.WIFSTOPPED(status):
            self._ended(tid, thread, status)
            return None
        if thread is None:
            self._early[tid] = status
            return None
        thread.stopped = True
        try:
            event = status >> 16
            if event == 0:
                number = os.WSTOPSIG(status)
                if number == SIGTRAP:
                    return self._trapped(thread)
                thread.resume(number)
            elif event == EVENT_STOP:
                if is_plain_stop(status):
                    thread.resume()
                else:
                    thread.listen()
            elif event == EVENT_EXIT:
                self._exiting(thread)
            else:
                if event in _CREATIONS:
                    self._created(thread, event)
                elif event == EVENT_EXEC:
                    thread = self._execed(thread)
                elif event == EVENT_VFORK_DONE:
                    thread.in_vfork = False
                thread.resume()
        except (ProcessLookupError, FileNotFoundError):
            pass  # killed while it was stopped; its end is reported next
        return None

    def _trapped(self, thread: Thread) -> tuple[Thread, Breakpoint, list[int], Sample] | None:
        space = thread.space
        if SignalInformation(thread.tid).code != SI_KERNEL:
            thread.resume(SIGTRAP)
            return None
        registers = read_registers(thread.tid)
        address = registers[RIP] - 1
        point = space.breakpoints.get(address)
        if point is None:
            if space.trap_is_stale(address):
                write_pc(thread.tid, address)
                thread.resume()
            else:
                thread.resume(SIGTRAP)
            return None
        thread.hit = address
        registers[RIP] = address
        return self._hit(thread, point, registers)

    def _hit(
        self, thread: Thread, point: Breakpoint, registers: list[int]
    ) -> tuple[Thread, Breakpoint, list[int], Sample] | None:
        now = time.monotonic_ns()
        space, tid, stack_pointer = thread.space, thread.tid, registers[RSP]
        if point.loader:
            self._refresh(thread)
        places = point.entry_places
        if point.awaited:
            places += thread.returns.arrive(tid, space, point.address, stack_pointer)
        elif not point.permanent:
            space.remove(point.address)
            write_pc(tid, point.address)
            thread.hit = None
            thread.resume()
            return None
        stack = space.read_raw(stack_pointer, self._first_read)
        if point.return_places:
            return_address = int.from_bytes(stack[:8], "little")
            if len(stack) < 8 or not thread.returns.enter(
                tid, space, stack_pointer, return_address, point.return_places
            ):
                self.unwatched_returns += 1
        if not places:
            self._go_on(thread, point, registers)
            return None
        if now - thread.named_ns > _NAME_AGE_NS:
            self._tell_name(thread)
        sample = Sample(
            time_ns=now,
            cpu=-1,
            pid=thread.pid,
            tid=tid,
            places=places,
            registers=dwarf_order(registers),
            known=ALL_KNOWN,
            slices=[StackSlice(stack_pointer, stack)] if stack else [],
            read_memory=space.read,
            read_vector_registers=partial(read_vector_registers, tid),
        )
        return thread, point, registers, sample

    def _go_on(self, thread: Thread, point: Breakpoint, registers: list[int]) -> None:
        with suppress(ProcessLookupError):
            go_on(self._table, thread, point, registers)

    # --- threads and processes that come and go

    def _created(self, parent: Thread, event: int) -> None:
        tid = event_message(parent.tid)
        flags = creation_flags(parent.tid, event, parent.space.read)
        parent.in_vfork = event == EVENT_VFORK
        pid = parent.pid if flags.thread else tid
        if flags.shares_memory:
            space = parent.space
        else:
            space = parent.space.copied_by(tid)
        child = self._table.threads[tid] = Thread(tid, pid, space, comm=parent.comm)
        if not flags.thread:
            parent.returns.copy_to(child.returns, space)
        self._events.append(ProcessForked(time.monotonic_ns(), pid, parent.pid, tid, parent.tid))
        self._claim_early(child)

    def _claim_early(self, child: Thread) -> None:
        """Its first stop may have been fetched before it was known: then no other stop is to be waited for."""
        if child.tid in self._early:
            self._table.reports.append((child.tid, self._early.pop(child.tid)))
        child.stopped = any(tid == child.tid for tid, _ in self._table.reports)

    def _execed(self, thread: Thread) -> Thread:
        pid = thread.pid
        former_tid = event_message(pid)
        table = self._table.threads
        execing = table.get(former_tid, thread)
        for other in [t for t in table.values() if t.pid == pid]:
            other.returns.clear(other.space)
            del table[other.tid]
            if other is not execing and other.tid != pid:
                self._events.append(ThreadExited(time.monotonic_ns(), pid, other.tid))
        if execing.tid != pid:
            self._events.append(ThreadExited(time.monotonic_ns(), pid, execing.tid))
        self._release(execing.space)
        new = table[pid] = Thread(pid, pid, AddressSpace.of_process(pid), stopped=True)
        new.comm = new.read_comm()
        new.named_ns = time.monotonic_ns()
        self._events.append(ProcessExeced(new.named_ns, pid, new.comm))
        self._refresh(new)
        return new

    def _exiting(self, thread: Thread) -> None:
        if not thread.exiting:
            thread.exiting = True
            thread.resume()

    def _ended(self, tid: int, thread: Thread | None, status: int) -> None:
        self._early.pop(tid, None)
        if tid == self.child_pid:
            self.exit_status = status
        if thread is None:
            return
        del self._table.threads[tid]
        thread.returns.clear(thread.space)
        self._events.append(ThreadExited(time.monotonic_ns(), thread.pid, tid))
        self._adopt_orphans(thread)
        self._release(thread.space)

    def _adopt_orphans(self, ended: Thread) -> None:
        """Children whose maker was killed before it could report them: they bear its breakpoints."""
        pids = {thread.pid for thread in self._table.threads.values()}
        for tid in list(self._early):
            status = process_status(tid)
            if int(status.get("Tgid", 0)) in pids or int(status.get("PPid", 0)) in pids:
                continue  # its maker lives and will report it
            with suppress(OSError):
                space = ended.space.copied_by(tid)
                child = self._table.threads[tid] = Thread(tid, tid, space, comm=ended.comm)
                self._events.append(ProcessForked(time.monotonic_ns(), tid, ended.pid, tid, ended.tid))
                self._claim_early(child)

    def _release(self, space: AddressSpace) -> None:
        if not self._table.sharing(space):
            space.release()

    # --- what is told of them

    def _refresh(self, thread: Thread) -> None:
        try:
            added = refresh(thread.tid, thread.space, self._places)
        except OSError:
            return
        now = time.monotonic_ns()
        for pid in sorted({sharer.pid for sharer in self._table.sharing(thread.space)}):
            self._events.extend(MappingAdded(now, pid, mapping) for mapping in added)

    def _tell_name(self, thread: Thread) -> None:
        thread.named_ns = time.monotonic_ns()
        comm = thread.read_comm()
        if comm != thread.comm:
            thread.comm = comm
            self._events.append(ThreadNamed(thread.named_ns, thread.pid, thread.tid, comm))
