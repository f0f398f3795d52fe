"""The perf events back end: `PerfCapture`, a LiveCapture.

Opens the planned events on every thread of the target and every CPU, drains the rings through `RingReader`,
decodes their records, puts the return addresses back that uprobe trampolines hide, and yields events in time
order. Events are inherited by threads and children, so all that the target starts is followed.
"""

from __future__ import annotations

import atexit
import errno
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ptap.backend.live_capture import CaptureError, CaptureLimits, Postponement, ProbePlace, Target
from ptap.backend.perf_events import event_attr
from ptap.backend.perf_events.command_start import HeldCommand
from ptap.backend.perf_events.event_plan import (
    PAGE_OFFSET,
    PlannedEvent,
    Role,
    clamp_user_stack,
    extra_events,
    place_events,
    side_band_event,
)
from ptap.backend.perf_events.extra_event import ExtraEvent, KernelProbeEvent, OffCpuEvent, SamplingEvent
from ptap.backend.perf_events.kprobe_events import KprobeEvents
from ptap.backend.perf_events.off_cpu import RECORD_SWITCH, RECORD_SWITCH_CPU_WIDE, OffCpuTimes, SwitchTracepoint
from ptap.backend.perf_events.probe_definitions import remove_stale_events
from ptap.backend.perf_events.process_state import present_state, running_processes, sleeping_threads, thread_ids
from ptap.backend.perf_events.record_spool import RecordSpool
from ptap.backend.perf_events.ring_buffer import RingBuffer, TimedRecord, frequency_refusal, perf_refusal, ring_size
from ptap.backend.perf_events.ring_reader import RecordRing, RingReader
from ptap.backend.perf_events.tracefs import TraceFilesystem
from ptap.backend.perf_events.uprobe_events import UprobeEvents
from relay_reader.capture import Event, MappingAdded, ProcessForked, RecordsLost, Sample
from relay_reader.perf_record import RECORD_SAMPLE, EventLayout, RecordDecoder
from relay_reader.return_trampoline import ReturnTrampolines

_KIND_AND_IDENTIFIER = struct.Struct("<I4xQ")
_RSP = 7
_RIP = 16
_ENOTSUPP = 524
_EVERY_THREAD = -1
_PAUSE_MS = 100
"""Where nobody waits for the events: each look at the rings costs some tenth of a millisecond."""
# The drain thread must get its turn while the consumer computes; Python's 5 ms would fill a ring.
_SWITCH_INTERVAL_S = 0.0002


class PerfCapture:
    """Hits of `places`, and of `extra` events, in a command, in running processes or everywhere, through perf events.

    `Sample.places` has the indices of all places at that address and kind; the k-th extra event's samples
    have (len(places) + k,). A hit's stack is copied up to `limits.user_stack` bytes, at most 65,528. Kernel
    addresses come with the extra events only: at a uprobe the kernel part of the stack is the probe's machinery.

    After `stop` the command goes on without us, and `exit_status` may stay None: wait for `child_pid` then.
    """

    name = "perf"

    def __init__(
        self,
        target: Target,
        places: Sequence[ProbePlace],
        limits: CaptureLimits,
        extra: Sequence[ExtraEvent] = (),
    ) -> None:
        if bool(target.command or target.everything) == bool(target.pids):
            raise CaptureError("nothing to trace: give a command or the pids of running processes, not both")
        self.child_pid: int | None = None
        self.exit_status: int | None = None
        self.refused: dict[str, str] = {}
        """Places that the kernel would not probe (path+offset), and why; the others are armed."""
        self.left_defined: list[str] = []
        """Probe events that could not be removed by `close`; the next capture tries again."""
        self._target = target
        self._places = tuple(places)
        self._extra = tuple(extra)
        self._user_stack = clamp_user_stack(limits.user_stack)
        self._waiting_hits = limits.waiting_hits
        self._postponement = limits.postponement
        self._spool = RecordSpool() if limits.postponement is not None else None
        self._tracefs: TraceFilesystem | None = None
        self._probes: UprobeEvents | None = None
        self._kernel_probes: KprobeEvents | None = None
        self._command: HeldCommand | None = None
        self._rings: list[RingBuffer] = []
        self._fds: list[int] = []
        self._keeper_fds: list[int] = []
        self._alive_fds: list[int] = []
        self._side_band_fds: list[int] = []
        self._layouts: dict[int, EventLayout] = {}
        self._opened: dict[int, tuple[PlannedEvent, int]] = {}
        # Which directly opened thread's events count for a thread; see _open_threads.
        self._root_of: dict[int, int] = {}
        self._initial: list[Event] = []
        self._reader: RingReader | None = None
        self._decoder: RecordDecoder | None = None
        self._trampolines = ReturnTrampolines()
        waits = {
            event.wait: number for number, event in enumerate(extra, len(places)) if isinstance(event, OffCpuEvent)
        }
        self._off_cpu = OffCpuTimes(waits) if waits else None
        self._switches: SwitchTracepoint | None = None
        self._ended_ns = 0
        self._untold = 0
        self._stop_asked = False
        self._closed = False
        self._switch_interval = sys.getswitchinterval()

    @property
    def trampolines(self) -> ReturnTrampolines:
        """Counts of the return addresses that were put back, and of those that are not known."""
        return self._trampolines

    def start(self) -> None:
        """Arm the places and let the target run. Raises CaptureError with the remedy."""
        atexit.register(self.close)
        try:
            self._start()
        except OSError as error:
            self.close()
            raise CaptureError(perf_refusal(error)) from error
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        if self._target.command:
            # Forked before anything else, so that neither our limits nor our descriptors reach the program.
            self._command = HeldCommand(self._target.command)
            self.child_pid = self._command.pid
        self._prepare()
        _raise_descriptor_limit()
        planned = self._plan()
        cpus = _online_cpus()
        size = ring_size(len(cpus), self._user_stack, self._waiting_hits)
        self._rings = [RingBuffer(cpu, size) for cpu in cpus]
        if self._target.everything:
            self._open_on(_EVERY_THREAD, planned)
        else:
            self._open_threads(planned)
        self._decoder = RecordDecoder(self._layouts)
        # Those first: what perf tells of a process was written before the process did what they tell.
        rings = [*self._more_rings(), *self._rings]
        self._reader = RingReader(
            *(rings, self._layouts, self._alive_fds, self._disarm),
            ended=self._command_ended() if self._target.everything else None,
            pause_ms=_PAUSE_MS if self._postponement is not None else None,
        )
        if not self._on_exec:
            self._enable()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._reader.start()
        if self._command is not None:
            try:
                self._command.release()
            except CaptureError:
                self.child_pid = None
                raise
        if self._stop_asked:
            self._reader.stop()

    @property
    def _on_exec(self) -> bool:
        """Whether events begin by themselves when the command does."""
        return self._command is not None and not self._target.everything

    def _enable(self) -> None:
        """Begin, with what runs already."""
        began = time.monotonic_ns()
        # Changes are reported first, then the present state is read: nothing falls between.
        for fd in self._side_band_fds:
            event_attr.enable(fd)
        pids = running_processes() if self._target.everything else self._target.pids
        self._initial = list(present_state(pids, began))
        for fd in self._fds:
            event_attr.enable(fd)
        if self._off_cpu is not None:
            # Of those that wake up before they are looked at here, their own records tell.
            for pid in pids:
                for tid in sleeping_threads(pid):
                    self._off_cpu.found_asleep(pid, tid, time.monotonic_ns())

    def _command_ended(self) -> int:
        """A descriptor that is readable when the command has ended; -1 without a command."""
        if self._command is None:
            return -1
        self._keeper_fds.append(os.pidfd_open(self._command.pid))
        return self._keeper_fds[-1]

    def _prepare(self) -> None:
        """What comes before the target is followed, which its command has not begun to run; for such a capture, too."""

    def _more_rings(self) -> Sequence[RecordRing]:
        """What else hits come through, armed now; for a capture that is more than perf events."""
        return ()

    def _plan(self) -> list[PlannedEvent]:
        on_exec = self._on_exec
        planned = [side_band_event(switches=self._off_cpu is not None, enable_on_exec=on_exec)]
        in_kernel = any(isinstance(event, KernelProbeEvent) for event in self._extra)
        if self._places or not all(isinstance(event, (SamplingEvent, OffCpuEvent)) for event in self._extra):
            self._tracefs = TraceFilesystem()
        if self._tracefs is not None and (self._places or in_kernel):
            with suppress(OSError):
                remove_stale_events(self._tracefs)
            self._kernel_probes = KprobeEvents(self._tracefs)
        if self._places:
            assert self._tracefs is not None
            self._probes = UprobeEvents(self._tracefs)
            planned += place_events(self._places, self._probes, self._user_stack, enable_on_exec=on_exec)
        if self._off_cpu is not None:
            with suppress(CaptureError):  # without tracepoints less is told of a switch
                self._tracefs = self._tracefs or TraceFilesystem()
                self._switches = SwitchTracepoint.of(self._tracefs)
        planned += extra_events(
            *(self._extra, self._tracefs, self._kernel_probes, len(self._places), self._user_stack),
            enable_on_exec=on_exec,
            switches=self._switches,
        )
        if self._kernel_probes is not None and self._kernel_probes.refused and len(planned) == 1:
            name, why = next(iter(self._kernel_probes.refused.items()))
            raise CaptureError(f"{name}: {why}")
        return planned

    def _open_threads(self, planned: list[PlannedEvent]) -> None:
        for event in planned:
            if event.places_by_page_offset is not None:
                keeper = event_attr.breakpoint_keeper(event.attr)
                try:
                    self._keeper_fds.append(event_attr.open_event(keeper, -1, self._rings[0].cpu))
                except OSError as error:
                    self._refuse(event, planned, error)
        if self._command is not None:
            self._open_on(self._command.pid, planned)
            return
        for pid in self._target.pids:
            seen: set[int] = set()
            # A thread that starts meanwhile is listed next time, or a child of one that is covered, or both: then
            # its records come twice, under different roots, and only those of its own root are delivered.
            while fresh := [tid for tid in thread_ids(pid) if tid not in seen]:
                for tid in fresh:
                    seen.add(tid)
                    if self._open_on(tid, planned):
                        self._root_of[tid] = tid
            if not any(tid in self._root_of for tid in seen):
                raise CaptureError(f"there is no process {pid}: look for its pid with `ps -e` or `pgrep -a NAME`")

    def _open_on(self, tid: int, planned: list[PlannedEvent]) -> bool:
        for event in planned:
            if event.name in self.refused:
                continue
            for ring in self._rings:
                try:
                    fd = event_attr.open_event(event.attr, tid, ring.cpu)
                except OSError as error:
                    if error.errno == errno.ESRCH:
                        return False
                    self._refuse(event, planned, error)
                    break
                self._fds.append(fd)
                event_attr.send_output(fd, ring.fd)
                number = event_attr.event_id(fd)
                self._layouts[number] = event.layout
                self._opened[number] = (event, tid)
                if event.role is Role.SIDE_BAND:
                    self._side_band_fds.append(fd)
                    if ring is self._rings[0]:
                        self._alive_fds.append(fd)
        return True

    def _refuse(self, event: PlannedEvent, planned: list[PlannedEvent], error: OSError) -> None:
        unprobeable = (errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP, errno.EIO, errno.EILSEQ)
        if event.role is Role.SIDE_BAND or error.errno not in unprobeable:
            raise CaptureError(perf_refusal(error)) from error
        if event.attr.frequency:
            raise CaptureError(frequency_refusal(event.attr.frequency, error)) from error
        what = "this instruction cannot be probed" if error.errno == _ENOTSUPP else os.strerror(error.errno or 0)
        self.refused[event.name] = what
        if all(one.role is Role.SIDE_BAND or one.name in self.refused for one in planned):
            raise CaptureError(f"the kernel would not probe {event.name}: {what}; use --backend ptrace")

    def events(self) -> Iterator[Event]:
        """Events in time order, as LiveCapture says; `exit_status` is set once the command has ended."""
        assert self._reader is not None and self._decoder is not None
        for event in self._initial:
            self._trampolines.observe(event)
            yield event
        records = self._reader.records() if self._postponement is None else self._kept_records(self._postponement)
        for item in records:
            if isinstance(item, RecordsLost):
                self._trampolines.observe(item)
                yield item
                continue
            event_or_none = self._event(item[2], item[1])
            if event_or_none is not None:
                yield event_or_none
        yield from self._end()

    def _kept_records(self, postponement: Postponement) -> Iterator[TimedRecord | RecordsLost]:
        """All records, when there are no more; of those that cannot wait is told as they come."""
        assert self._reader is not None and self._spool is not None
        decoder, spool = RecordDecoder(self._layouts), self._spool
        while (batch := self._reader.next_batch()) is not None:
            for item in batch:
                event = item if isinstance(item, RecordsLost) else self._urgent(item[2], item[1], decoder, postponement)
                if isinstance(event, MappingAdded):
                    postponement.mapped(event)
                elif isinstance(event, RecordsLost):
                    postponement.lost += event.count
            spool.add(batch)
        yield from spool.records()

    def _urgent(self, record: bytes, cpu: int, decoder: RecordDecoder, postponement: Postponement) -> Event | None:
        """What a record tells that cannot wait until the capture has ended; samples are counted."""
        kind = record[0]
        if kind == RECORD_SAMPLE:
            postponement.samples += 1
        elif kind not in (RECORD_SWITCH, RECORD_SWITCH_CPU_WIDE):
            return decoder.decode(record)
        return None

    def _end(self) -> Iterator[Event]:
        """What can be told when there are no more records."""
        assert self._decoder is not None
        if self._off_cpu is not None:
            yield from self._off_cpu.finish(self._ended_ns, unseen=not self._target.everything)
        unreadable = sum(ring.unreadable for ring in self._rings) + sum(self._decoder.faults.values())
        unreadable += self._untold
        if unreadable:
            yield RecordsLost(time.monotonic_ns(), -1, unreadable)
        self._reap(0 if not self._stop_asked else os.WNOHANG)

    def _event(self, record: bytes, cpu: int) -> Event | None:
        assert self._decoder is not None
        kind, identifier = _KIND_AND_IDENTIFIER.unpack_from(record)
        if kind in (RECORD_SWITCH, RECORD_SWITCH_CPU_WIDE):
            return self._off_cpu.switched(record) if self._off_cpu is not None else None
        event = self._decoder.decode(record, compacted=kind == RECORD_SAMPLE)
        if kind != RECORD_SAMPLE:
            if event is not None:
                self._trampolines.observe(event)
                if self._off_cpu is not None:
                    self._off_cpu.observe(event)
            if isinstance(event, ProcessForked) and event.parent_tid in self._root_of:
                self._root_of.setdefault(event.tid, self._root_of[event.parent_tid])
            return event
        planned, root = self._opened[identifier]
        if not isinstance(event, Sample) or self._root_of.get(event.tid, root) != root:
            return None
        if planned.places_by_page_offset is not None and not self._tell_places(planned, event, record):
            return None
        role = planned.role
        if role is Role.RETURN_HIT:
            self._trampolines.leave(event.tid, event.registers[_RSP] if event.registers else 0)
        elif role in (Role.ENTRY_HIT, Role.ENTRY_SLOT) and event.slices:
            slot = event.slices[0]
            self._trampolines.enter(event.pid, event.tid, slot.address, int.from_bytes(slot.data[:8], "little"))
            if role is Role.ENTRY_SLOT:
                return None
        elif role is Role.ENTRY_SLOT:
            return None
        self._trampolines.restore(event)
        if self._off_cpu is not None:
            if role is Role.SWITCH_OUT:
                switches = self._switches
                self._off_cpu.left(event, switches.state(planned.layout.raw_part(record)) if switches else None)
                return None
            self._off_cpu.ran(event.tid)
        return event

    def _tell_places(self, planned: PlannedEvent, sample: Sample, record: bytes) -> bool:
        # False, and counted, when the record does not tell which of the event's probes was hit.
        address: int | None = None
        if planned.role is Role.RETURN_HIT:
            address = event_attr.returned_function(record)
        elif planned.role is Role.ENTRY_SLOT:
            return True
        elif sample.registers:
            address = sample.registers[_RIP]
        places = None
        if address is not None and planned.places_by_page_offset is not None:
            places = planned.places_by_page_offset.get(address & PAGE_OFFSET)
        if places is None:
            self._untold += 1
            return False
        sample.places = places
        return True

    def stop(self) -> None:
        """End the capture soon; safe in a signal handler and from another thread."""
        self._stop_asked = True
        if self._reader is not None:
            self._reader.stop()

    def close(self) -> None:
        """Disarm everything and let the target go on. Never raises; may be called twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self._reader is not None:
            self._reader.close()
        if self._command is not None:
            with suppress(OSError):
                self._command.cancel()
        for fd in self._fds + self._keeper_fds:
            with suppress(OSError):
                os.close(fd)
        for ring in self._rings:
            with suppress(OSError, BufferError):
                ring.close()
        for probes in (self._probes, self._kernel_probes):
            if probes is not None:
                self.left_defined += probes.remove()
        if self._tracefs is not None:
            self._tracefs.close()
        sys.setswitchinterval(self._switch_interval)
        self._reap(os.WNOHANG)

    def wait_for_command(self) -> int | None:
        """Wait, after `close`, for the end of the command: its wait status. None without a command."""
        self._reap(0)
        return self.exit_status

    def shortcomings(self) -> list[str]:
        """What this capture could not do, each as a line for the user; to be asked after `close`."""
        lines = [f"not probed: {name}: {why}; --backend ptrace may" for name, why in self.refused.items()]
        if self._kernel_probes is not None:
            lines += [f"not probed: {name}: {why}" for name, why in self._kernel_probes.refused.items()]
        if self.left_defined:
            lines.append(f"{len(self.left_defined)} probe events could not be removed; the next run tries again")
        if self._off_cpu is not None:
            lines += self._off_cpu.shortcomings()
        throttled = self._decoder.passed_over["THROTTLE"] if self._decoder is not None else 0
        if throttled:
            lines.append(
                f"the kernel held sampling back {throttled} times: samples are missing; ask for fewer a second"
            )
        return lines

    def _disarm(self) -> None:
        self._ended_ns = time.monotonic_ns()
        for fd in self._fds:
            with suppress(OSError):
                event_attr.disable(fd)

    def _reap(self, options: int) -> None:
        if self.child_pid is None or self.exit_status is not None:
            return
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self.child_pid, options)
            if pid:
                self.exit_status = status


def _online_cpus() -> list[int]:
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _raise_descriptor_limit() -> None:
    # One descriptor a place, thread and CPU: the usual soft limit of 1,024 is soon used up.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
