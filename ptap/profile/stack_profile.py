"""The stack profile: traces merged to a tree of calls, and a row for each trace that was added.

Owns the model, which is columns: of the tree, of its calls and of the samples. `profile_builder` makes it of traces,
`column_profile` of stacks in columns; the formats beside this file read it. Nothing is dropped: the samples' weights
are those of the traces, whatever is known of their frames.

NumPy comes with those who make a profile: how functions are named is also asked where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from os.path import basename
from typing import TYPE_CHECKING

from cfi_tables.layout import StopReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from ptap.profile.call_columns import CallColumns
    from ptap.profile.sample_columns import SampleColumns
    from unwind.trace import Trace, TraceFrame

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
class Thread:
    """Whose stack it is."""

    pid: int
    tid: int
    comm: str


@dataclass(slots=True)
class StackProfile:
    """A tree of calls and its samples. A stack is the number of its innermost call; that of the caller is lower."""

    functions: list[Function]
    threads: list[Thread]
    probes: list[str]
    """The names of the events that samples are of."""
    calls: CallColumns
    parents: NDArray[np.int32]
    """By stack: that of the caller, or ROOT."""
    call_of: NDArray[np.int32]
    """By stack: index in `calls`."""
    samples: SampleColumns
    weight_unit: str = ""
    """`ns` where all weights are nanoseconds, else empty."""

    @property
    def weight(self) -> int:
        """Of all samples."""
        return self.samples.weight

    @property
    def facts(self) -> str:
        """How much it is, for people."""
        return f"{len(self.samples)} samples, weight {self.weight}{' ns' if self.weight_unit else ''}"

    def path(self, stack: int) -> Iterator[int]:
        """The calls from the innermost outwards, as indices of stacks."""
        while stack != ROOT:
            yield stack
            stack = int(self.parents[stack])

    def function_of(self, stack: int) -> Function:
        """The function called there."""
        return self.functions[int(self.calls.functions[self.call_of[stack]])]

    def functions_of(self) -> NDArray[np.int32]:
        """By stack: index in `functions`."""
        return self.calls.functions[self.call_of]


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
