"""The model of `ptap top`: traces added up since the start and over a sliding window, for each thread and all of them.

Knows no terminal and reads no clock: times are those of the traces, and `advance` is told the present.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from cfi_tables.layout import StopReason
from ptap.profile.stack_profile import Function, Thread, end_mark, function_of_frame
from ptap.top.tally import Stack, Tally

if TYPE_CHECKING:
    from unwind.trace import Trace, TraceFrame


LONGEST_WAIT_S = 1.0
"""How long traces may wait at their source until they are added up, whatever is shown of them."""


class TraceSource(Protocol):
    """Where traces come from: a session, or a test."""

    @property
    def now_ns(self) -> int:
        """The present of the traces' times."""

    def take(self) -> list[Trace]:
        """The traces that are new since this was last called."""


class Scope(Enum):
    """Over which time samples are added up."""

    WINDOW = "window"
    START = "start"


class SlidingProfile:
    """Samples since `begun_ns`, and those of the last `window_ns` before the present (nanoseconds of the traces)."""

    def __init__(self, window_ns: int, begun_ns: int) -> None:
        self.window_ns = window_ns
        self.begun_ns = begun_ns
        self.now_ns = begun_ns
        """The present, as it was told; it never goes back."""
        self.functions: list[Function] = []
        self._tallies: dict[Scope, dict[Thread | None, Tally]] = {scope: {None: Tally()} for scope in Scope}
        self._recent: deque[tuple[int, Thread, Stack, int]] = deque()
        """Time, thread, stack and weight of the samples in the window, as they came."""
        self._threads: dict[Thread, Thread] = {}
        self._function_index: dict[Function, int] = {}
        self._frame_index: dict[tuple[object, ...], int] = {}
        self._stacks: dict[tuple[int, ...], Stack] = {}

    def add(self, trace: Trace) -> None:
        """Add one trace; it is in the window as long as that holds its time."""
        stack = self._stack(trace)
        thread = Thread(trace.pid, trace.tid, trace.comm)
        thread = self._threads.setdefault(thread, thread)
        self._change(Scope.START, thread, stack, trace.weight)
        if trace.time_ns > self.now_ns - self.window_ns:
            self._change(Scope.WINDOW, thread, stack, trace.weight)
            self._recent.append((trace.time_ns, thread, stack, trace.weight))

    def take(self, source: TraceSource) -> None:
        """Add the traces that are new, and advance to the present of their source."""
        for trace in source.take():
            self.add(trace)
        self.advance(source.now_ns)

    def advance(self, now_ns: int) -> None:
        """Tell the present: what is older than the window leaves it."""
        self.now_ns = max(self.now_ns, now_ns)
        oldest = self.now_ns - self.window_ns
        # Samples of several processors come nearly in the order of their times: a late one leaves a little late.
        while self._recent and self._recent[0][0] <= oldest:
            _, thread, stack, weight = self._recent.popleft()
            tallies = self._tallies[Scope.WINDOW]
            tallies[None].remove(stack, weight)
            tallies[thread].remove(stack, weight)
            if not tallies[thread].samples:
                del tallies[thread]

    def reset(self) -> None:
        """Forget all samples; the start is now."""
        self.begun_ns = self.now_ns
        self._tallies = {scope: {None: Tally()} for scope in Scope}
        self._recent.clear()
        self._stacks.clear()

    def frozen(self) -> SlidingProfile:
        """A copy that later samples do not change; of functions it shares the list, which only grows."""
        copy = SlidingProfile(self.window_ns, self.begun_ns)
        copy.now_ns, copy.functions = self.now_ns, self.functions
        copy._tallies = {
            scope: {thread: tally.copy() for thread, tally in tallies.items()}
            for scope, tallies in self._tallies.items()
        }
        return copy

    def tally(self, scope: Scope, thread: Thread | None = None) -> Tally:
        """The weights of a thread, or of all; empty ones of a thread that has no samples there."""
        return self._tallies[scope].get(thread) or Tally()

    def threads(self, scope: Scope) -> list[tuple[Thread, Tally]]:
        """The threads that have samples there."""
        return [(thread, tally) for thread, tally in self._tallies[scope].items() if thread is not None]

    def seconds(self, scope: Scope) -> float:
        """How long the time is that samples there are of."""
        since_start = self.now_ns - self.begun_ns
        return (min(since_start, self.window_ns) if scope is Scope.WINDOW else since_start) / 1e9

    def _change(self, scope: Scope, thread: Thread, stack: Stack, weight: int) -> None:
        tallies = self._tallies[scope]
        tallies[None].add(stack, weight)
        tally = tallies.get(thread)
        if tally is None:
            tally = tallies[thread] = Tally()
        tally.add(stack, weight)

    def _stack(self, trace: Trace) -> Stack:
        functions = [self._function_of(frame) for frame in trace.frames]
        mark = end_mark(trace)
        if mark is not None:
            functions.append(self._index(Function(mark, "")))
        key = tuple(functions)
        stack = self._stacks.get(key)
        if stack is None:
            # The mark, which is in the key, says whether the stack is cut.
            cut = trace.stop is not StopReason.END_OF_STACK
            stack = self._stacks[key] = Stack(key, tuple(dict.fromkeys(key)), cut)
        return stack

    def _function_of(self, frame: TraceFrame) -> int:
        key = (frame.function, frame.module, frame.file, frame.build_id, frame.space)
        found = self._frame_index.get(key)
        if found is None:
            found = self._frame_index[key] = self._index(function_of_frame(frame))
        return found

    def _index(self, function: Function) -> int:
        found = self._function_index.get(function)
        if found is None:
            found = self._function_index[function] = len(self.functions)
            self.functions.append(function)
        return found
