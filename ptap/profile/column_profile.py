"""A stack profile of stacks in columns: what adding each sample's trace comes to, without making the traces.

Samples go into a tree of frame numbers (`unwind.stack_tree`); when all are there each distinct frame is named, and the
tree is made one of calls. Everything is numbered in the order in which traces would have brought it, so that a report
is the same, byte for byte.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cfi_tables.layout import StopReason
from ptap.profile.profile_builder import ProfileBuilder
from ptap.profile.sample_columns import SampleColumns, first_met
from ptap.profile.stack_profile import StackProfile, Thread, missing_frames
from relay_reader.capture import MappingAdded, RecordsLost
from unwind.address_space import AddressSpaces
from unwind.column_frames import ColumnFrames
from unwind.column_stacks import Int32s, Int64s, StackColumns
from unwind.stack_tree import ROOT, StackTree
from unwind.trace import Trace

if TYPE_CHECKING:
    from ptap.report.trace_filter import TraceFilter
    from relay_reader.capture import Event
    from unwind.module import Module
    from unwind.trace import TraceFrame

FIRST_FRAME = 1 + max(StopReason)
"""Below it a number is a StopReason: the mark of a stack that was cut short, or END_OF_STACK."""
_NO_MARK = -1
_UNWANTED = -1
_LOW = 0xFFFFFFFF


class _Samples(NamedTuple):
    """Those that are wanted of one piece of stacks."""

    leaves: Int32s
    threads: list[int]
    times: list[int]
    cpus: list[int]
    weights: list[int]
    sources: list[int]


class ColumnProfile:
    """Makes one profile of the samples that `wanted` lets through; the numbers of `frames` begin at FIRST_FRAME.

    `probes` are the names of the file's events.
    """

    def __init__(self, frames: ColumnFrames, wanted: TraceFilter, probes: Sequence[str]) -> None:
        self.profile: StackProfile
        """All that was added, after `finish`."""
        self.samples = 0
        """Those that were added, wanted or not,"""
        self.left_out = 0
        """how many of them were not wanted,"""
        self.lost = 0
        """the records that were lost meanwhile,"""
        self.cut_short: Counter[StopReason] = Counter()
        """and why stacks have no more frames."""
        self.frames_without_lines: Counter[Module] = Counter()
        """By module, after `finish`, as the next,"""
        self.stacks_without_lines: Counter[Module] = Counter()
        """of all samples."""
        self._frames = frames
        self._wanted = wanted
        self._probes = probes
        self._spaces = AddressSpaces()
        self._tree = StackTree()
        self._others = StackTree()
        """The stacks that are not wanted."""
        self._other_leaves: list[Int32s] = []
        self._threads: list[Thread] = []
        self._thread_index: dict[Thread, int] = {}
        self._of_task: dict[int, int] = {}
        self._first_time: int | None = None
        self._pieces: list[_Samples] = []

    def add(self, stacks: StackColumns) -> None:
        """Add samples and the events between them. Raises OtherWalkError."""
        numbers, kernel = self._frames.numbers(stacks), self._frames.kernel_numbers(stacks)
        stops = self._frames.stops(stacks)
        self.samples += len(stops)
        reasons, first_met, counts = np.unique(stops, return_index=True, return_counts=True)
        for index in np.argsort(first_met).tolist():  # as they were met: of equally many the first one is told first
            if reasons[index] != StopReason.END_OF_STACK:
                self.cut_short[StopReason(int(reasons[index]))] += int(counts[index])
        chosen, threads = self._chosen(stacks)
        marks = _marks(stacks, stops)
        columns = marks, (stacks.kernel_ends, kernel), (stacks.frame_ends, stacks.frames), numbers
        leaves = self._tree.add(chosen, *columns)
        if len(chosen) < len(stops):
            self._other_leaves.append(self._others.add(np.setdiff1d(np.arange(len(stops)), chosen), *columns))
        times, weights = (each[chosen].view(np.uint64).tolist() for each in (stacks.times, stacks.weights))
        cpus, sources = (each[chosen].tolist() for each in (stacks.cpus, stacks.sources))
        self._pieces.append(_Samples(leaves, threads, times, cpus, weights, sources))

    # --- whose samples they are

    def _chosen(self, stacks: StackColumns) -> tuple[Int64s, list[int]]:
        """The indices of the samples that are wanted for what they are themselves, and their threads."""
        count = len(stacks.times)
        fits = self._fits(stacks)
        events = [*stacks.events, (count, None)]
        at = 0
        of_task = self._of_task
        chosen, threads = array("q"), []
        for sample, task in enumerate(stacks.tasks.tolist()):
            while sample >= events[at][0]:
                self._apply(events[at][1])
                at += 1
            thread = of_task.get(task)
            if thread is None:
                thread = of_task[task] = self._thread(task)
            if thread != _UNWANTED and (fits is None or fits[sample]):
                chosen.append(sample)
                threads.append(thread)
        for _, event in events[at:]:
            self._apply(event)
        self.left_out += count - len(chosen)
        return np.array(chosen, dtype=np.int64), threads

    def _fits(self, stacks: StackColumns) -> list[bool] | None:
        """Whether each sample is wanted for its time and its processor; None where all are."""
        times = stacks.times.view(np.uint64)
        if self._first_time is None and len(times):
            self._first_time = int(times[0])
        first = self._first_time
        if first is None or not self._wanted.is_of_moments:
            return None
        return [
            self._wanted.is_wanted_moment((time - first) / 1e9, cpu)
            for time, cpu in zip(times.tolist(), stacks.cpus.tolist(), strict=True)
        ]

    def _thread(self, task: int) -> int:
        """The number of a thread as it is called now; _UNWANTED for one that was not asked for."""
        pid, tid = task & _LOW, task >> 32 & _LOW
        thread = Thread(pid, tid, self._spaces.comm(pid, tid))
        if not self._wanted.is_wanted_thread(thread.pid, thread.tid, thread.comm):
            return _UNWANTED
        found = self._thread_index.setdefault(thread, len(self._threads))
        if found == len(self._threads):
            self._threads.append(thread)
        return found

    def _apply(self, event: Event | None) -> None:
        if isinstance(event, RecordsLost):
            self.lost += event.count
        elif event is not None and not isinstance(event, MappingAdded):  # of mappings the walk knows
            self._spaces.apply(event)
            self._of_task.clear()

    # --- the profile

    def finish(self) -> None:
        """Make the profile of all that was added. Raises what `ColumnFrames.trace_frames` does."""
        frames = self._frames.trace_frames()
        self._count_without_lines()
        self.profile = self._filtered(frames) if self._wanted.is_of_frames else self._whole(frames)

    def _count_without_lines(self) -> None:
        lacking = self._frames.without_lines()
        for number, module in lacking.items():
            self.frames_without_lines[module] += self._frames.times_met(number)
        if not lacking:
            return
        modules = list(self.frames_without_lines)
        bits = {number: 1 << modules.index(module) for number, module in lacking.items()}
        for tree, leaves in (
            (self._tree, [piece.leaves for piece in self._pieces]),
            (self._others, self._other_leaves),
        ):
            samples: Counter[int] = Counter()
            for which, count in zip(_united(tree, bits), _counts(tree, leaves), strict=True):
                samples[which] += count
            for place, module in enumerate(modules):
                self.stacks_without_lines[module] += sum(n for which, n in samples.items() if which >> place & 1)

    def _whole(self, frames: list[list[TraceFrame]]) -> StackProfile:
        """The profile of every stack in the tree."""
        calls = ProfileBuilder()
        tree, stacks = _expanded(self._tree, self._frames.count, frames, calls)
        profile = calls.profile()
        profile.parents, profile.call_of, profile.threads = tree.parents, tree.frames, self._threads
        profile.samples = _joined(self._pieces, stacks)
        profile.probes = list(self._probes)
        return profile

    def _filtered(self, frames: list[list[TraceFrame]]) -> StackProfile:
        """The profile of the stacks whose frames are wanted, with those frames that are: each is looked at once."""
        builder, wanted = ProfileBuilder(), self._wanted
        parents, numbers = self._tree.parents.tolist(), self._tree.frames.tolist()
        shown: dict[int, tuple[StopReason, list[TraceFrame]] | None] = {}
        for piece in self._pieces:
            columns = piece.threads, piece.times, piece.cpus, piece.weights, self._probes_of(piece)
            for leaf, number, time, cpu, weight, probe in zip(piece.leaves.tolist(), *columns, strict=True):
                if leaf not in shown:
                    stop, stack = _stack(leaf, parents, numbers, frames)
                    shown[leaf] = (stop, wanted.frames(stack)) if wanted.has_wanted(stack) else None
                found = shown[leaf]
                if found is None:
                    self.left_out += 1
                    continue
                who = self._threads[number]
                builder.add(Trace(probe, time, cpu, who.pid, who.tid, who.comm, weight, *found))
        return builder.profile()

    def _probes_of(self, piece: _Samples) -> Iterator[str]:
        return map(self._probes.__getitem__, piece.sources)


def _joined(pieces: list[_Samples], stacks: Int32s) -> SampleColumns:
    """All samples, `stacks` those that the leaves came to."""
    leaves = np.concatenate([piece.leaves for piece in pieces]) if pieces else np.zeros(0, dtype=np.int32)

    def column(name: str, dtype: type) -> np.ndarray[Any, Any]:
        return np.array([value for piece in pieces for value in getattr(piece, name)], dtype=dtype)

    return SampleColumns(
        *(stacks[leaves], column("threads", np.int32), column("times", np.uint64)),
        column("cpus", np.int64).astype(np.int32),
        *(column("weights", np.uint64), column("sources", np.int32)),
    )


def _expanded(
    tree: StackTree, count: int, frames: list[list[TraceFrame]], calls: ProfileBuilder
) -> tuple[StackTree, Int32s]:
    """The tree of the calls of `tree`, of numbers below `count`; for each of its nodes that of the other."""

    def calls_of(number: int) -> list[int]:
        """Innermost first."""
        if number < FIRST_FRAME:
            return [calls._mark(missing_frames(StopReason(number)))]
        # The outer ones come first, as in the order in which a trace is added.
        return [calls._frame_call(frame) for frame in reversed(frames[number - FIRST_FRAME])][::-1]

    met = {number: calls_of(number) for number in first_met(tree.frames).tolist()}
    parts = [met.get(number, []) for number in range(count)]
    ends = np.cumsum([len(each) for each in parts], dtype=np.int64)
    return tree.expanded(ends, np.array([call for each in parts for call in each], dtype=np.int32))


def _marks(stacks: StackColumns, stops: Int32s) -> Int32s:
    """What each stack hangs below: nothing where it is whole, unless it is without any frame."""
    frames = np.diff(stacks.frame_ends, prepend=0) + np.diff(stacks.kernel_ends, prepend=0)
    whole = (stops == StopReason.END_OF_STACK) & (frames > 0)
    return np.where(whole, _NO_MARK, stops).astype(np.int32)


def _united(tree: StackTree, bits: dict[int, int]) -> list[int]:
    """For each node of a tree the bits of all numbers from there to the root."""
    united: list[int] = []
    for parent, number in zip(tree.parents.tolist(), tree.frames.tolist(), strict=True):
        united.append(bits.get(number, 0) | (united[parent] if parent != ROOT else 0))
    return united


def _counts(tree: StackTree, leaves: list[Int32s]) -> list[int]:
    """How many of `leaves` each node of a tree is."""
    counts = np.zeros(len(tree.parents), dtype=np.int64)
    for each in leaves:
        counts += np.bincount(each, minlength=len(counts))
    found: list[int] = counts.tolist()
    return found


def _stack(
    leaf: int, parents: list[int], numbers: list[int], frames: list[list[TraceFrame]]
) -> tuple[StopReason, list[TraceFrame]]:
    """Why the stack of a leaf ends, and its frames, innermost first."""
    stop, stack = StopReason.END_OF_STACK, []
    while leaf != ROOT:
        number = numbers[leaf]
        if number < FIRST_FRAME:
            stop = StopReason(number)
        else:
            stack += frames[number - FIRST_FRAME]
        leaf = parents[leaf]
    return stop, stack
