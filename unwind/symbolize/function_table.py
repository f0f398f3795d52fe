"""The functions of one unit by address, with the calls inlined into them.

Data comes from a unit's scan (function_scan.py); range lists of inlined calls are read when a lookup meets
them.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.range_list import read_range_list

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.entry import Entry
    from unwind.dwarf.unit import CompilationUnit

_ADDRESS_INDEX_FORMS = frozenset(
    (
        C.DW_FORM_addrx,
        C.DW_FORM_addrx1,
        C.DW_FORM_addrx2,
        C.DW_FORM_addrx3,
        C.DW_FORM_addrx4,
        C.DW_FORM_GNU_addr_index,
    )
)
_MASK = (1 << 64) - 1


class FunctionTable:
    """Rows of a unit's scan (`rows`, see function_scan), and lookups in them. May raise DwarfError when
    made.
    """

    def __init__(self, unit: CompilationUnit, plain: bool | None = None) -> None:
        self.unit = unit
        self.rows: np.ndarray = F.scan_unit(unit, plain)
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._subtrees: dict[int, tuple[list[int], list[int], list[int]]] = {}

    def _address(self, form: int, value: int) -> int:
        return self.unit.addrx(value) if form in _ADDRESS_INDEX_FORMS else value & _MASK

    def ranges(self, row: int) -> list[tuple[int, int]]:
        """Address ranges [low, high) of a row; [] for one without code or with damaged ranges (noted)."""
        found = self._ranges.get(row)
        if found is None:
            try:
                found = self._read_ranges(self.rows[row].tolist())
            except DwarfError as error:
                self.unit.info.note_problem(error.problem)
                found = []
            # Address 0 (but of objects) and the highest ones mark code that the linker discarded.
            lowest = self.unit.info.lowest_address
            found = [(low, high) for low, high in found if lowest <= low < high <= _MASK - 1]
            self._ranges[row] = found
        return found

    def _read_ranges(self, row: list[int]) -> list[tuple[int, int]]:
        if row[F.RANGES_FORM]:
            indexed = row[F.RANGES_FORM] == C.DW_FORM_rnglistx
            return read_range_list(self.unit, row[F.RANGES], indexed)
        if not row[F.LOW_FORM] or not row[F.HIGH_FORM]:
            return []
        low = self._address(row[F.LOW_FORM], row[F.LOW])
        form = row[F.HIGH_FORM]
        if form == C.DW_FORM_addr or form in _ADDRESS_INDEX_FORMS:
            return [(low, self._address(form, row[F.HIGH]))]
        return [(low, low + row[F.HIGH])]

    def entry_address(self, row: int) -> int | None:
        """Where a function or inlined copy is entered (DWARF 5 §2.18), None without code.

        DW_AT_entry_pc when it lies inside; else the beginning: DW_AT_low_pc or the first range of a
        function, the lowest address of an inlined copy.
        """
        ranges = self.ranges(row)
        if not ranges:
            return None
        values = self.rows[row].tolist()
        form = values[F.ENTRY_FORM]
        if form:
            try:
                entry = self._address(form, values[F.ENTRY])
            except DwarfError:
                entry = -1
            if form not in _ADDRESS_INDEX_FORMS and form != C.DW_FORM_addr:
                entry = ranges[0][0] + values[F.ENTRY]  # a constant counts from the base address
            if any(low <= entry < high for low, high in ranges):
                return entry
        if values[F.TAG] == C.DW_TAG_inlined_subroutine:
            return min(low for low, _ in ranges)
        return ranges[0][0]

    @cached_property
    def functions(self) -> list[int]:
        """Rows of functions that have code."""
        import numpy as np

        rows = self.rows
        has_code = (rows[:, F.LOW_FORM] != 0) | (rows[:, F.RANGES_FORM] != 0)
        chosen = np.flatnonzero((rows[:, F.TAG] == C.DW_TAG_subprogram) & has_code)
        return [row for row in chosen.tolist() if self.ranges(row)]

    @cached_property
    def _intervals(self) -> tuple[list[int], list[tuple[int, int, int]]]:
        found = [(low, high, row) for row in self.functions for low, high in self.ranges(row)]
        found.sort()
        return [low for low, _, _ in found], found

    def function_at(self, pc: int) -> int | None:
        """Row of the function whose code covers `pc`, the one that begins last if several do."""
        lows, intervals = self._intervals
        index = bisect_right(lows, pc) - 1
        for candidate in range(index, max(-1, index - 16), -1):
            if pc < intervals[candidate][1]:
                return intervals[candidate][2]
        return None

    def chain_at(self, pc: int) -> list[int]:
        """Rows at `pc`: the function, then inlined calls from the outermost to the innermost; [] for no
        function.
        """
        function = self.function_at(pc)
        if function is None:
            return []
        chain = [function]
        tags, parents, ends = self._under(function)
        end = ends[0]
        row = function + 1
        while row < end:
            if (
                parents[row - function] == chain[-1]
                and tags[row - function] == C.DW_TAG_inlined_subroutine
                and any(low <= pc < high for low, high in self.ranges(row))
            ):
                chain.append(row)
                end = ends[row - function]
                row += 1
            elif parents[row - function] == chain[-1]:
                row = ends[row - function]
            else:
                row += 1
        return chain

    def _under(self, function: int) -> tuple[list[int], list[int], list[int]]:
        """Tags, parents and ends of a function's row and all under it; kept, as a profile asks for few functions."""
        found = self._subtrees.get(function)
        if found is None:
            rows = self.rows[function : int(self.rows[function, F.END])]
            found = (rows[:, F.TAG].tolist(), rows[:, F.PARENT].tolist(), rows[:, F.END].tolist())
            self._subtrees[function] = found
        return found

    def owner(self, row: int) -> int | None:
        """Row of the function or inlined copy that an inlined copy lies in."""
        parent = int(self.rows[row, F.PARENT])
        while parent >= 0:
            if self.rows[parent, F.TAG] in (C.DW_TAG_subprogram, C.DW_TAG_inlined_subroutine):
                return parent
            parent = int(self.rows[parent, F.PARENT])
        return None

    def entry(self, row: int) -> Entry:
        """The entry of a row. Raises DwarfError."""
        return self.unit.entry_at(int(self.rows[row, F.OFFSET]))
