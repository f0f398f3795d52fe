"""Traces as columns, in Parquet or Arrow's file format, for DuckDB, pandas and whatever else reads those.

One row a trace, its frames a list in the row, innermost first. The columns are the fields of the JSON (see
`json_lines`), with their names; what is not known is null. Rows are written a batch at a time, so that memory holds
one batch, and for Arrow each string that differs. Formats: parquet.apache.org/docs/file-format, "IPC File Format" of
arrow.apache.org/docs/format/Columnar.html.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from ptap.profile.json_text import json_text
from ptap.report.json_lines import argument_object, local_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unwind.arguments.argument_reader import Argument
    from unwind.trace import Trace, TraceFrame

_BATCH_TRACES, _BATCH_FRAMES = 16_384, 1 << 20
"""A batch is written when it has so many of either."""
_NAME = pa.dictionary(pa.int32(), pa.string())
"""Text of which there are few kinds."""
_ARGUMENT = pa.struct([(name, pa.string()) for name in ("name", "type", "value", "why")])
_LOCAL = pa.struct([*_ARGUMENT, pa.field("line", pa.int64()), pa.field("shadowed", pa.bool_())])
_FRAME = pa.struct(
    [
        ("space", _NAME),
        ("address", pa.uint64()),
        ("module", _NAME),
        ("build_id", _NAME),
        ("function", _NAME),
        ("offset", pa.int64()),
        ("file", _NAME),
        ("line", pa.int64()),
        ("column", pa.int64()),
        ("inlined", pa.bool_()),
        ("arguments", pa.list_(_ARGUMENT)),
        ("locals", pa.list_(_LOCAL)),
    ]
)
SCHEMA = pa.schema(
    [
        ("probe", _NAME),
        ("time_ns", pa.int64()),
        ("cpu", pa.int64()),
        ("pid", pa.int64()),
        ("tid", pa.int64()),
        ("comm", _NAME),
        ("weight", pa.int64()),
        ("weight_unit", _NAME),
        ("stop", _NAME),
        ("frames", pa.list_(_FRAME)),
        ("returned", _ARGUMENT),
        ("undecided", pa.bool_()),
        ("chain", _NAME),
        ("signal", _NAME),
        ("host", _NAME),
    ]
)


class ColumnReport:
    """Writes traces to `stream`, which need not seek, as "parquet" or "arrow"; `finish` makes it whole."""

    def __init__(self, stream: BinaryIO, container: str) -> None:
        self._open = partial(_writer, stream, container)
        self._strings_go_on = container == "arrow"
        """A file of Arrow's has one dictionary a column, which only grows; Parquet's has one in each batch."""
        self._writer: Any = None
        self._batch = _Batch(_Names())

    def write(self, trace: Trace) -> None:
        """Take one trace. Raises OSError; BrokenPipeError when nobody reads on."""
        self._batch.add(trace)
        if self._batch.is_full:
            self._flush()

    def finish(self) -> None:
        """Write what is left and the file's end. Raises OSError; BrokenPipeError when nobody reads on."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._writer is None:  # which writes the file's head
            self._writer = self._open()
        self._writer.write_batch(self._batch.record_batch())
        self._batch = _Batch(self._batch.names if self._strings_go_on else _Names())


def _writer(stream: BinaryIO, container: str) -> Any:
    if container == "parquet":
        from pyarrow.parquet import ParquetWriter

        return ParquetWriter(stream, SCHEMA, compression="zstd")
    # Of a dictionary only what is new is written with a batch.
    options = pa.ipc.IpcWriteOptions(compression="zstd", emit_dictionary_deltas=True)
    return pa.ipc.new_file(stream, SCHEMA, options=options)


class _Names:
    """The strings of each column so far, numbered."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}
        self._arrays: dict[str, Any] = {}

    def array(self, column: str, texts: Iterable[str | None]) -> Any:
        """The column's strings as numbers in a dictionary."""
        numbers = self._numbers.setdefault(column, {})
        indices = [None if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
        known = self._arrays.get(column)
        if known is None:
            known = pa.array([], pa.string())
        if len(known) < len(numbers):
            fresh = list(numbers)[len(known) :]
            known = pa.concat_arrays([known, pa.array(map(json_text, fresh), pa.string())])
        self._arrays[column] = known
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), known)


class _Batch:
    """Some traces. Frames that are equal are one row of a table until the batch is made."""

    def __init__(self, names: _Names) -> None:
        self.names = names
        self._traces: list[Trace] = []
        self._frames: list[TraceFrame] = []
        """Each that differs."""
        self._index: dict[tuple[object, ...], int] = {}
        self._frame_of: list[int] = []
        """By frame of all traces: its index in `_frames`."""
        self._ends = [0]
        """By trace: where its frames end in `_frame_of`, and 0 first."""

    @property
    def is_full(self) -> bool:
        """Whether it is time to write it."""
        return len(self._traces) >= _BATCH_TRACES or len(self._frame_of) >= _BATCH_FRAMES

    def add(self, trace: Trace) -> None:
        """Take one trace."""
        self._traces.append(trace)
        self._frame_of += map(self._frame, trace.frames)
        self._ends.append(len(self._frame_of))

    def _frame(self, frame: TraceFrame) -> int:
        if frame.arguments or frame.locals is not None:
            self._frames.append(frame)  # values seldom repeat
            return len(self._frames) - 1
        key = (
            *(frame.function, frame.address, frame.line, frame.inlined, frame.module),
            *(frame.file, frame.column, frame.build_id, frame.space, frame.offset),
        )
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self._frames)
            self._frames.append(frame)
        return found

    def record_batch(self) -> Any:
        """The traces as columns of `SCHEMA`."""
        traces, names = self._traces, self.names
        frames = _structs(_FRAME, self._frame_columns()).take(pa.array(self._frame_of, pa.int64()))
        columns = {
            "probe": names.array("probe", (each.probe for each in traces)),
            "time_ns": _integers([each.time_ns for each in traces]),
            "cpu": _integers([each.cpu for each in traces]),
            "pid": _integers([each.pid for each in traces]),
            "tid": _integers([each.tid for each in traces]),
            "comm": names.array("comm", (each.comm for each in traces)),
            "weight": _integers([each.weight for each in traces]),
            "weight_unit": names.array("weight_unit", (each.weight_unit or None for each in traces)),
            "stop": names.array("stop", (each.stop.name.lower() for each in traces)),
            "frames": pa.ListArray.from_arrays(pa.array(self._ends, pa.int32()), frames, type=pa.list_(_FRAME)),
            "returned": pa.array(
                [None if each.returned is None else _safe(argument_object(each.returned)) for each in traces], _ARGUMENT
            ),
            "undecided": pa.array([each.undecided for each in traces], pa.bool_()),
            "chain": names.array("chain", (each.chain for each in traces)),
            "signal": names.array("signal", (each.signal for each in traces)),
            "host": names.array("host", (each.host for each in traces)),
        }
        return pa.RecordBatch.from_arrays([columns[field.name] for field in SCHEMA], schema=SCHEMA)

    def _frame_columns(self) -> dict[str, Any]:
        frames, names = self._frames, self.names
        return {
            "space": names.array("space", (each.space for each in frames)),
            "address": pa.array([each.address & (1 << 64) - 1 for each in frames], pa.uint64()),
            "module": names.array("module", (each.module for each in frames)),
            "build_id": names.array("build_id", (each.build_id for each in frames)),
            "function": names.array("function", (each.function for each in frames)),
            "offset": _integers([each.offset for each in frames]),
            "file": names.array("file", (each.file for each in frames)),
            "line": _integers([each.line for each in frames]),
            "column": _integers([each.column for each in frames]),
            "inlined": pa.array([each.inlined for each in frames], pa.bool_()),
            "arguments": pa.array([_values(each.arguments) for each in frames], pa.list_(_ARGUMENT)),
            "locals": pa.array(
                [None if each.locals is None else [_safe(local_object(one)) for one in each.locals] for each in frames],
                pa.list_(_LOCAL),
            ),
        }


def _values(arguments: Sequence[Argument]) -> list[dict[str, Any]]:
    return [_safe(argument_object(argument)) for argument in arguments]


def _safe(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with text that UTF-8 can hold."""
    return {name: json_text(value) if isinstance(value, str) else value for name, value in fields.items()}


def _structs(kind: Any, columns: dict[str, Any]) -> Any:
    return pa.StructArray.from_arrays([columns[field.name] for field in kind], fields=list(kind))


def _integers(values: list[int | None] | list[int]) -> Any:
    """A column of integers; one that 64 bits cannot hold, as damaged files may have, is null."""
    try:
        return pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        limit = 1 << 63
        return pa.array([each if each is not None and -limit <= each < limit else None for each in values], pa.int64())
