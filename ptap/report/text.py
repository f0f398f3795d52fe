"""Traces as text for people: one block a hit, frames numbered, colours on a terminal only."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import TextIO

import click

from unwind.arguments.argument_reader import Argument
from unwind.trace import Trace, TraceFrame


class TextReport:
    """Writes traces to a stream as blocks, or as one line each when `stacks` is False."""

    def __init__(
        self, stream: TextIO, *, stacks: bool = True, source: bool = False, verbose: bool = False
    ) -> None:
        self._stream = stream
        self._stacks = stacks
        self._source = source
        self._verbose = verbose
        colour = stream.isatty() and "NO_COLOR" not in os.environ
        self._style: Callable[..., str] = click.style if colour else _plain
        self._first_time: int | None = None

    def write(self, trace: Trace) -> None:
        """Write one trace and flush it."""
        if self._first_time is None:
            self._first_time = trace.time_ns
        lines = [self._headline(trace)]
        if self._stacks:
            width = len(str(max(len(trace.frames) - 1, 0)))
            for number, frame in enumerate(trace.frames):
                lines.extend(self._frame_lines(number, width, frame))
            if trace.stop_text is not None:
                lines.append("  " + self._style(f"cut short: {trace.stop_text}", fg="red"))
            lines.append("")
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def _headline(self, trace: Trace) -> str:
        elapsed = (trace.time_ns - (self._first_time or 0)) / 1e9
        who = f"{trace.comm or '?'} {trace.pid}" + ("" if trace.tid == trace.pid else f"/{trace.tid}")
        words = [
            self._style(trace.probe or "sample", bold=True),
            self._style(who, fg="cyan"),
            self._style(f"+{elapsed:.6f}s", dim=True),
        ]
        if trace.returned is not None:
            words.insert(1, "= " + self._value(trace.returned))
        if not self._stacks and trace.frames and trace.frames[0].arguments:
            words.insert(1, self._arguments(trace.frames[0]))
        return "  ".join(words)

    def _frame_lines(self, number: int, width: int, frame: TraceFrame) -> list[str]:
        words = [f"  {self._style(f'#{number:<{width}}', dim=True)} "]
        if self._verbose:
            words.append(self._style(f"{frame.address:#018x} ", dim=True))
        words.append(self._name(frame))
        if frame.arguments:
            words.append(" " + self._arguments(frame))
        if frame.file is not None:
            position = f"{_short_path(frame.file)}:{frame.line}" if frame.line else _short_path(frame.file)
            words.append(" at " + self._style(position, fg="blue"))
            if self._verbose and frame.column:
                words.append(self._style(f":{frame.column}", fg="blue"))
        if frame.inlined:
            words.append(self._style(" [inlined]", fg="magenta"))
        elif frame.module is not None and (frame.file is None or self._verbose):
            words.append(self._style(f" in {_short_path(frame.module)}", dim=True))
        lines = ["".join(words)]
        if self._source and frame.file is not None and frame.line:
            text = _source_line(frame.file, frame.line)
            if text is not None:
                lines.append(f"  {'':{width}}     {self._style(text, dim=True)}")
        return lines

    def _name(self, frame: TraceFrame) -> str:
        if frame.function is None:
            return self._style(f"{frame.address:#x}", fg="yellow")
        name = self._style(frame.function, fg="yellow")
        if frame.space == "kernel":
            name += self._style(" [kernel]", fg="red")
        if frame.signal:
            name += self._style(" <signal handler called>", fg="magenta")
        if frame.file is None and frame.offset:
            name += f"+{frame.offset:#x}"
        return name

    def _arguments(self, frame: TraceFrame) -> str:
        return "(" + ", ".join(f"{each.name}={self._value(each)}" for each in frame.arguments) + ")"

    def _value(self, argument: Argument) -> str:
        if argument.value is not None:
            return self._style(argument.value, fg="green")
        if argument.why == "void":
            return "void"
        return self._style(f"<unavailable: {argument.why}>" if self._verbose else "<unavailable>", dim=True)


def _plain(text: str, **_: object) -> str:
    return text


def _short_path(path: str) -> str:
    """A path below the working directory as seen from it."""
    prefix = os.getcwd() + "/"
    return path.removeprefix(prefix)


@lru_cache(maxsize=64)
def _source_lines(path: str) -> list[str] | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return None


def _source_line(path: str, line: int) -> str | None:
    lines = _source_lines(path)
    return lines[line - 1].strip() if lines is not None and 0 < line <= len(lines) else None
