"""The stacks in a log as traces: a block of frames is one, in the output contract's shape.

A block ends with the next line that is no frame, and before a frame that is counted as the first. In a kernel's trace
marks of stacks (`<IRQ>`) do not end it, and the registers of an oops are its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cfi_tables.layout import StopReason
from ptap.profile.json_text import json_line
from ptap.report.json_lines import trace_object
from ptap.text_log.log_reader import LogReader, ReadLine
from ptap.text_log.logged_frame import KernelPlace, LoggedFrame
from ptap.text_log.lookup import Answer
from unwind.trace import Trace, TraceFrame

_MARK = re.compile(rb"</?(?:[A-Z]+|#[A-Z]+\d?|ENTRY_TRAMPOLINE)>\s*$")
_TIME = re.compile(r"\[ *([0-9]{1,10})\.([0-9]{6})\]")
_KERNEL = "kernel"


class LogTraces:
    """Gathers the frames of a log's lines; gives each stack when it is whole."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._format: str | None = None
        self._lines: list[ReadLine] = []

    def add(self, line: ReadLine) -> Iterator[str]:
        """The JSON of the stacks that end with or before `line`."""
        frames = [frame for frame in line.frames if not frame.alone]
        if not frames:
            if not self._goes_on(line):
                yield from self.finish()
            return
        if self._lines and (line.format != self._format or frames[0].number == 0):
            yield from self.finish()
        self._format = line.format
        self._lines.append(line)

    def finish(self) -> Iterator[str]:
        """The JSON of the stack that is not ended yet, if there is one."""
        if self._lines:
            yield json_line(self._object()) + "\n"
        self._lines = []

    def _goes_on(self, line: ReadLine) -> bool:
        if self._format != _KERNEL or not self._lines:
            return False
        only_ran = all(
            isinstance(frame.place, KernelPlace) and frame.place.exact for each in self._lines for frame in each.frames
        )
        return _MARK.search(line.data) is not None or (only_ran and b"end trace" not in line.data)

    def _object(self) -> dict[str, Any]:
        trace = Trace(None, self._time(), 0, 0, 0, "", 1, StopReason.END_OF_STACK, [])
        if self._format == _KERNEL:
            task = self._reader.kernel_trace
            trace.cpu, trace.pid, trace.tid, trace.comm = task.cpu, task.pid, task.pid, task.comm
        elif self._format == "sanitizer":
            trace.pid = trace.tid = self._reader.sanitizer_trace.pid
        more: dict[int, dict[str, Any]] = {}
        before: object = None
        for line in self._lines:
            for frame, answer in zip(line.frames, line.answers, strict=True):
                # A kernel repeats where it was as the first frame of the trace.
                if frame.alone or (frame.place == before and getattr(frame.place, "exact", False)):
                    continue
                before = frame.place
                if answer.choices:
                    more.setdefault(len(trace.frames), {})["choices"] = _choices(trace, answer)
                if frame.unreliable:
                    more.setdefault(len(trace.frames), {})["unreliable"] = True
                trace.frames += answer.frames or [_unknown(frame)]
        found = trace_object(trace)
        for number, words in more.items():
            found["frames"][number].update(words)
        return found

    def _time(self) -> int:
        """Nanoseconds since the kernel's start, where it stamps its lines; 0 else."""
        found = _TIME.search(self._lines[0].text) if self._format == _KERNEL else None
        return int(found[1]) * 10**9 + int(found[2]) * 1000 if found else 0


def _choices(trace: Trace, answer: Answer) -> list[Any]:
    """The frames of every place that a frame may be."""
    return [trace_object(_with_frames(trace, frames))["frames"] for frames in answer.choices]


def _with_frames(trace: Trace, frames: list[TraceFrame]) -> Trace:
    return Trace(None, 0, 0, 0, 0, "", trace.weight, trace.stop, frames)


def _unknown(frame: LoggedFrame) -> TraceFrame:
    """A frame of which nothing is known but what the log says."""
    place = frame.place
    if isinstance(place, KernelPlace):
        offset = place.offset if place.name is not None else None
        return TraceFrame("kernel", place.address or 0, place.module or "[kernel]", place.build_id, place.name, offset)
    build_id = getattr(place, "build_id", None)
    return TraceFrame("user", place.address or 0, place.path, build_id, frame.named)
