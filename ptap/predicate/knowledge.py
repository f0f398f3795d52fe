"""What a trace does not tell of itself: where frames are missing, and which of them are above the probed function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cfi_tables.layout import StopReason
from relay_reader.capture import Sample
from relay_reader.predicate_layout import Side
from relay_reader.record_layout import HitFlag
from unwind.trace import Trace, TraceFrame
from unwind.trace_builder import Hit

_KERNEL = "kernel"
_PERF_CHAIN = 127
"""Frames at which perf events cut a chain of the kernel off (kernel.perf_event_max_stack)."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the frames of a trace do not tell themselves."""

    whole: Side | None
    """Where no frame is missing; None where that is nowhere."""
    above: int = 1
    """The first frame of the trace that is above the probed function: 0 at its return."""
    distance: int = 0
    """How many real frames above the probed one `frames[0]` is: 1 at a function's return."""

    def is_whole(self, side: Side) -> bool:
        """Whether no frame is missing on `side`."""
        return self.whole is not None and self.whole & side == side


def knowledge_of(trace: Trace, sample: Sample, hit: Hit | None) -> Knowledge:
    """Of the trace that was made of `sample`; `hit` is the probe, None for a sampling event or a core file."""
    is_return = hit is not None and hit.is_return
    if sample.kernel_stack is not None:
        is_return = bool(sample.kernel_stack.flags & HitFlag.RETURN_PROBE)
    if is_return:
        return Knowledge(_whole(trace, sample), above=0, distance=1)
    at_entry = hit is not None and ".function(" in hit.probe and not hit.probe.endswith(".inline")
    if at_entry and trace.frames and trace.frames[0].space == _KERNEL:
        # What is inlined at a function's first instruction has not begun: none of it calls the function.
        return Knowledge(_whole(trace, sample), above=_of_first_frame(trace.frames))
    return Knowledge(_whole(trace, sample))


def _whole(trace: Trace, sample: Sample) -> Side | None:
    ended = trace.stop is StopReason.END_OF_STACK
    stack = sample.kernel_stack
    if stack is not None and sample.user_stack is not None:
        if not stack.flags & HitFlag.REACHED_USER:
            return None
        return Side.BOTH if ended else Side.KERNEL
    if stack is not None:
        if not ended:
            return None
        return Side.KERNEL if stack.flags & HitFlag.REACHED_USER else Side.BOTH
    in_kernel = sum(frame.space == _KERNEL and not frame.inlined for frame in trace.frames)
    # A thread of the kernel has no registers of a user.
    if sample.told_chain is not None:
        # Frame pointers and branch records miss frames anywhere, and tell nothing of it.
        return Side.KERNEL if in_kernel < _PERF_CHAIN else None
    user = ended or (trace.stop is StopReason.NO_REGISTERS and in_kernel > 0)
    if in_kernel >= _PERF_CHAIN:
        return Side.USER if user else None
    return Side.BOTH if user else Side.KERNEL


def _of_first_frame(frames: Sequence[TraceFrame]) -> int:
    """How many frames of a trace the innermost real frame has, with the calls that are inlined in it."""
    return next((index + 1 for index, frame in enumerate(frames) if not frame.inlined), len(frames))
