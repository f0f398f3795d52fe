"""Names for stacks in columns: each distinct address of each module is looked up once in a capture, many at a time.

Takes `StackColumns`; gives for each frame a number, and for each number the function, file and line there with the
calls inlined into it. Names of the kernel are not looked for here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from unwind.column_stacks import Int32s, Int64s, Places, StackColumns
from unwind.frame_columns import TextTable
from unwind.module import Module
from unwind.place_table import PLACE_LOOKUP, PLACE_MODULE
from unwind.symbolize.demangling import readable_name
from unwind.symbolize.index_lookup import AddressFrames
from unwind.symbolize.symbolizer import Symbolizer

NO_NAMES = 0
"""The number of frames that have no name."""


class NamedFrame(NamedTuple):
    """A function that holds an address, or into which the one before it is inlined."""

    function: str | None
    """As people read it."""
    file: str | None
    line: int | None
    column: int | None
    inlined: bool


class _ModuleNames:
    """The addresses of one module that are known, sorted, and their numbers."""

    def __init__(self, module: Module) -> None:
        self._symbolizer = None if module.image is None else Symbolizer(module.image)
        self.addresses: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self.numbers: Int32s = np.zeros(0, dtype=np.int32)

    @property
    def has_lines(self) -> bool:
        """Whether the module has debugging information."""
        return self._symbolizer is not None and self._symbolizer.has_debug_information

    def learn(self, addresses: NDArray[np.uint64], first: int) -> AddressFrames | None:
        """Look up those of the sorted addresses that are not known, number them from `first` on: their frames."""
        places = np.searchsorted(self.addresses, addresses)
        known = np.append(self.addresses, np.uint64(0))[places] == addresses
        known &= places < len(self.addresses)
        new = addresses[~known]
        if not len(new):
            return None
        frames = None
        if self._symbolizer is not None:
            # More addresses will come, and the next capture will need the index as well.
            self._symbolizer.build_index()
            frames = self._symbolizer.frames(new)
        numbers = np.zeros(len(new), dtype=np.int32)
        if frames is not None:
            found = frames.offsets[1:] > frames.offsets[:-1]
            numbers = np.where(found, np.arange(first, first + len(new)), NO_NAMES).astype(np.int32)
        merged = np.concatenate((self.addresses, new))
        order = np.argsort(merged, kind="stable")
        self.addresses, self.numbers = merged[order], np.concatenate((self.numbers, numbers))[order]
        return frames


class _NamedPiece:
    """The frames of some addresses, as text when they are asked for: a name that many have is made readable once."""

    def __init__(self, frames: AddressFrames) -> None:
        self._frames = frames
        self._functions: dict[int, str | None] = {0: None}
        self._files: dict[int, str | None] = {0: None}

    def frames(self, index: int) -> list[NamedFrame]:
        """The names of an address, innermost first."""
        offsets, names, files, lines, columns, inlined = self._lists
        return [
            NamedFrame(
                self._function(names[at]), self._file(files[at]), lines[at] or None, columns[at] or None, inlined[at]
            )
            for at in range(offsets[index], offsets[index + 1])
        ]

    def columns(self, indices: Int64s, functions: TextTable, files: TextTable) -> NamedColumns:
        """The names of several addresses."""
        of = self._frames
        begins = of.offsets[indices]
        counts = of.offsets[indices + 1] - begins
        ends = np.cumsum(counts)
        rows = np.arange(int(counts.sum())) + np.repeat(begins - ends + counts, counts)
        return NamedColumns(
            counts,
            _in_table(of.names[rows], self._function, functions),
            _in_table(of.files[rows], self._file, files),
            *(of.lines[rows], of.columns[rows], of.inlined[rows]),
        )

    @cached_property
    def _lists(self) -> tuple[list[int], list[int], list[int], list[int], list[int], list[bool]]:
        of = self._frames
        numbers = (each.tolist() for each in (of.offsets, of.names, of.files, of.lines, of.columns))
        offsets, names, files, lines, columns = numbers
        return offsets, names, files, lines, columns, of.inlined.tolist()

    def _function(self, number: int) -> str | None:
        found = self._functions.get(number, "")
        if found == "":
            name = self._frames.name_table[number]
            found = self._functions[number] = readable_name(name) if name else None
        return found

    def _file(self, number: int) -> str | None:
        found = self._files.get(number, "")
        if found == "":
            found = self._files[number] = self._frames.file_table[number] or None
        return found


def _in_table(numbers: Int32s, text_of: Callable[[int], str | None], table: TextTable) -> Int32s:
    """For numbers of texts those of the table: each is looked up once."""
    distinct = distinct_values(numbers)
    found = np.array([table.number(text_of(each)) for each in distinct.tolist()], dtype=np.int32)
    return found[np.searchsorted(distinct, numbers)]


class NamedColumns(NamedTuple):
    """The names of several numbers, innermost first; texts are numbers in the tables that were given."""

    counts: Int64s
    """How many frames each number has."""
    functions: Int32s
    """By frame, as the following."""
    files: Int32s
    lines: Int32s
    columns: Int32s
    inlined: NDArray[np.bool_]


_NO_NUMBERS: Int32s = np.zeros(0, dtype=np.int32)
_NOTHING = NamedColumns(np.zeros(0, dtype=np.int64), *(_NO_NUMBERS,) * 4, np.zeros(0, dtype=np.bool_))


class ColumnNames:
    """The names of all stacks so far."""

    def __init__(self) -> None:
        self.count = 1
        """One more than the greatest number given."""
        self._modules: dict[int, tuple[Module, _ModuleNames]] = {}
        self._firsts: list[int] = []
        self._pieces: list[_NamedPiece] = []
        self._of_places: WeakKeyDictionary[Places, Int32s] = WeakKeyDictionary()

    def numbers_of(self, stacks: StackColumns) -> Int32s:
        """For each frame the number of its names, NO_NAMES where none are known.

        What is new is looked up at once: it pays to walk some stacks further before their names are asked for.
        Raises SymbolIndexError when an index was damaged after it was checked, and TableError (`size_limit`).
        """
        places = stacks.places
        known = self._of_places.get(places)
        done = 0 if known is None else len(known)
        if known is None or done < places.count:
            owners, addresses = (places.column(each)[done:] for each in (PLACE_MODULE, PLACE_LOOKUP))
            found = self.numbers_at(owners, addresses, stacks.modules)
            known = found if known is None else np.concatenate((known, found))
            self._of_places[places] = known
        numbers: Int32s = known[stacks.frames]
        return numbers

    def numbers_at(self, owners: Int64s, places: Int64s, modules: list[Module]) -> Int32s:
        """The same for addresses in modules: indices in `modules` (-1: none), and file addresses, 64-bit patterns.

        Raises what `numbers_of` does.
        """
        numbers = np.zeros(len(owners), dtype=np.int32)
        addresses = places.astype(np.int64).view(np.uint64)
        for owner in distinct_values(owners).tolist():
            if owner < 0:
                continue
            module = modules[owner]
            _, names = self._modules.setdefault(id(module), (module, _ModuleNames(module)))
            chosen = np.flatnonzero(owners == owner)
            wanted = addresses[chosen]
            before = len(names.addresses)
            frames = names.learn(distinct_values(wanted), self.count)
            if frames is not None:
                self._firsts.append(self.count)
                self._pieces.append(_NamedPiece(frames))
                self.count += len(names.addresses) - before
            numbers[chosen] = names.numbers[np.searchsorted(names.addresses, wanted)]
        return numbers

    def has_lines(self, module: Module) -> bool:
        """Whether a module that had addresses has debugging information."""
        _, names = self._modules.get(id(module), (module, None))
        return names is not None and names.has_lines

    def columns(self, numbers: Int32s, functions: TextTable, files: TextTable) -> NamedColumns:
        """The names of all of some numbers; texts are entered in the tables."""
        pieces = np.searchsorted(np.array(self._firsts, dtype=np.int64), numbers, side="right") - 1
        counts = np.zeros(len(numbers), dtype=np.int64)
        owners, found = [np.zeros(0, dtype=np.int64)], [_NOTHING]
        for piece in distinct_values(pieces).tolist():
            if piece >= 0:  # not NO_NAMES
                chosen = np.flatnonzero(pieces == piece)
                indices = numbers[chosen].astype(np.int64) - self._firsts[piece]
                found.append(self._pieces[piece].columns(indices, functions, files))
                counts[chosen] = found[-1].counts
                owners.append(np.repeat(chosen, found[-1].counts))
        order = np.argsort(np.concatenate(owners), kind="stable")
        return NamedColumns(
            counts,
            *(
                np.concatenate([getattr(each, name) for each in found])[order]
                for name in ("functions", "files", "lines", "columns", "inlined")
            ),
        )

    def frames(self, number: int) -> list[NamedFrame]:
        """The names of a number, innermost first; [] of NO_NAMES."""
        if number == NO_NAMES:
            return []
        piece = bisect_right(self._firsts, number) - 1
        return self._pieces[piece].frames(number - self._firsts[piece])
