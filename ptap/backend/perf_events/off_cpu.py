"""Off-CPU times: a thread's stack as it left the processor, with the time until it came back as weight.

Owns the pairing. The tracepoint sched:sched_switch, or where there are none the kernel's count of context switches,
gives a sample when a thread leaves (in its own context, so with its stack), and PERF_RECORD_SWITCH, or SWITCH_CPU_WIDE
where whole processors are followed, tells of each leaving and coming back, and whether the thread was made to leave
(linux/perf_event.h). A sample waits here until its thread does.

Nothing is guessed: a wait whose end was lost is counted and left out; one that lasts until the capture ends counts
until then and says so; a thread that slept when the capture began has a wait without a stack, from then on.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ptap.backend.perf_events.extra_event import Wait
from ptap.backend.perf_events.tracefs import TraceFilesystem
from relay_reader.capture import ProcessForked, Sample, ThreadExited

RECORD_SWITCH = 14
RECORD_SWITCH_CPU_WIDE = 15
_MISC_SWITCH_OUT = 1 << 13
_MISC_SWITCH_OUT_PREEMPT = 1 << 14

_HEADER = struct.Struct("<IHH")
_TRAILER = struct.Struct("<IIQ")
# Switch records end with the words pid and tid, time, cpu, identifier.
_TRAILER_BYTES = 32
_NO_TID = 0xFFFFFFFF

_TASK_UNINTERRUPTIBLE = 2
_TASK_REPORT = 0xFF
"""States that a thread can wait in (include/linux/sched.h); a thread that can run has none, or a bit above them."""
_STATE_FIELD = re.compile(r"field:[^;]*\bprev_state;\s*offset:(\d+);\s*size:(\d+);")

_UNTIL_END = {
    Wait.BLOCKED: Wait.BLOCKED_UNTIL_END,
    Wait.UNINTERRUPTIBLE: Wait.UNINTERRUPTIBLE_UNTIL_END,
    Wait.PREEMPTED: Wait.PREEMPTED_UNTIL_END,
}


@dataclass(frozen=True, slots=True)
class SwitchTracepoint:
    """The tracepoint sched:sched_switch, which tells the state that a thread leaves in."""

    number: int
    state_offset: int
    state_size: int

    @classmethod
    def of(cls, tracefs: TraceFilesystem) -> SwitchTracepoint | None:
        """None where it cannot be read, or is not laid out as it is known."""
        try:
            number, form = tracefs.event_id("sched", "sched_switch"), tracefs.read("events/sched/sched_switch/format")
        except (OSError, ValueError):
            return None
        field = _STATE_FIELD.search(form)
        return cls(number, int(field[1]), int(field[2])) if field else None

    def state(self, raw: bytes) -> Wait | None:
        """Why the thread leaves, from a sample's raw part."""
        state = int.from_bytes(raw[self.state_offset : self.state_offset + self.state_size], "little")
        if len(raw) < self.state_offset + self.state_size:
            return None
        if state & _TASK_REPORT == 0 or state > _TASK_REPORT:
            return Wait.PREEMPTED
        return Wait.UNINTERRUPTIBLE if state & _TASK_UNINTERRUPTIBLE else Wait.BLOCKED


class OffCpuTimes:
    """Samples of threads that are off the processor. `places` is what each kind of wait gives as `Sample.places`."""

    def __init__(self, places: Mapping[Wait, int]) -> None:
        self._places = places
        self._away: dict[int, tuple[Sample, Wait]] = {}
        """By thread: its stack and why it left."""
        self._asleep: dict[int, tuple[int, int]] = {}
        """Threads that have not been seen since the capture began: (process, since when)."""
        self._gone: set[int] = set()
        self.unended = 0
        """Waits of which the end was lost: they are in no sample."""
        self.unseen = 0
        """Threads that slept all the time and are in no sample."""

    def found_asleep(self, pid: int, tid: int, time_ns: int) -> None:
        """A thread sleeps, as the capture begins."""
        self._asleep[tid] = (pid, time_ns)

    def left(self, sample: Sample, wait: Wait | None = None) -> None:
        """A thread leaves the processor; the sample is of its stack. Without `wait` the switch alone tells why."""
        tid = sample.tid
        self._asleep.pop(tid, None)
        if not tid or tid in self._gone or tid == _NO_TID:
            return  # an idle processor waits for nothing, a thread that has ended for nothing any more
        if tid in self._away:
            self.unended += 1
        self._away[tid] = (sample, wait or Wait.BLOCKED)

    def ran(self, tid: int) -> None:
        """A thread was sampled as it ran."""
        self._asleep.pop(tid, None)

    def switched(self, record: bytes) -> Sample | None:
        """Take a record of a switch: the sample of the wait that it ended, where there is one."""
        _, misc, _ = _HEADER.unpack_from(record)
        _, tid, time = _TRAILER.unpack_from(record, len(record) - _TRAILER_BYTES)
        if misc & _MISC_SWITCH_OUT:
            if misc & _MISC_SWITCH_OUT_PREEMPT and tid in self._away:
                self._away[tid] = (self._away[tid][0], Wait.PREEMPTED)
            return None
        if tid in self._away:
            sample, wait = self._away.pop(tid)
            return self._weighed(sample, wait, time)
        if tid in self._asleep:
            return self._unseen(tid, time, Wait.ASLEEP_BEFORE)
        return None

    def observe(self, event: object) -> None:
        """Take note of threads that end, and of new ones that have the number of one that has ended."""
        if isinstance(event, ThreadExited):
            self._gone.add(event.tid)
            self._away.pop(event.tid, None)
            self._asleep.pop(event.tid, None)
        elif isinstance(event, ProcessForked):
            self._gone.discard(event.tid)

    def finish(self, time_ns: int, *, unseen: bool) -> Iterator[Sample]:
        """The waits that lasted until the capture ended; with `unseen` those of threads, too, that slept throughout."""
        for sample, wait in self._away.values():
            yield self._weighed(sample, _UNTIL_END[wait], time_ns)
        self._away.clear()
        if not unseen:
            self.unseen = len(self._asleep)
            return
        for tid in list(self._asleep):
            yield self._unseen(tid, time_ns, Wait.ASLEEP_THROUGHOUT)

    def shortcomings(self) -> list[str]:
        """What is not in the samples, as lines for the user."""
        lines = []
        if self.unended:
            lines.append(f"{self.unended} times off the processor are left out: their ends were lost")
        if self.unseen:
            lines.append(f"{self.unseen} threads are left out that slept all the time")
        return lines

    def _weighed(self, sample: Sample, wait: Wait, until_ns: int) -> Sample:
        sample.weight = max(until_ns - sample.time_ns, 0)
        sample.places = (self._places[wait],)
        return sample

    def _unseen(self, tid: int, until_ns: int, wait: Wait) -> Sample:
        """A wait whose stack nobody has seen."""
        pid, since = self._asleep.pop(tid)
        return self._weighed(Sample(since, -1, pid, tid, (), (), 0), wait, until_ns)
