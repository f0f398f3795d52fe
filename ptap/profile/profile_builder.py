"""Makes a stack profile of traces, as they come: their frames become calls, and equal stacks one."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, TypeVar

from ptap.profile.call_columns import CallColumns
from ptap.profile.sample_columns import NO_PROBE, SampleColumns
from ptap.profile.stack_profile import ROOT, Function, StackProfile, Thread, end_mark, function_of_frame

if TYPE_CHECKING:
    from collections.abc import Hashable

    from unwind.trace import Trace, TraceFrame

_Item = TypeVar("_Item", bound="Hashable")

_OFF_CPU = "off-cpu: "
"""How the names of the events begin that are no places but waits: what they name is shown as the innermost call."""
_MASK = (1 << 64) - 1


class ProfileBuilder:
    """A tree of calls, grown by `add`; everything is numbered in the order in which it is first met."""

    def __init__(self) -> None:
        self._functions: dict[Function, int] = {}
        self._threads: dict[Thread, int] = {}
        self._probes: dict[str, int] = {}
        self._units: set[str] = set()
        self._call_index: dict[tuple[object, ...], int] = {}
        self._call_functions, self._inlined = array("i"), array("b")
        self._addresses, self._lines, self._columns = array("Q"), array("q"), array("q")
        self._children: dict[tuple[int, int], int] = {}
        """The stack of a call below a stack."""
        self._stacks, self._sample_threads, self._sample_probes = array("i"), array("i"), array("i")
        self._times, self._cpus, self._weights = array("Q"), array("q"), array("Q")

    def __len__(self) -> int:
        """How many traces there are."""
        return len(self._stacks)

    def add(self, trace: Trace) -> None:
        """Add one trace. A stack that was cut short hangs below a call that says so, never below a true root."""
        stack = ROOT
        mark = end_mark(trace)
        if mark is not None:
            stack = self._child(stack, self._mark(mark))
        for frame in reversed(trace.frames):
            stack = self._child(stack, self._frame_call(frame))
        probe = trace.probe
        if probe is not None and probe.startswith(_OFF_CPU):
            stack = self._child(stack, self._mark(f"[{probe}]"))
        self._units.add(trace.weight_unit)
        self._stacks.append(stack)
        self._sample_threads.append(_number(self._threads, Thread(trace.pid, trace.tid, trace.comm)))
        self._sample_probes.append(NO_PROBE if probe is None else _number(self._probes, probe))
        self._times.append(trace.time_ns & _MASK)
        self._cpus.append(trace.cpu)
        self._weights.append(trace.weight & _MASK)

    def profile(self) -> StackProfile:
        """The profile of all traces so far."""
        import numpy as np

        calls = CallColumns(
            functions=np.array(self._call_functions, dtype=np.int32),
            addresses=np.array(self._addresses, dtype=np.uint64),
            lines=np.array(self._lines, dtype=np.int64),
            columns=np.array(self._columns, dtype=np.int64),
            inlined=np.array(self._inlined, dtype=np.bool_),
        )
        samples = SampleColumns(
            stacks=np.array(self._stacks, dtype=np.int32),
            threads=np.array(self._sample_threads, dtype=np.int32),
            times=np.array(self._times, dtype=np.uint64),
            cpus=np.array(self._cpus, dtype=np.int64).astype(np.int32),
            weights=np.array(self._weights, dtype=np.uint64),
            probes=np.array(self._sample_probes, dtype=np.int32),
        )
        parents, call_of = np.array([*self._children], dtype=np.int32).reshape(-1, 2).T
        unit = "ns" if self._units == {"ns"} else ""
        return StackProfile(
            [*self._functions], [*self._threads], [*self._probes], calls, parents, call_of, samples, unit
        )

    def _frame_call(self, frame: TraceFrame) -> int:
        key = (
            *(frame.function, frame.address, frame.line, frame.inlined, frame.module),
            *(frame.file, frame.column, frame.build_id, frame.space),
        )
        found = self._call_index.get(key)
        if found is None:  # the function is made for new calls alone: most frames have been seen before
            found = self._call(key, function_of_frame(frame))
            self._addresses[found] = frame.address & _MASK
            self._lines[found], self._columns[found] = frame.line or 0, frame.column or 0
            self._inlined[found] = frame.inlined
        return found

    def _mark(self, text: str) -> int:
        """A call that is no code."""
        found = self._call_index.get((text,))
        return self._call((text,), Function(text, "")) if found is None else found

    def _call(self, key: tuple[object, ...], function: Function) -> int:
        """A new call, of which nothing but the function is known."""
        number = self._call_index[key] = len(self._call_functions)
        self._call_functions.append(_number(self._functions, function))
        for column in (self._addresses, self._lines, self._columns, self._inlined):
            column.append(0)
        return number

    def _child(self, parent: int, call: int) -> int:
        children, key = self._children, (parent, call)
        found = children.get(key)
        if found is None:
            found = children[key] = len(children)
        return found


def _number(numbers: dict[_Item, int], item: _Item) -> int:
    return numbers.setdefault(item, len(numbers))
