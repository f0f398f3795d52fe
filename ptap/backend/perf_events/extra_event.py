"""Event sources other than places in programs: timers that sample, the kernel's tracepoints, places in its code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class SamplingEvent:
    """A software clock that samples running threads."""

    kind: str = "cpu-clock"
    """`cpu-clock` or `task-clock` (the kernel's PERF_COUNT_SW_CPU_CLOCK and _TASK_CLOCK)."""
    frequency: int = 99
    """Samples a second of running time; at most kernel.perf_event_max_sample_rate."""

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


ExtraEvent: TypeAlias = SamplingEvent | TracepointEvent | KernelProbeEvent
