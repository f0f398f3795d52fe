"""Traces as perf script prints them, so that scripts which read that go on working (tools/perf/builtin-script.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.report.short_text import printable

if TYPE_CHECKING:
    from unwind.trace import Trace, TraceFrame

_UNKNOWN = "[unknown]"


class PerfScriptReport:
    """Writes traces to a stream as they come: a head, a line a frame, an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, trace: Trace) -> None:
        """Write one trace and flush it."""
        seconds, rest = divmod(trace.time_ns, 1_000_000_000)
        who = f"{printable(trace.comm) or ':' + str(trace.pid)} {trace.pid}/{trace.tid}"
        event = printable((trace.probe or "samples").replace("\n", " "))
        head = f"{who} [{trace.cpu:03}] {seconds}.{rest // 1000:06}: {trace.weight:10} {event}: "
        lines = [head, *map(_frame_line, trace.frames), ""]
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()


def _frame_line(frame: TraceFrame) -> str:
    if frame.inlined:
        return f"{frame.address:16x} {printable(frame.function or _UNKNOWN)} (inlined)"
    name = printable(frame.function or _UNKNOWN)
    offset = f"+{frame.offset:#x}" if frame.function and frame.offset is not None else ""
    return f"{frame.address:16x} {name}{offset} ({printable(frame.module or _UNKNOWN)})"
