"""Which traces of a report are shown, and which of their frames: by process, time, function and module.

What is left out is counted; the frames that are left of a trace keep their order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from os.path import basename
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptap.report.output import Report
    from unwind.trace import Trace, TraceFrame


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """What was asked for; an empty tuple or None asks for nothing. Names take the wildcards of `fnmatch`."""

    comms: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    tids: tuple[int, ...] = ()
    cpus: tuple[int, ...] = ()
    begin_s: float | None = None
    """Seconds after the first trace, as those below."""
    end_s: float | None = None
    functions: tuple[str, ...] = ()
    """One of them has to be in the stack."""
    modules: tuple[str, ...] = ()
    """A frame of one of these has to be in it; by path or by file name."""
    hide: tuple[str, ...] = ()
    """Functions whose frames are left out."""
    only: tuple[str, ...] = ()
    """Functions to whose frames a stack is reduced; a stack without any is left out."""
    inlined: bool = True
    merge_recursion: bool = False
    """Calls of a function by itself are one frame, the innermost of them."""

    def is_wanted(self, trace: Trace, since_first_s: float) -> bool:
        """Whether the trace is shown at all."""
        return (
            self.is_wanted_thread(trace.pid, trace.tid, trace.comm)
            and self.is_wanted_moment(since_first_s, trace.cpu)
            and self.has_wanted(trace.frames)
        )

    def is_wanted_thread(self, pid: int, tid: int, comm: str) -> bool:
        """Whether the traces of a thread are shown."""
        return (
            (not self.comms or _matches(comm, self.comms))
            and (not self.pids or pid in self.pids)
            and (not self.tids or tid in self.tids)
        )

    def is_wanted_moment(self, since_first_s: float, cpu: int) -> bool:
        """Whether the traces of that time and processor are shown."""
        return (
            (not self.cpus or cpu in self.cpus)
            and (self.begin_s is None or since_first_s >= self.begin_s)
            and (self.end_s is None or since_first_s < self.end_s)
        )

    @property
    def is_of_frames(self) -> bool:
        """Whether it matters what frames a trace has: for being shown at all, or for which of them are."""
        asked = self.functions or self.modules or self.hide or self.only
        return bool(asked) or self.merge_recursion or not self.inlined

    def has_wanted(self, frames: list[TraceFrame]) -> bool:
        """Whether a trace with these frames is shown."""
        return (
            (not self.functions or any(is_function(frame.function, self.functions) for frame in frames))
            and (not self.modules or any(is_module(frame.module, self.modules) for frame in frames))
            and (not self.only or any(is_function(frame.function, self.only) for frame in frames))
        )

    def is_shown(self, function: str | None) -> bool:
        """Whether the frames of a function are."""
        return not is_function(function, self.hide) and (not self.only or is_function(function, self.only))

    def frames(self, frames: list[TraceFrame]) -> list[TraceFrame]:
        """The frames that are shown, innermost first as given."""
        shown: list[TraceFrame] = []
        for frame in frames:
            if (frame.inlined and not self.inlined) or not self.is_shown(frame.function):
                continue
            if self.merge_recursion and shown and _same_function(shown[-1], frame):
                continue
            shown.append(frame)
        return shown


class FilteredReport:
    """Passes on to `report` what the filter lets through; `left_out` counts the other traces."""

    def __init__(self, report: Report, wanted: TraceFilter) -> None:
        self.left_out = 0
        self.report = report
        self.wanted = wanted
        self._first_ns: int | None = None

    def write(self, trace: Trace) -> None:
        """Show one trace, if it is wanted."""
        if self._first_ns is None:
            self._first_ns = trace.time_ns
        if self.wanted.is_wanted(trace, (trace.time_ns - self._first_ns) / 1e9):
            self.report.write(replace(trace, frames=self.wanted.frames(trace.frames)))
        else:
            self.left_out += 1


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_function(name: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a function, None where it has no name, is one of those that were asked for."""
    return name is not None and _matches(name, patterns)


def is_module(module: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a module, by its path, is one of those that were asked for."""
    return module is not None and (_matches(module, patterns) or _matches(basename(module), patterns))


def _same_function(inner: TraceFrame, outer: TraceFrame) -> bool:
    return inner.function is not None and (inner.function, inner.module) == (outer.function, outer.module)
