"""The distinct frames of stacks in columns, and what a trace says of each: for many stacks each is made once.

Takes `StackColumns` in order; gives the frames numbers, the kernel's among them, and for a number the frames of a trace
in columns (`unwind.frame_columns`), inlined calls included, as `unwind.trace_builder` would make them. Numbers begin at
`first`: what is below is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values, first_met
from cfi_tables.layout import StopReason
from relay_reader.capture import KERNEL_PID, Event, KernelCodeNamed, MappingAdded
from relay_reader.perf_scan import COMPAT_REGISTERS, GUEST
from unwind.column_names import ColumnNames
from unwind.column_stacks import ColumnWalker, Int32s, Places, StackColumns
from unwind.distinct_rows import DistinctRows
from unwind.frame_columns import KERNEL, NO_TEXT, USER, FrameColumns, FrameTables, TextTable
from unwind.module import Module
from unwind.place_table import PLACE_KEY, PLACE_LOOKUP, PLACE_MODULE, PLACE_PC

if TYPE_CHECKING:
    from unwind.kernel.kernel_chain import KernelNames
    from unwind.trace import TraceFrame

_MASK = (1 << 64) - 1


class OtherWalkError(Exception):
    """A sample is of a virtual machine's guest, whose stack is told, or of a 32-bit task: columns walk neither."""


class ColumnFrames:
    """The frames of all stacks so far, of those that `walker` walks."""

    def __init__(self, walker: ColumnWalker, kernel: KernelNames, first: int) -> None:
        self.first = first
        self.count = first
        """One more than the greatest number given."""
        self.some_in_no_file = False
        """Whether a frame lies in memory that no file is mapped to, as code does that was made at run time."""
        self._walker = walker
        self._kernel = kernel
        self._names = ColumnNames()
        self._rows = DistinctRows(4)
        """Of the user's frames: pc, module, lookup address, and the path of its mapping where it is in no module."""
        self._number_of_row: Int32s = np.zeros(0, dtype=np.int32)
        self._paths = TextTable()
        self._kernel_frames: dict[int, list[TraceFrame]] = {}
        self._of_kernel: dict[tuple[int, bool], int] = {}
        self._of_places: WeakKeyDictionary[Places, Int32s] = WeakKeyDictionary()
        self._entries: dict[int, bool] = {}
        self._seen = np.zeros(0, dtype=np.int64)

    # --- numbers

    def numbers(self, stacks: StackColumns) -> Int32s:
        """The number of each place that the user's frames of `stacks` count in. Raises OtherWalkError."""
        if (stacks.faults & (GUEST | COMPAT_REGISTERS)).any():
            raise OtherWalkError
        places = stacks.places
        known = self._of_places.get(places, np.zeros(0, dtype=np.int32))
        if len(known) < places.count:
            found = self._new_numbers(places, len(known))
            known = self._of_places[places] = np.concatenate((known, found))
        self._count_frames(stacks, known)
        return known

    def _new_numbers(self, places: Places, begin: int) -> Int32s:
        """The numbers of the places from `begin` on."""
        pcs, modules, lookups = (places.column(each)[begin:] for each in (PLACE_PC, PLACE_MODULE, PLACE_LOOKUP))
        paths = np.full(len(pcs), NO_TEXT, dtype=np.int64)
        keys = places.column(PLACE_KEY)[begin:]
        for at in np.flatnonzero(modules < 0).tolist():  # what is no file's may have a name all the same
            key = int(keys[at])
            mapping = self._walker.mapping_at(key >> 1, (int(pcs[at]) - (1 - (key & 1))) & _MASK)
            paths[at] = self._paths.number(None if mapping is None else mapping.path)
            self.some_in_no_file |= mapping is not None
        rows = self._rows.numbers(np.stack((pcs, modules, lookups, paths)))
        new = self._rows.count - len(self._number_of_row)
        numbers = np.arange(self.count, self.count + new, dtype=np.int32)
        self._number_of_row = np.concatenate((self._number_of_row, numbers))
        self.count += new
        return self._number_of_row[rows]

    def _count_frames(self, stacks: StackColumns, known: Int32s) -> None:
        counts = np.bincount(stacks.frames, minlength=len(known))
        if len(self._seen) < self.count - self.first:
            self._seen = np.concatenate((self._seen, np.zeros(2 * self.count, dtype=np.int64)))
        np.add.at(self._seen, known - self.first, counts)

    def kernel_numbers(self, stacks: StackColumns) -> Int32s:
        """The number of each of the kernel's frames, as the kernel was called when they were met."""
        found = np.zeros(len(stacks.kernel_addresses), dtype=np.int32)
        done = 0
        for before, event in stacks.events:
            if _is_of_kernel(event):
                end = int(stacks.kernel_ends[before - 1]) if before else 0
                self._number_kernel(stacks, found, done, end)
                done = max(done, end)
                self._kernel.apply(event)
                self._of_kernel.clear()
        self._number_kernel(stacks, found, done, len(found))
        return found

    def _number_kernel(self, stacks: StackColumns, found: Int32s, begin: int, end: int) -> None:
        """Number the frames of the kernel's from `begin` to `end`: all of them by the names that hold now."""
        if begin >= end:
            return
        exact = np.zeros(len(found) + 1, dtype=bool)
        exact[0] = True
        exact[stacks.kernel_ends] = True  # what follows the last frame of a chain is the interrupted pc of the next
        for is_exact in (True, False):
            chosen = begin + np.flatnonzero(exact[begin:end] == is_exact)
            addresses = stacks.kernel_addresses[chosen]
            distinct = distinct_values(addresses)
            numbers = self._numbers_of_kernel([each & _MASK for each in distinct.tolist()], is_exact)
            found[chosen] = numbers[np.searchsorted(distinct, addresses)]

    def _numbers_of_kernel(self, addresses: list[int], exact: bool) -> Int32s:
        new = [each for each in addresses if (each, exact) not in self._of_kernel]
        if new and not exact:
            self._kernel.frames((new[0], *new))  # all at once takes less time than one by one, as below
        for each in new:
            # Of a chain the first address is the interrupted one.
            frames = self._kernel.frames((each,) if exact else (each, each))
            self._kernel_frames[self.count] = frames if exact else frames[len(self._kernel.frames((each,))) :]
            self._of_kernel[each, exact] = self.count
            self.count += 1
        return np.array([self._of_kernel[each, exact] for each in addresses], dtype=np.int32)

    # --- what they are

    def stops(self, stacks: StackColumns) -> Int32s:
        """Why each stack ends, as a trace tells it."""
        stops = stacks.reasons.copy()
        for sample in np.flatnonzero(stops == StopReason.NO_ROW).tolist():
            if self._is_entry(stacks, stacks.frames_of(sample)):
                stops[sample] = StopReason.END_OF_STACK
        kernel = np.diff(stacks.kernel_ends, prepend=0) > 0
        # A thread of the kernel itself, or an idle processor: no program, no user's part.
        idle = np.flatnonzero((stops == StopReason.NO_REGISTERS) & kernel)
        empty = [number for number in distinct_values(stacks.sets[idle]).tolist() if self._walker.is_empty(number)]
        stops[idle[np.isin(stacks.sets[idle], empty)]] = StopReason.END_OF_STACK
        return stops

    def _is_entry(self, stacks: StackColumns, frames: slice) -> bool:
        """Whether a stack ends in the code that the kernel starts a program with."""
        if frames.stop == frames.start:
            return False
        place = int(stacks.frames[frames.stop - 1])
        number = int(self._of_places[stacks.places][place])
        found = self._entries.get(number)
        if found is None:
            module, lookup = (int(stacks.places.column(each)[place]) for each in (PLACE_MODULE, PLACE_LOOKUP))
            found = module >= 0 and stacks.modules[module].is_entry_code(lookup & _MASK)
            self._entries[number] = found
        return found

    def columns(self) -> FrameColumns:
        """For each number, less `first`, the frames of a trace.

        Names are looked up now. Raises SymbolIndexError and TableError, as `ColumnNames.numbers_of`.
        """
        modules, tables = self._walker.modules, FrameTables()
        pcs, owners, lookups, paths = self._rows.columns
        names = self._names.columns(self._names.numbers_at(owners, lookups, modules), tables.names, tables.files)
        counts = np.maximum(names.counts, 1)  # what has no name is a frame all the same
        has_name = np.repeat(names.counts > 0, counts)
        kernel = [(number, frame) for number, frames in self._kernel_frames.items() for frame in frames]
        met = np.repeat(self._number_of_row, counts), np.array([number for number, _ in kernel], dtype=np.int64)
        numbers = np.concatenate(met) - self.first
        order = np.argsort(numbers, kind="stable")
        of_module = [tables.modules.number(module.path, _build_id(module)) for module in modules]
        of_path = [tables.modules.number(path, None) for path in self._paths.texts]
        of_row = np.array([*of_module, *of_path], dtype=np.int32)[np.where(owners < 0, len(modules) + paths, owners)]

        def whole(user: NDArray[Any], others: list[Any]) -> NDArray[Any]:
            return np.concatenate((user, np.array(others, dtype=user.dtype)))[order]

        def of_names(column: NDArray[Any], others: list[Any]) -> NDArray[Any]:
            user = np.zeros(len(has_name), dtype=column.dtype)
            user[has_name] = column
            return whole(user, others)

        return FrameColumns(
            ends=np.cumsum(np.bincount(numbers, minlength=self.count - self.first)),
            spaces=whole(np.full(len(has_name), USER, dtype=np.int32), [KERNEL] * len(kernel)),
            addresses=whole(np.repeat(pcs, counts).view(np.uint64), [frame.address & _MASK for _, frame in kernel]),
            modules=whole(
                np.repeat(of_row, counts),
                [tables.modules.number(frame.module, frame.build_id) for _, frame in kernel],
            ),
            names=of_names(names.functions, [tables.names.number(frame.function) for _, frame in kernel]),
            files=of_names(names.files, [tables.files.number(frame.file) for _, frame in kernel]),
            lines=of_names(names.lines, [frame.line or 0 for _, frame in kernel]),
            columns=of_names(names.columns, [frame.column or 0 for _, frame in kernel]),
            inlined=of_names(names.inlined, [frame.inlined for _, frame in kernel]),
            tables=tables,
        )

    def without_lines(self) -> list[tuple[Module, Int32s]]:
        """The modules that have no lines at all, and the numbers of the frames in them; after `columns`."""
        _, owners, _, _ = self._rows.columns
        modules = self._walker.modules
        met = [owner for owner in first_met(owners).tolist() if owner >= 0]
        lacking = [owner for owner in met if not self._names.has_lines(modules[owner])]
        return [(modules[owner], self._number_of_row[owners == owner]) for owner in lacking]

    def times_met(self, numbers: Int32s) -> int:
        """In how many places of stacks frames of the user's were."""
        return int(self._seen[numbers - self.first].sum())


def _is_of_kernel(event: Event) -> TypeGuard[MappingAdded | KernelCodeNamed]:
    return isinstance(event, KernelCodeNamed) or (isinstance(event, MappingAdded) and event.pid == KERNEL_PID)


def _build_id(module: Module) -> str | None:
    return module.build_id.hex() if module.build_id else None
