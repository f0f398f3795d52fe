"""Lines with frames → the same lines with function, file and line told, and a line for each inlined call before it.

What a line had stays: the place is put in behind the frame. A line of which nothing more is known than it says itself
is given back byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from ptap.report.short_text import printable
from ptap.text_log.log_reader import ReadLine
from ptap.text_log.logged_frame import LoggedFrame
from ptap.text_log.lookup import Answer
from unwind.symbolize.function_name import demangled, without_parameters
from unwind.trace import TraceFrame


def rewritten(line: ReadLine) -> bytes:
    """The line with what is known of its frames."""
    if not line.frames:
        return line.data
    text = line.text
    pieces: list[str] = []
    inlined: list[str] = []
    at = 0
    for frame, answer in zip(line.frames, line.answers, strict=True):
        told = _told(frame, answer)
        if told is None:
            continue
        pieces += [text[at : frame.end], told]
        at = frame.resume
        if not frame.alone:
            inlined += [f"{text[: frame.begin]}{frame.label}{_call(each)}" for each in answer.frames if each.inlined]
    if not pieces:
        return line.data
    end = line.data[len(line.data.rstrip(b"\r\n")) :]
    pieces.append(text[at:])
    lines = [*inlined, "".join(pieces)]
    # A log that is cut off within its last line has no end for the others either.
    between = end or b"\n"
    return between.join(each.encode("utf-8", "surrogateescape") for each in lines) + end


def _told(frame: LoggedFrame, answer: Answer) -> str | None:
    """What is put in behind a frame; None where nothing is known that the line does not say."""
    if answer.choices:
        return _ambiguous(answer.choices)
    if not answer.frames:
        return None
    outer = answer.frames[-1]
    text = _name(frame, outer) + _place(outer)
    inner = [each for each in answer.frames if each.inlined]
    if frame.alone and inner:
        text += f" ({', '.join(_call(each) for each in inner)})"
    return text or None


def _name(frame: LoggedFrame, outer: TraceFrame) -> str:
    """The function, where the line does not name it."""
    if outer.function is None or (frame.named is not None and _is_named(frame.named, outer.function)):
        return ""
    offset = f"+{outer.offset:#x}" if outer.file is None and outer.offset else ""
    module = outer.module or "["
    owner = f" [{printable(module)}]" if outer.space == "kernel" and not module.startswith("[") else ""
    return f"{frame.word}{printable(outer.function)}{offset}{owner}"


def _is_named(named: str, function: str) -> bool:
    """Whether the line's name says that function: a mangled one does not, one with or without its parameters does."""
    if demangled(named) != named:
        return False
    return without_parameters(function) in (named, named.partition(".")[0], without_parameters(named))


def _call(frame: TraceFrame) -> str:
    """An inlined call as a line of its own has it."""
    return f"{printable(frame.function or '??')}{_place(frame)} [inlined]"


def _place(frame: TraceFrame) -> str:
    return "" if frame.file is None else f" at {_source(frame)}"


def _source(frame: TraceFrame) -> str:
    path = printable(frame.file or "??")
    return f"{path}:{frame.line}" if frame.line else path


def _ambiguous(choices: Sequence[list[TraceFrame]]) -> str:
    """Every place that the frame may be, of which nothing tells the right one."""
    places = dict.fromkeys(_source(frames[-1]) for frames in choices)
    return f" at {' or '.join(places)} [ambiguous: {len(choices)} functions of this name]"
