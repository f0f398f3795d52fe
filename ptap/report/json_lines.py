"""Traces as JSON Lines: one trace a line, in the shape of the output contract, flushed a trace at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.json_text import json_line

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument
    from unwind.arguments.local_reader import Local
    from unwind.trace import Trace, TraceFrame


class JsonReport:
    """Writes traces to a stream as they come."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, trace: Trace) -> None:
        """Write one trace and flush it."""
        self._stream.write(json_line(trace_object(trace)) + "\n")
        self._stream.flush()


def trace_object(trace: Trace) -> dict[str, Any]:
    """The JSON object of a trace.

    `returned` is there for return probes only, `undecided` (true) where --when could not be decided, `signal` for the
    thread that a signal ended, `chain` ("fp" or "lbr") where the user's frames are by the word of the recording, `host`
    where a capture is of several machines, `weight_unit` ("ns") where the weight is a time, a frame's `locals` where
    they were asked for.
    """
    result: dict[str, Any] = {
        "probe": trace.probe,
        "time_ns": trace.time_ns,
        "cpu": trace.cpu,
        "pid": trace.pid,
        "tid": trace.tid,
        "comm": trace.comm,
        "weight": trace.weight,
        "stop": trace.stop.name.lower(),
        "frames": [_frame_object(frame) for frame in trace.frames],
    }
    if trace.returned is not None:
        result["returned"] = argument_object(trace.returned)
    if trace.undecided:
        result["undecided"] = True
    if trace.chain is not None:
        result["chain"] = trace.chain
    if trace.signal is not None:
        result["signal"] = trace.signal
    if trace.host is not None:
        result["host"] = trace.host
    if trace.weight_unit:
        result["weight_unit"] = trace.weight_unit
    return result


def _frame_object(frame: TraceFrame) -> dict[str, Any]:
    result: dict[str, Any] = {
        "space": frame.space,
        "address": f"{frame.address:#x}",
        "module": frame.module,
        "build_id": frame.build_id,
        "function": frame.function,
        "offset": frame.offset,
        "file": frame.file,
        "line": frame.line,
        "column": frame.column,
        "inlined": frame.inlined,
        "arguments": [argument_object(argument) for argument in frame.arguments],
    }
    if frame.locals is not None:
        result["locals"] = [local_object(local) for local in frame.locals]
    return result


def argument_object(argument: Argument) -> dict[str, Any]:
    """The JSON object of an argument."""
    return {"name": argument.name, "type": argument.type, "value": argument.value, "why": argument.why}


def local_object(local: Local) -> dict[str, Any]:
    """The JSON object of a local variable."""
    return {**argument_object(local), "line": local.line, "shadowed": local.shadowed}
