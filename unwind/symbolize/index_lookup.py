"""Addresses → frames by a symbol index: many at once, or one without reading the rest.

NumPy alone does it; hundreds of thousands of addresses at once are looked up by hot loops (bulk_frames.py), which say
the same. What comes out is columns (`AddressFrames`); what no frame is found for has a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from unwind.symbolize import index_layout
from unwind.symbolize.index_layout import BLOCK, STRING_BLOCK
from unwind.symbolize.symbol_index import SymbolIndex

if TYPE_CHECKING:
    from unwind.symbolize.bulk_frames import BulkIndex

Int64s = NDArray[np.int64]

_NUMPY_RATE = 3e6
"""Addresses that are looked up in a second without hot loops, about."""
_WHOLE = 32
"""All of a column is unpacked, and kept, when it has fewer times as many values as are asked for."""


class Reason(IntEnum):
    """Why an address has no frames."""

    FOUND = 0
    """It has."""
    UNMAPPED = 1
    """The module has nothing in memory there."""
    NO_SYMBOLS = 2
    """The module has neither debugging information nor symbols."""
    NO_SUCH_CODE = 3
    """No function, line or symbol covers the address."""
    DAMAGED = 4
    """The debugging information that may cover it could not be read."""

    @property
    def text(self) -> str:
        """For people."""
        return _TEXTS[self]


_TEXTS = {
    Reason.FOUND: "found",
    Reason.UNMAPPED: "no part of the module is at this address",
    Reason.NO_SYMBOLS: "the module has neither debugging information nor symbols",
    Reason.NO_SUCH_CODE: "no function, line or symbol is known at this address",
    Reason.DAMAGED: "the debugging information of this address is damaged",
}


class Strings(Sequence[str]):
    """A list of strings in an index, of which each is read when it is asked for; number 0 is ""."""

    def __init__(self, data: NDArray[np.uint8], begins: NDArray[np.uint32], count: int) -> None:
        self._data = data
        self._begins = begins
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> str:  # type: ignore[override]
        if not 0 <= number < self._count:
            raise IndexError(number)
        block, within = divmod(number, STRING_BLOCK)
        begin = int(self._begins[block])
        end = int(self._begins[block + 1]) if block + 1 < len(self._begins) else len(self._data)
        return self._data[begin:end].tobytes().split(b"\0")[within].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for name in self._data.tobytes().split(b"\0")[: self._count]:
            yield name.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class AddressFrames:
    """The frames of a batch of addresses. Those of address i are `offsets[i]` to `offsets[i + 1]`, innermost first."""

    offsets: Int64s
    """One more than there are addresses."""
    reasons: NDArray[np.uint8]
    """`Reason` of each address."""
    functions: NDArray[np.int32]
    """Number of each frame's function: name and file are the same where it is."""
    names: NDArray[np.int32]
    """Each frame's name, as a number in `name_table`; 0 for none."""
    files: NDArray[np.int32]
    """Each frame's source file, as a number in `file_table`; 0 for none."""
    lines: NDArray[np.int32]
    """Each frame's line, from 1; 0 for none. In a frame that is not the innermost, that of the inlined call."""
    columns: NDArray[np.int32]
    """Each frame's column, from 1; 0 for none."""
    inlined: NDArray[np.bool_]
    """The frame is an inlined call; the next one is what it was inlined into."""
    name_table: Sequence[str]
    """Symbol names: linkage names where there are, which `function_name.demangled` makes readable."""
    file_table: Sequence[str]


_Rows: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


_WHOLE_COLUMNS = ("outer", "function", "call_line", "call_column", "name", "file", "least_line")


class IndexLookup:
    """Lookups in one index. What a large batch unpacks of it is kept for the next one."""

    def __init__(self, index: SymbolIndex) -> None:
        self.index = index
        self._columns = index.columns
        self._arrays = index.arrays
        self._whole: dict[str, NDArray[np.int32]] = {}
        self._kept_rows: _Rows | None = None
        self._bulk: BulkIndex | None = None
        counts, arrays = index.counts, index.arrays
        self.names = Strings(arrays["names"], arrays["name_begins"], counts["name_count"])
        self.files = Strings(arrays["files"], arrays["file_begins"], counts["file_count"])

    def keep_rows(self, addresses: Int64s, scopes: Int64s, values: dict[str, Int64s]) -> None:
        """Take what the index was made of, which need not be unpacked then: of its rows the addresses and scopes, and
        the values of its columns.
        """
        lines, columns = (values[name].astype(np.int32) for name in ("line", "column"))
        self._kept_rows = (addresses.astype(np.uint64), scopes.astype(np.int32), lines, columns)
        for name in _WHOLE_COLUMNS:
            self._whole[name] = values[name].astype(np.int32)

    def frames(self, addresses: NDArray[np.uint64]) -> AddressFrames:
        """The frames at `addresses`, file virtual addresses in any order. Raises SymbolIndexError for damage."""
        addresses = np.ascontiguousarray(addresses, dtype=np.uint64)
        try:
            if self._is_much("delta", len(addresses)) and self._is_bulk(len(addresses)):
                return self.many_frames(addresses)
            return self.few_frames(addresses)
        except (ValueError, IndexError) as error:
            raise self.index.refuse(f"its parts do not agree ({error})") from None

    def function_offsets(self, addresses: NDArray[np.uint64]) -> Int64s:
        """How far each address lies behind where its function is entered; -1 where that is not known.

        That is so for what no function covers, and for parts that lie apart from the function's entry, as cold code.
        """
        addresses = np.ascontiguousarray(addresses, dtype=np.uint64)
        found = np.full(len(addresses), -1, dtype=np.int64)
        try:
            blocks = self._blocks("begin_address", addresses)
            begins = self._addresses("begin", "begin_address", blocks)
            values = self._columns["begin_offset"].blocks(blocks)
            place = _last_before(begins, addresses)
            known = np.flatnonzero(place >= 0)
            known = known[values[place[known]] > 0]
            distance = (addresses[known] - begins[place[known]]).astype(np.int64)
            found[known] = distance + values[place[known]] - 1
        except (ValueError, IndexError) as error:
            raise self.index.refuse(f"its parts do not agree ({error})") from None
        return found

    def few_frames(self, addresses: NDArray[np.uint64]) -> AddressFrames:
        """`frames` by NumPy. Raises ValueError or IndexError for damage."""
        scope, line, column = self._rows_at(addresses)
        at = np.flatnonzero(scope)
        depth = np.zeros(len(addresses), dtype=np.int64)
        rounds: list[tuple[Int64s, tuple[NDArray[Any], ...]]] = []
        scope, line, column = scope[at], line[at], column[at]
        while len(at):
            depth[at] += 1
            function = self._values("function", scope)
            lines = np.where(line > 0, line - 1 + self._values("least_line", function), 0)
            distance = self._values("outer", scope)
            inlined = distance > 0
            rounds.append((at, (function, lines, column, inlined)))
            at, scope = at[inlined], scope[inlined]
            line, column = self._values("call_line", scope), self._values("call_column", scope)
            scope = scope - distance[inlined]
        offsets = np.zeros(len(addresses) + 1, dtype=np.int64)
        np.cumsum(depth, out=offsets[1:])
        total = int(offsets[-1])
        functions, lines, columns = (np.empty(total, dtype=np.int32) for _ in range(3))
        inlined = np.empty(total, dtype=bool)
        for index, (at, parts) in enumerate(rounds):
            place = offsets[at] + index
            for whole, part in zip((functions, lines, columns, inlined), parts, strict=True):
                whole[place] = part
        reasons = np.zeros(len(addresses), dtype=np.uint8)
        missed = np.flatnonzero(depth == 0)
        if len(missed):
            reasons[missed] = self._reasons(addresses[missed])
        names, files = self._values("name", functions), self._values("file", functions)
        return AddressFrames(offsets, reasons, functions, names, files, lines, columns, inlined, self.names, self.files)

    # --- a large batch

    def _is_bulk(self, count: int) -> bool:
        """Whether so many addresses are looked up faster by hot loops, counting that these may have to be compiled."""
        if count < _NUMPY_RATE / 150 or not self._columns["delta"].count:
            return False
        from cfi_tables.hot_loop import compiled_pays
        from unwind.symbolize.bulk_frames import write_frames

        return compiled_pays(write_frames, count / _NUMPY_RATE)

    def many_frames(self, addresses: NDArray[np.uint64], plain: bool = False) -> AddressFrames:
        """`frames` by hot loops, `plain` or compiled. Raises ValueError for damage."""
        if self._bulk is None:
            from unwind.symbolize.bulk_frames import unpacked

            begins, *rows = self._kept_rows or self._all_rows()
            scopes = map(self._whole_column, ("outer", "function", "call_line", "call_column"))
            of_functions = map(self._whole_column, ("name", "file", "least_line"))
            self._bulk = unpacked(begins, tuple(rows), tuple(scopes), tuple(of_functions), plain)
        offsets, (functions, names, files, lines, columns, inlined) = self._bulk.frames(addresses)
        reasons = np.zeros(len(addresses), dtype=np.uint8)
        missed = np.flatnonzero(offsets[1:] == offsets[:-1])
        if len(missed):
            reasons[missed] = self._reasons(addresses[missed])
        return AddressFrames(
            *(offsets, reasons, functions, names, files, lines, columns, inlined.view(bool), self.names, self.files)
        )

    def _whole_column(self, name: str) -> NDArray[np.int32]:
        """All values of a column, kept."""
        if name not in self._whole:
            self._whole[name] = self._columns[name].blocks().astype(np.int32)
        return self._whole[name]

    # --- parts of the index

    def _rows_at(self, addresses: NDArray[np.uint64]) -> list[NDArray[np.int32]]:
        """Scope, line code and column of the row in force at each address."""
        if self._kept_rows is None and self._is_much("delta", len(addresses)):
            self._kept_rows = self._all_rows()
        if self._kept_rows is not None:
            begins, scopes, lines, columns = self._kept_rows
        else:
            blocks = self._blocks("block_address", addresses)
            begins = self._addresses("delta", "block_address", blocks)
            scopes = self._scope_numbers(blocks)
            lines, columns = (self._columns[name].blocks(blocks).astype(np.int32) for name in ("line", "column"))
        place = _last_before(begins, addresses)
        inside = np.flatnonzero(place >= 0)
        found = [np.zeros(len(addresses), dtype=np.int32) for _ in range(3)]
        for column, values in zip(found, (scopes, lines, columns), strict=True):
            column[inside] = values[place[inside]]
        return found

    def scope_rows(self) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
        """(address, scope) of every row, by address: a scope holds up to the next row. Raises SymbolIndexError."""
        try:
            begins, scopes, _, _ = self._kept_rows or self._all_rows()
        except (ValueError, IndexError) as error:
            raise self.index.refuse(f"its parts do not agree ({error})") from None
        return begins, scopes

    def _all_rows(self) -> _Rows:
        begins = self._addresses("delta", "block_address", None)
        lines, columns = (self._columns[name].blocks().astype(np.int32) for name in ("line", "column"))
        return begins, self._scope_numbers(None), lines, columns

    def _is_much(self, column: str, wanted: int) -> bool:
        return wanted * _WHOLE >= self._columns[column].count

    def _values(self, name: str, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """The values of a column at `numbers`."""
        if name in self._whole or self._is_much(name, len(numbers)):
            chosen: NDArray[np.int32] = self._whole_column(name)[numbers]
            return chosen
        blocks, inverse = np.unique(numbers // BLOCK, return_inverse=True)
        values = self._columns[name].blocks(blocks.astype(np.int64)).astype(np.int32)
        found: NDArray[np.int32] = values[inverse * BLOCK + numbers % BLOCK]
        return found

    def _blocks(self, name: str, addresses: NDArray[np.uint64]) -> Int64s:
        """The blocks, of those that begin at the addresses in array `name`, that hold what is before `addresses`."""
        found = distinct_values(np.searchsorted(self._arrays[name], addresses, side="right") - 1)
        return found[found >= 0]

    def _addresses(self, column: str, array: str, blocks: Int64s | None) -> NDArray[np.uint64]:
        """The addresses of blocks (None: all), whose first ones are in `array` and distances in `column`."""
        total = np.cumsum(self._columns[column].blocks(blocks))
        bases = self._arrays[array] if blocks is None else self._arrays[array][blocks]
        begin = bases.astype(np.uint64) - total[::BLOCK].astype(np.uint64)
        found: NDArray[np.uint64] = total.astype(np.uint64) + np.repeat(begin, BLOCK)[: len(total)]
        return found

    def _scope_numbers(self, blocks: Int64s | None) -> NDArray[np.int32]:
        """The scopes of the rows of blocks (None: all)."""
        codes = self._columns["scope"].blocks(blocks)
        before = self._arrays["block_scope"] if blocks is None else self._arrays["block_scope"][blocks]
        new = np.where(codes & 1, (codes + 1) >> 1, 0)
        total = np.cumsum(new)
        greatest = total + np.repeat(before.astype(np.int64) - (total - new)[::BLOCK], BLOCK)[: len(total)]
        found = np.where(codes & 1, greatest, np.where(codes == 2, 0, greatest - ((codes - 4) >> 1)))
        told = np.maximum.accumulate(np.where(codes != 0, np.arange(len(codes)), 0))
        return found[told].astype(np.int32)

    def _reasons(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Why there are no frames at `addresses`."""
        return miss_reasons(addresses, self.index.flags, self._arrays["mapped"], self._arrays["damaged"])


def miss_reasons(
    addresses: NDArray[np.uint64], flags: int, mapped: NDArray[np.uint64], damaged: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    """Why there are no frames at `addresses`, by a module's flags and ranges as an index has them."""
    found = np.full(len(addresses), Reason.NO_SUCH_CODE, dtype=np.uint8)
    if not flags & (index_layout.HAS_DEBUG | index_layout.HAS_SYMBOLS):
        found[:] = Reason.NO_SYMBOLS
    elif flags & index_layout.DAMAGED_SOMEWHERE:
        found[:] = Reason.DAMAGED
    found[_is_inside(addresses, damaged)] = Reason.DAMAGED
    found[~_is_inside(addresses, mapped)] = Reason.UNMAPPED
    return found


def _is_inside(addresses: NDArray[np.uint64], pairs: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each address lies in one of the ranges, a pair each."""
    inside = np.zeros(len(addresses), dtype=bool)
    for low, high in pairs.reshape(-1, 2):
        inside |= (addresses >= low) & (addresses < high)
    return inside


_SORTING_PAYS = 4096


def _last_before(begins: NDArray[np.uint64], addresses: NDArray[np.uint64]) -> Int64s:
    """Index of the last of the sorted `begins` that is not behind each address, -1 for none."""
    if len(addresses) < _SORTING_PAYS or (addresses[1:] >= addresses[:-1]).all():
        return np.searchsorted(begins, addresses, side="right") - 1
    order = np.argsort(addresses)
    found = np.empty(len(addresses), dtype=np.int64)
    found[order] = np.searchsorted(begins, addresses[order], side="right") - 1
    return found
