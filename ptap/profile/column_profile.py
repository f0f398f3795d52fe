"""A stack profile of stacks in columns: what adding each sample's trace comes to, without making the traces.

Samples go into a tree of frame numbers (`unwind.stack_tree`); when all are there each distinct frame is named, and the
tree is made one of calls. Everything is numbered in the order in which traces would have brought it, so that a report
is the same, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import first_met, numbered_as_met
from cfi_tables.layout import StopReason
from ptap.profile.column_calls import ColumnCalls
from ptap.profile.sample_columns import SampleColumns, joined_samples
from ptap.profile.stack_profile import StackProfile, Thread
from relay_reader.capture import MappingAdded, RecordsLost
from unwind.address_space import AddressSpaces
from unwind.column_frames import ColumnFrames
from unwind.column_stacks import Int32s, Int64s, StackColumns
from unwind.stack_tree import StackTree
from unwind.tree_order import united_marks

if TYPE_CHECKING:
    from ptap.report.trace_filter import TraceFilter
    from relay_reader.capture import Event
    from unwind.module import Module

_NO_MARK = -1
_UNWANTED = -1
_LOW = 0xFFFFFFFF
_MARKS = 62
"""Modules that are marked at once: bits of an int64."""


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
        self._threads: dict[Thread, int] = {}
        self._first_time: int | None = None
        self._pieces: list[SampleColumns] = []
        """Those that are wanted; their stacks are nodes of the tree."""

    def add(self, stacks: StackColumns) -> None:
        """Add samples and the events between them. Raises OtherWalkError."""
        numbers, kernel = self._frames.numbers(stacks), self._frames.kernel_numbers(stacks)
        stops = self._frames.stops(stacks)
        self.samples += len(stops)
        for reason in first_met(stops).tolist():  # as they were met: of equally many the first one is told first
            if reason != StopReason.END_OF_STACK:
                self.cut_short[StopReason(reason)] += int(np.count_nonzero(stops == reason))
        chosen, threads = self._chosen(stacks)
        self.left_out += len(stops) - len(chosen)
        marks = _marks(stacks, stops)
        columns = marks, (stacks.kernel_ends, kernel), (stacks.frame_ends, stacks.frames), numbers
        leaves = self._tree.add(chosen, *columns)
        if len(chosen) < len(stops):
            self._other_leaves.append(self._others.add(np.setdiff1d(np.arange(len(stops)), chosen), *columns))
        self._pieces.append(
            SampleColumns(
                stacks=leaves,
                threads=threads,
                times=stacks.times[chosen].view(np.uint64),
                cpus=stacks.cpus[chosen].astype(np.int32),
                weights=stacks.weights[chosen].view(np.uint64),
                probes=stacks.sources[chosen].astype(np.int32),
            )
        )

    # --- whose samples they are

    def _chosen(self, stacks: StackColumns) -> tuple[Int64s, Int32s]:
        """The indices of the samples that are wanted for what they are themselves, and their threads."""
        chosen = np.flatnonzero(self._fits(stacks))
        # A thread is looked up once for as long as nothing happens that could give it another name.
        events = [(before, event) for before, event in stacks.events if self._tells(event)]
        stages = np.searchsorted(np.array([before for before, _ in events], dtype=np.int64), chosen, side="right")
        distinct, tasks = np.unique(stacks.tasks[chosen], return_inverse=True)
        keys, firsts, places = np.unique(stages * max(len(distinct), 1) + tasks, return_index=True, return_inverse=True)
        threads = np.empty(len(keys), dtype=np.int32)
        done = 0
        for key in np.argsort(firsts).tolist():
            sample = int(firsts[key])
            done = self._apply(events, done, int(stages[sample]))
            threads[key] = self._thread(int(stacks.tasks[chosen[sample]]))
        self._apply(events, done, len(events))
        found = threads[places]
        return chosen[found != _UNWANTED], found[found != _UNWANTED]

    def _fits(self, stacks: StackColumns) -> NDArray[np.bool_]:
        """Whether each sample is wanted for its time and its processor."""
        wanted = self._wanted
        fits = np.ones(len(stacks.times), dtype=np.bool_)
        if self._first_time is None and len(fits):
            self._first_time = int(stacks.times[0])
        since_first = (stacks.times - (self._first_time or 0)) / 1e9
        if wanted.cpus:
            fits &= np.isin(stacks.cpus, wanted.cpus)
        if wanted.begin_s is not None:
            fits &= since_first >= wanted.begin_s
        if wanted.end_s is not None:
            fits &= since_first < wanted.end_s
        return fits

    def _thread(self, task: int) -> int:
        """The number of a thread as it is called now; _UNWANTED for one that was not asked for."""
        pid, tid = task & _LOW, task >> 32 & _LOW
        thread = Thread(pid, tid, self._spaces.comm(pid, tid))
        if not self._wanted.is_wanted_thread(thread.pid, thread.tid, thread.comm):
            return _UNWANTED
        return self._threads.setdefault(thread, len(self._threads))

    def _tells(self, event: Event) -> bool:
        """Whether an event tells of threads; lost records are counted."""
        if isinstance(event, RecordsLost):
            self.lost += event.count
            return False
        return not isinstance(event, MappingAdded)  # of mappings the walk knows

    def _apply(self, events: list[tuple[int, Event]], begin: int, end: int) -> int:
        """Apply some of the events; where the next ones begin."""
        for _, event in events[begin:end]:
            self._spaces.apply(event)
        return max(begin, end)

    # --- the profile

    def finish(self) -> None:
        """Make the profile of all that was added. Raises what `ColumnFrames.columns` does."""
        calls = ColumnCalls(self._frames.columns())
        self._count_without_lines()
        samples = joined_samples(self._pieces)
        if self._wanted.is_of_frames:
            samples, tree = self._reduced(calls, samples)
        else:
            parts = calls.parts()
            tree, stacks = self._tree.expanded(parts.ends, parts.calls)
            samples.stacks = stacks[samples.stacks]
        call_of, columns, functions = calls.of_tree(tree.frames)
        threads = list(self._threads)
        met, samples.threads = numbered_as_met(samples.threads)
        whose = [threads[number] for number in met.tolist()]
        self.profile = StackProfile(functions, whose, [*self._probes], columns, tree.parents.copy(), call_of, samples)

    def _reduced(self, calls: ColumnCalls, samples: SampleColumns) -> tuple[SampleColumns, StackTree]:
        """The samples that are wanted for their frames, and a tree of those frames that are."""
        asked, need = calls.asked_for(self._wanted)
        marks = united_marks(self._tree.parents, asked[self._tree.frames])
        chosen = np.flatnonzero(marks[samples.stacks] & need == need)
        self.left_out += len(samples) - len(chosen)
        wanted = samples.chosen(chosen)
        met, which = numbered_as_met(wanted.stacks)
        tree, leaves = self._tree.reduced(
            met.astype(np.int32), *calls.shown_parts(self._wanted), calls.call_of_no_stack()
        )
        wanted.stacks = leaves[which]
        return wanted, tree

    def _count_without_lines(self) -> None:
        lacking = self._frames.without_lines()
        for module, numbers in lacking:
            self.frames_without_lines[module] += self._frames.times_met(numbers)
        trees = (self._tree, [piece.stacks for piece in self._pieces]), (self._others, self._other_leaves)
        for begin in range(0, len(lacking), _MARKS):
            some = lacking[begin : begin + _MARKS]
            marks = np.zeros(self._frames.count, dtype=np.int64)
            for place, (_, numbers) in enumerate(some):
                marks[numbers] |= 1 << place
            for tree, leaves in trees:
                united = united_marks(tree.parents, marks[tree.frames])
                counts = np.zeros(len(united), dtype=np.int64)
                for each in leaves:
                    counts += np.bincount(each, minlength=len(united))
                for place, (module, _) in enumerate(some):
                    self.stacks_without_lines[module] += int(counts[united >> place & 1 != 0].sum())


def _marks(stacks: StackColumns, stops: Int32s) -> Int32s:
    """What each stack hangs below: nothing where it is whole, unless it is without any frame."""
    frames = np.diff(stacks.frame_ends, prepend=0) + np.diff(stacks.kernel_ends, prepend=0)
    whole = (stops == StopReason.END_OF_STACK) & (frames > 0)
    return np.where(whole, _NO_MARK, stops).astype(np.int32)
