"""Traces as text for people: one block a hit, frames numbered, colours on a terminal only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TextIO

import click

from ptap.report.short_text import printable, short_name, short_reason, short_value
from unwind.arguments.argument_reader import Argument
from unwind.arguments.local_reader import Local
from unwind.trace import Trace, TraceFrame

_CHAIN_TEXT = {
    "fp": "by frame pointers: callers of functions that keep none are missing",
    "lbr": "by the processor's branch records: the innermost calls only",
}
_PROBED_FUNCTION = re.compile(r'\.function\("([^"]*?)(?:@[^"@]*)?"\)\.return$')


class TextReport:
    """Writes traces to a stream as blocks, or as one line each when `stacks` is False.

    `verbose` adds addresses and modules, and leaves names, values and reasons at full length. Without `times` the
    traces have none.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        stacks: bool = True,
        source: bool = False,
        verbose: bool = False,
        times: bool = True,
    ) -> None:
        self._stream = stream
        self._times = times
        self._stacks = stacks
        self._source = source
        self._verbose = verbose
        colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
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
            if trace.chain is not None:
                lines.append("  " + self._style(_CHAIN_TEXT[trace.chain], dim=True))
            if trace.stop_text is not None:
                lines.append("  " + self._style(f"cut short: {printable(trace.stop_text)}", fg="red"))
            if trace.undecided:
                lines.append("  " + self._style("undecided: what is known of the stack does not tell --when", fg="red"))
            lines.append("")
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()

    def _headline(self, trace: Trace) -> str:
        elapsed = (trace.time_ns - (self._first_time or 0)) / 1e9
        who = f"{printable(trace.comm) or '?'} {trace.pid}" + ("" if trace.tid == trace.pid else f"/{trace.tid}")
        words = [
            self._style(printable(trace.probe or self._event(trace)), bold=True),
            self._style(who, fg="cyan"),
        ]
        if self._times:
            words.append(self._style(f"+{elapsed:.6f}s", dim=True))
        returned = _PROBED_FUNCTION.search(trace.probe or "")
        if returned is not None:
            in_kernel = (trace.probe or "").startswith(("kernel", "module"))
            words.insert(0, self._returned(returned[1], trace.returned, in_kernel))
        elif not self._stacks and trace.frames:
            words[0] += self._place_of_hit(trace)
        return "  ".join(words)

    def _event(self, trace: Trace) -> str:
        """What a trace without a probe stands for; those without a time are of a process that stands still."""
        return trace.signal or ("sample" if self._times else "thread")

    def _returned(self, function: str, value: Argument | None, in_kernel: bool) -> str:
        name = self._style(f"{self._name_text(function)}(...)", fg="yellow")
        if value is None and in_kernel:  # values are not read there, debug information or not
            return f"{name} returned"
        if value is None:
            return f"{name} returned {self._style('<unavailable: no debug information>', dim=True)}"
        return f"{name} returned" + ("" if value.why == "void" else f" {self._value(value)}")

    def _place_of_hit(self, trace: Trace) -> str:
        """What a line without a stack tells: arguments, or for an event of no function where it was."""
        first = next((frame for frame in trace.frames if frame.space == "user"), trace.frames[0])
        if first.arguments:
            return " " + self._arguments(first)
        if trace.probe is None or trace.probe.startswith(("kernel.", "timer.")):
            return " in " + self._name(first)
        return ""

    def _frame_lines(self, number: int, width: int, frame: TraceFrame) -> list[str]:
        words = [f"  {self._style(f'#{number:<{width}}', dim=True)} "]
        if self._verbose:
            words.append(self._style(f"{frame.address:#018x} ", dim=True))
        words.append(self._name(frame))
        if frame.arguments:
            words.append(" " + self._arguments(frame))
        if frame.file is not None:
            path = printable(_short_path(frame.file))
            words.append(" at " + self._style(f"{path}:{frame.line}" if frame.line else path, fg="blue"))
            if self._verbose and frame.column:
                words.append(self._style(f":{frame.column}", fg="blue"))
        if frame.inlined:
            words.append(self._style(" [inlined]", fg="magenta"))
        elif frame.space == "user" and frame.module is not None and (frame.file is None or self._verbose):
            words.append(self._style(f" in {printable(_short_path(frame.module))}", dim=True))
        lines = ["".join(words)]
        if self._source and frame.file is not None and frame.line:
            text = _source_line(frame.file, frame.line)
            if text is not None:
                lines.append(f"  {'':{width}}     {self._style(printable(text), dim=True)}")
        lines += [f"  {'':{width}}       {self._local(local, frame)}" for local in frame.locals or ()]
        return lines

    def _local(self, local: Local, frame: TraceFrame) -> str:
        text = f"{printable(local.name)} = {self._value(local)}"
        if local.shadowed:
            text += self._style(f" (of line {local.line or '?'}, shadowed)", dim=True)
        elif local.line and frame.line and local.line > frame.line:
            # It may hold whatever was there before; a loop may have set it in an earlier turn.
            text += self._style(f" (of line {local.line}, further below)", dim=True)
        return text

    def _name(self, frame: TraceFrame) -> str:
        if frame.function is None:
            name = self._style(f"{frame.address:#x}", fg="yellow")
        else:
            name = self._style(self._name_text(frame.function), fg="yellow")
            if frame.file is None and frame.offset:
                name += f"+{frame.offset:#x}"
        if frame.space == "kernel":
            module = printable(frame.module or "[kernel]")
            name += self._style(f" {module if module.startswith('[') else f'[{module}]'}", fg="red")
        if frame.signal:
            name += self._style(" <signal handler called>", fg="magenta")
        return name

    def _name_text(self, name: str) -> str:
        return printable(name if self._verbose else short_name(name))

    def _arguments(self, frame: TraceFrame) -> str:
        return "(" + ", ".join(f"{printable(each.name)}={self._value(each)}" for each in frame.arguments) + ")"

    def _value(self, argument: Argument) -> str:
        if argument.value is not None:
            text = argument.value if self._verbose else short_value(argument.value)
            return self._style(printable(text), fg="green")
        why = argument.why or "not known"
        return self._style(f"<unavailable: {printable(why if self._verbose else short_reason(why))}>", dim=True)


def _plain(text: str, **_: object) -> str:
    return text


@lru_cache(maxsize=1)
def _working_directory() -> str:
    try:
        return os.getcwd() + "/"
    except OSError:  # removed meanwhile
        return "//"


def _short_path(path: str) -> str:
    """A path below the working directory as seen from it."""
    return path.removeprefix(_working_directory())


@lru_cache(maxsize=64)
def _source_lines(path: str) -> list[str] | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return None


def _source_line(path: str, line: int) -> str | None:
    lines = _source_lines(path)
    return lines[line - 1].expandtabs().strip() if lines is not None and 0 < line <= len(lines) else None
