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
            (not self.comms or _matches(trace.comm, self.comms))
            and (not self.pids or trace.pid in self.pids)
            and (not self.tids or trace.tid in self.tids)
            and (not self.cpus or trace.cpu in self.cpus)
            and (self.begin_s is None or since_first_s >= self.begin_s)
            and (self.end_s is None or since_first_s < self.end_s)
            and (not self.functions or any(_is_function(frame, self.functions) for frame in trace.frames))
            and (not self.modules or any(_is_in(frame, self.modules) for frame in trace.frames))
            and (not self.only or any(_is_function(frame, self.only) for frame in trace.frames))
        )

    def frames(self, frames: list[TraceFrame]) -> list[TraceFrame]:
        """The frames that are shown, innermost first as given."""
        shown: list[TraceFrame] = []
        for frame in frames:
            if frame.inlined and not self.inlined:
                continue
            if _is_function(frame, self.hide) or (self.only and not _is_function(frame, self.only)):
                continue
            if self.merge_recursion and shown and _same_function(shown[-1], frame):
                continue
            shown.append(frame)
        return shown


class FilteredReport:
    """Passes on to `report` what the filter lets through; `left_out` counts the other traces."""

    def __init__(self, report: Report, wanted: TraceFilter) -> None:
        self.left_out = 0
        self._report = report
        self._wanted = wanted
        self._first_ns: int | None = None

    def write(self, trace: Trace) -> None:
        """Show one trace, if it is wanted."""
        if self._first_ns is None:
            self._first_ns = trace.time_ns
        if self._wanted.is_wanted(trace, (trace.time_ns - self._first_ns) / 1e9):
            self._report.write(replace(trace, frames=self._wanted.frames(trace.frames)))
        else:
            self.left_out += 1


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_function(frame: TraceFrame, patterns: tuple[str, ...]) -> bool:
    return frame.function is not None and _matches(frame.function, patterns)


def _is_in(frame: TraceFrame, patterns: tuple[str, ...]) -> bool:
    module = frame.module
    return module is not None and (_matches(module, patterns) or _matches(basename(module), patterns))


def _same_function(inner: TraceFrame, outer: TraceFrame) -> bool:
    return inner.function is not None and (inner.function, inner.module) == (outer.function, outer.module)
