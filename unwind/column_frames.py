"""The distinct frames of stacks in columns, and what a trace says of each: for many stacks each is made once.

Takes `StackColumns` in order; gives the frames numbers, the kernel's among them, and for a number the frames of a trace
(`unwind.trace`), inlined calls included, as `unwind.trace_builder` would make them. Numbers begin at `first`: what is
below is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard
from weakref import WeakKeyDictionary

import numpy as np

from cfi_tables.distinct_values import distinct_values
from cfi_tables.layout import StopReason
from relay_reader.capture import KERNEL_PID, Event, KernelCodeNamed, MappingAdded
from relay_reader.perf_scan import COMPAT_REGISTERS, GUEST
from unwind.column_names import ColumnNames
from unwind.column_stacks import ColumnWalker, Int32s, Places, StackColumns
from unwind.module import Module
from unwind.place_table import PLACE_FLAGS, PLACE_KEY, PLACE_LOOKUP, PLACE_MODULE, PLACE_PC
from unwind.trace import TraceFrame
from unwind.walk import FRAME_SIGNAL

if TYPE_CHECKING:
    from unwind.kernel.kernel_chain import KernelNames

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
        self._numbers: dict[tuple[int, int, int, int, str | None], int] = {}
        self._keys: list[tuple[int, int, int, int, str | None] | None] = []
        """By number less `first`: pc, module, lookup address, flags and mapping's path; None for the kernel's."""
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
            rows = zip(
                *(
                    places.column(each)[len(known) :].tolist()
                    for each in (PLACE_PC, PLACE_KEY, PLACE_MODULE, PLACE_LOOKUP, PLACE_FLAGS)
                ),
                strict=True,
            )
            found = [self._number(*row) for row in rows]
            known = self._of_places[places] = np.concatenate((known, np.array(found, dtype=np.int32)))
        self._count_frames(stacks, known)
        return known

    def _number(self, pc: int, key: int, module: int, lookup: int, flags: int) -> int:
        path = None
        if module < 0:  # what is no file's may have a name all the same
            mapping = self._walker.mapping_at(key >> 1, (pc - (1 - (key & 1))) & _MASK)
            path = None if mapping is None else mapping.path
            self.some_in_no_file |= mapping is not None
        whole = pc, module, lookup, flags & FRAME_SIGNAL, path
        found = self._numbers.get(whole)
        if found is None:
            found = self._numbers[whole] = self.count
            self._keys.append(whole)
            self.count += 1
        return found

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
            self._keys.append(None)
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
        for sample in np.flatnonzero((stops == StopReason.NO_REGISTERS) & kernel).tolist():
            # A thread of the kernel itself, or an idle processor: no program, no user's part.
            if self._walker.is_empty(int(stacks.sets[sample])):
                stops[sample] = StopReason.END_OF_STACK
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

    def trace_frames(self) -> list[list[TraceFrame]]:
        """For each number, less `first`, the frames of a trace, innermost first; their readers do not change them.

        Names are looked up now. Raises SymbolIndexError and TableError, as `ColumnNames.numbers_of`.
        """
        modules = self._walker.modules
        user = [(index, key) for index, key in enumerate(self._keys) if key is not None]
        owners = np.array([key[1] for _, key in user], dtype=np.int64)
        addresses = np.array([key[2] for _, key in user], dtype=np.int64)
        numbers = self._names.numbers_at(owners, addresses, modules).tolist()
        found = [self._kernel_frames.get(number, []) for number in range(self.first, self.count)]
        for (index, (pc, owner, _, signal, path)), number in zip(user, numbers, strict=True):
            module = modules[owner] if owner >= 0 else None
            found[index] = self._user_frames(pc & _MASK, module, path, bool(signal), number)
        return found

    def _user_frames(
        self, pc: int, module: Module | None, path: str | None, signal: bool, number: int
    ) -> list[TraceFrame]:
        build_id = module.build_id.hex() if module is not None and module.build_id else None
        where = module.path if module is not None else path
        return [
            TraceFrame(
                space="user",
                address=pc,
                module=where,
                build_id=build_id,
                function=each.function,
                file=each.file,
                line=each.line,
                column=each.column,
                inlined=each.inlined,
                signal=signal,
            )
            for each in self._names.frames(number)
        ] or [TraceFrame("user", pc, where, build_id, signal=signal)]

    def without_lines(self) -> dict[int, Module]:
        """The modules that have no lines at all, by the numbers of frames that lie in them; after `trace_frames`."""
        modules = self._walker.modules
        lacking = [not self._names.has_lines(module) for module in modules]
        keys = enumerate(self._keys, self.first)
        return {n: modules[key[1]] for n, key in keys if key is not None and key[1] >= 0 and lacking[key[1]]}

    def times_met(self, number: int) -> int:
        """In how many places of stacks a frame of the user's was."""
        return int(self._seen[number - self.first])


def _is_of_kernel(event: Event) -> TypeGuard[MappingAdded | KernelCodeNamed]:
    return isinstance(event, KernelCodeNamed) or (isinstance(event, MappingAdded) and event.pid == KERNEL_PID)
