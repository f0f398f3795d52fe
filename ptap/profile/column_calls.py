"""The calls of a profile, of frames in columns: which frames are the same call, and which calls of one function.

Numbers are those of frames (`unwind.column_frames`), from FIRST_FRAME on; below it a number is a StopReason, and stands
for the mark of a stack that was cut short, or of one without frames. What a number stands for are its parts: the mark,
or a frame with the calls inlined in it, innermost first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import numbered_as_met
from cfi_tables.layout import StopReason
from ptap.profile.call_columns import CallColumns
from ptap.profile.stack_profile import Function, missing_frames, unnamed
from ptap.report.trace_filter import is_function, is_module
from unwind.frame_columns import NO_CODE, NO_TEXT, SPACES

if TYPE_CHECKING:
    from ptap.report.trace_filter import TraceFilter
    from unwind.frame_columns import FrameColumns

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

FIRST_FRAME = 1 + max(StopReason)
_MOST = 1 << 62
_NOT_JOINED = -1


class Parts(NamedTuple):
    """What numbers stand for."""

    ends: Int64s
    """By number: the index behind its last part."""
    calls: Int32s
    """By part: the number of its call."""
    joined: Int32s
    """By part: equal where calls that follow each other are shown as one; _NOT_JOINED for those that never are."""


class ColumnCalls:
    """The calls of `frames`, which have tables of their own."""

    def __init__(self, frames: FrameColumns) -> None:
        names, modules = frames.tables.names, frames.tables.modules.modules
        self._texts, self._files = names.texts, frames.tables.files.texts
        self._modules = modules
        marks = [names.number(missing_frames(StopReason(each))) for each in range(FIRST_FRAME)]

        def with_marks(column: NDArray[Any], of_marks: Any = 0) -> NDArray[Any]:
            return np.concatenate((np.full(FIRST_FRAME, of_marks, dtype=column.dtype), column))

        self._ends = np.concatenate((np.arange(1, FIRST_FRAME + 1), FIRST_FRAME + frames.ends))
        self._names, self._inlined = with_marks(frames.names), with_marks(frames.inlined)
        self._module_of, lines, columns = (with_marks(each) for each in (frames.modules, frames.lines, frames.columns))
        addresses, files = with_marks(frames.addresses), with_marks(frames.files)
        spaces = with_marks(frames.spaces, NO_CODE)
        # Code without a name is shown by its module's.
        of_modules = np.array([names.number(unnamed(path)) for path, _ in modules], dtype=np.int32)
        shown = np.where(self._names == NO_TEXT, of_modules[self._module_of], self._names)
        shown[:FIRST_FRAME] = marks
        of_function, functions = _distinct(shown, spaces, self._module_of, files)
        has_name = self._names != NO_TEXT
        firsts, self._calls = _distinct(functions, has_name, addresses, lines, columns, self._inlined)
        self._columns = CallColumns(
            functions=functions[firsts].astype(np.int32),
            addresses=addresses[firsts],
            lines=lines[firsts].astype(np.int64),
            columns=columns[firsts].astype(np.int64),
            inlined=self._inlined[firsts],
        )
        self._function_columns = [each[of_function] for each in (shown, spaces, self._module_of, files)]

    def parts(self) -> Parts:
        """All of them."""
        return Parts(self._ends, self._calls, np.full(len(self._calls), _NOT_JOINED, dtype=np.int32))

    def shown_parts(self, wanted: TraceFilter) -> Parts:
        """Those that are shown where not all frames are."""
        shown = np.array([wanted.is_shown(name) for name in self._texts])[self._names]
        if not wanted.inlined:
            shown &= ~self._inlined
        shown[:FIRST_FRAME] = True
        ends = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(shown)))[self._ends]
        joined = np.full(len(self._calls), _NOT_JOINED, dtype=np.int32)
        if wanted.merge_recursion:
            _, of_functions = _distinct(self._names, self._paths()[self._module_of])
            joined = np.where(self._names != NO_TEXT, of_functions, _NOT_JOINED).astype(np.int32)
        return Parts(ends, self._calls[shown], joined[shown])

    def asked_for(self, wanted: TraceFilter) -> tuple[Int64s, int]:
        """By number, bits for what of it is asked for to be in a stack; and the bits that a stack has to have."""
        functions, paths = self._texts, [path for path, _ in self._modules]
        asked = (
            [is_function(name, wanted.functions) for name in functions],
            [is_module(path, wanted.modules) for path in paths],
            [is_function(name, wanted.only) for name in functions],
        )
        owners = np.repeat(np.arange(len(self._ends)), np.diff(self._ends, prepend=0))
        bits, need = np.zeros(len(self._ends), dtype=np.int64), 0
        for place, (patterns, of_text, texts) in enumerate(
            zip(
                (wanted.functions, wanted.modules, wanted.only),
                asked,
                (self._names, self._module_of, self._names),
                strict=True,
            )
        ):
            if patterns:
                bits[owners[np.array(of_text)[texts]]] |= 1 << place
                need |= 1 << place
        return bits, need

    def of_tree(self, frames: Int32s) -> tuple[Int32s, CallColumns, list[Function]]:
        """For the calls of a tree: their numbers in the order in which they are met, those calls, their functions."""
        columns = self._columns
        met, call_of = numbered_as_met(frames)
        functions, function_of = numbered_as_met(columns.functions[met])
        calls = CallColumns(
            functions=function_of,
            addresses=columns.addresses[met],
            lines=columns.lines[met],
            columns=columns.columns[met],
            inlined=columns.inlined[met],
        )
        made = []
        for name, space, module, file in zip(
            *(each[functions].tolist() for each in self._function_columns), strict=True
        ):
            path, build_id = self._modules[module]
            made.append(Function(self._texts[name] or "", SPACES[space], path, build_id, self._files[file]))
        return call_of, calls, made

    def call_of_no_stack(self) -> int:
        """The mark of a stack without frames."""
        return int(self._calls[StopReason.END_OF_STACK])

    def _paths(self) -> Int32s:
        """By module a number for its path: another build of a file is at the same one."""
        numbers: dict[str | None, int] = {}
        return np.array([numbers.setdefault(path, len(numbers)) for path, _ in self._modules], dtype=np.int32)


def _distinct(*columns: NDArray[Any]) -> tuple[Int64s, Int32s]:
    """The distinct rows of columns (not negative): an index of each, and for each row the number of what it equals."""
    keys, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        if column.dtype == np.uint64:
            column = np.unique(column, return_inverse=True)[1]
        count = int(column.max(initial=0)) + 1
        if size * count > _MOST:
            distinct, keys = np.unique(keys, return_inverse=True)
            size = len(distinct)
        keys, size = keys * count + column, size * count
    _, firsts, places = np.unique(keys, return_index=True, return_inverse=True)
    return firsts, places.astype(np.int32)
