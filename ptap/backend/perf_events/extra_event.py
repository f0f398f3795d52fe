"""Event sources other than places in programs: timers that sample, the kernel's tracepoints, places in its code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class SamplingEvent:
    """A software clock that samples running threads."""

    kind: str = "cpu-clock"
    """`cpu-clock` or `task-clock` (the kernel's PERF_COUNT_SW_CPU_CLOCK and _TASK_CLOCK)."""
    frequency: int = 99
    """Samples a second of running time; at most kernel.perf_event_max_sample_rate."""
    weighs_time: bool = False
    """A sample's weight is the time between two, in nanoseconds, instead of 1."""

    def __post_init__(self) -> None:
        if self.kind not in ("cpu-clock", "task-clock"):
            raise ValueError(f"{self.kind!r} is no sampling clock; use cpu-clock or task-clock")
        if self.frequency < 1:
            raise ValueError(f"a frequency of {self.frequency} a second takes no sample; give at least 1")


@dataclass(frozen=True, slots=True)
class TracepointEvent:
    """A static tracepoint of the kernel, as `group:name` (`sched:sched_switch`)."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*:[A-Za-z_]\w*", self.name):
            raise ValueError(f"{self.name!r} is no tracepoint; write group:name, as in sched:sched_switch")


@dataclass(frozen=True, slots=True)
class KernelProbeEvent:
    """A place in the kernel's code, or the return of a function of its."""

    name: str
    """The probe point, for messages."""
    symbol: str
    """As the kernel lists it; one that it has once."""
    offset: int
    """Bytes from the symbol."""
    is_return: bool


class Wait(Enum):
    """Why a thread is off the processor, in the words of reports."""

    BLOCKED = "off-cpu: blocked"
    """It waits for something: a lock, a file, a timer."""
    UNINTERRUPTIBLE = "off-cpu: uninterruptible"
    """It waits for what no signal ends, most often a disk; told where the kernel's tracepoints can be used."""
    PREEMPTED = "off-cpu: preempted"
    """It could run, and waits for a processor."""
    BLOCKED_UNTIL_END = "off-cpu: blocked until the end"
    """It had not come back when the capture ended."""
    UNINTERRUPTIBLE_UNTIL_END = "off-cpu: uninterruptible until the end"
    PREEMPTED_UNTIL_END = "off-cpu: preempted until the end"
    ASLEEP_BEFORE = "off-cpu: since before the beginning"
    """It slept when the capture began, and its stack is not known."""
    ASLEEP_THROUGHOUT = "off-cpu: all the time"
    """It has slept from the beginning to the end of the capture; its stack is not known."""


@dataclass(frozen=True, slots=True)
class OffCpuEvent:
    """Times that threads spend off the processor for one reason; their samples' weights are nanoseconds.

    A capture that has one of them has all of them.
    """

    wait: Wait


ExtraEvent: TypeAlias = SamplingEvent | TracepointEvent | KernelProbeEvent | OffCpuEvent
