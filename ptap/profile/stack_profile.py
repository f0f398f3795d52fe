"""The stack profile: traces merged to a tree of calls, and a row for each trace that was added.

Owns the tree and its tables; traces come from any capture (`unwind.trace`), the formats beside this file read them.
Nothing is dropped: the samples' weights are those of the traces, whatever is known of their frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from os.path import basename
from typing import TYPE_CHECKING, TypeVar

from cfi_tables.layout import StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unwind.trace import Trace, TraceFrame

_T = TypeVar("_T")

_OFF_CPU = "off-cpu: "
"""How the names of the events begin that are no places but waits: what they name is shown as the innermost call."""

ROOT = -1
"""Parent of the outermost calls."""


@dataclass(frozen=True, slots=True)
class Function:
    """What samples are added up by: one function, or the code without a name of one module."""

    name: str
    """As shown: of code without a name that of its module in brackets."""
    space: str
    """`kernel` or `user`, empty for what is no code."""
    module: str | None = None
    build_id: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One frame as the tree has it."""

    function: int
    """Index in `StackProfile.functions`."""
    address: int
    """The pc for display; 0 for what is no code."""
    line: int | None = None
    column: int | None = None
    inlined: bool = False


@dataclass(frozen=True, slots=True)
class Thread:
    """Whose stack it is."""

    pid: int
    tid: int
    comm: str


@dataclass(slots=True)
class StackSample:
    """One trace."""

    stack: int
    """Index of the innermost call in the tree."""
    thread: int
    """Index in `StackProfile.threads`."""
    time_ns: int
    cpu: int
    weight: int
    probe: str | None


class StackProfile:
    """A tree of calls, grown by `add`. Parallel lists; a call's parent is its caller and has a lower index."""

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self.calls: list[Call] = []
        self.threads: list[Thread] = []
        self.parents: list[int] = []
        """By stack: that of the caller, or ROOT."""
        self.call_of: list[int] = []
        """By stack: index in `calls`."""
        self.samples: list[StackSample] = []
        self._units: set[str] = set()
        self._function_index: dict[Function, int] = {}
        self._call_index: dict[tuple[object, ...], int] = {}
        self._thread_index: dict[Thread, int] = {}
        self._children: dict[tuple[int, int], int] = {}

    @property
    def weight(self) -> int:
        """Of all samples."""
        return sum(sample.weight for sample in self.samples)

    @property
    def weight_unit(self) -> str:
        """`ns` where all weights are nanoseconds, else empty."""
        return "ns" if self._units == {"ns"} else ""

    @property
    def facts(self) -> str:
        """How much it is, for people."""
        return f"{len(self.samples)} samples, weight {self.weight}{' ns' if self.weight_unit else ''}"

    def add(self, trace: Trace) -> None:
        """Add one trace. A stack that was cut short hangs below a call that says so, never below a true root."""
        stack = ROOT
        mark = end_mark(trace)
        if mark is not None:
            stack = self._child(stack, self._mark(mark))
        for frame in reversed(trace.frames):
            stack = self._child(stack, self._frame_call(frame))
        if trace.probe is not None and trace.probe.startswith(_OFF_CPU):
            stack = self._child(stack, self._mark(f"[{trace.probe}]"))
        self._units.add(trace.weight_unit)
        thread = _index(self.threads, self._thread_index, Thread(trace.pid, trace.tid, trace.comm))
        self.samples.append(StackSample(stack, thread, trace.time_ns, trace.cpu, trace.weight, trace.probe))

    def stack_weights(self) -> dict[int, int]:
        """The weight of each stack that was sampled."""
        weights: dict[int, int] = {}
        for sample in self.samples:
            weights[sample.stack] = weights.get(sample.stack, 0) + sample.weight
        return weights

    def path(self, stack: int) -> Iterator[int]:
        """The calls from the innermost outwards, as indices of stacks."""
        while stack != ROOT:
            yield stack
            stack = self.parents[stack]

    def function_of(self, stack: int) -> Function:
        """The function called there."""
        return self.functions[self.calls[self.call_of[stack]].function]

    def _frame_call(self, frame: TraceFrame) -> int:
        key = (
            *(frame.function, frame.address, frame.line, frame.inlined, frame.module),
            *(frame.file, frame.column, frame.build_id, frame.space),
        )
        found = self._call_index.get(key)
        if found is None:  # the objects are made for new calls alone: most frames have been seen before
            function = self._function(function_of_frame(frame))
            found = self._call_index[key] = len(self.calls)
            self.calls.append(Call(function, frame.address, frame.line, frame.column, frame.inlined))
        return found

    def _mark(self, text: str) -> int:
        """A call that is no code."""
        found = self._call_index.get((text,))
        if found is None:
            found = self._call_index[(text,)] = len(self.calls)
            self.calls.append(Call(self._function(Function(text, "")), 0))
        return found

    def _function(self, function: Function) -> int:
        return _index(self.functions, self._function_index, function)

    def _child(self, parent: int, call: int) -> int:
        found = self._children.get((parent, call))
        if found is None:
            found = self._children[parent, call] = len(self.parents)
            self.parents.append(parent)
            self.call_of.append(call)
        return found


def end_mark(trace: Trace) -> str | None:
    """What stands below the outermost frame in place of a root: why there is none. None for a whole stack."""
    return missing_frames(trace.stop) if trace.stop != StopReason.END_OF_STACK or not trace.frames else None


def missing_frames(stop: StopReason) -> str:
    """How the frames are shown that a stack lacks which ends for that reason."""
    if stop == StopReason.END_OF_STACK:
        return "[no stack]"
    return f"[cut short: {stop.name.lower().replace('_', ' ')}]"


def function_of_frame(frame: TraceFrame) -> Function:
    """What the samples in a frame are added up by."""
    name = frame.function if frame.function is not None else unnamed(frame.module)
    return Function(name, frame.space, frame.module, frame.build_id, frame.file)


def unnamed(module: str | None) -> str:
    """How code without a name is shown: by its module, as perf's readers know it."""
    return f"[{basename(module).strip('[]') or module}]" if module else "[unknown]"


def _index(items: list[_T], index: dict[_T, int], item: _T) -> int:
    found = index.get(item)
    if found is None:
        found = index[item] = len(items)
        items.append(item)
    return found
