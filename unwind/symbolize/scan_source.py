"""The units that a module's index is made of, by the file that their entries are in: as columns for the scan.

The module's own file comes first; then the split files (.dwo, .dwp) that skeleton units name, and the shared file that
dwz makes. Each file's sections count from a base of their own, so that one number tells an offset and its file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from cfi_tables.hot_loop import run_hot
from unwind.dwarf import constants as C
from unwind.dwarf.abbreviation_scan import completes_elsewhere
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.integer import SectionData
from unwind.dwarf.line_header_scan import STRING_SECTIONS
from unwind.dwarf.unit_header_scan import HEADER_WIDTH, UNIT_OFFSET, UNIT_TYPE, longest_program, read_unit_headers
from unwind.symbolize import unit_root as R
from unwind.symbolize.unit_scan import PROGRAM_SECTIONS, SECTIONS

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.unit import CompilationUnit

Int64s = NDArray[np.int64]
_TYPES = (C.DW_UT_type, C.DW_UT_split_type)


@dataclass(slots=True)
class ScanSource:
    """Units of one file, int64 of shape (units, unit_root.UNIT_WIDTH), in the order of .debug_info."""

    info: DebugInfo
    base: int
    """What is added to offsets in the sections of this file."""
    units: Int64s
    told: Int64s
    """Pairs of addresses: the ranges of skeleton units, to which the units of a split file refer."""
    keeps_all: bool
    """Entries that nothing in their unit refers to are kept, since other units may."""

    def unit(self, index: int) -> CompilationUnit:
        """The unit as an object. Raises DwarfError."""
        return self.info.unit_at(int(self.units[index, UNIT_OFFSET]))


class ScanSources:
    """All files whose units are read, in the order in which that is done."""

    def __init__(self, info: DebugInfo, plain: bool) -> None:
        self.info = info
        self.plain = plain
        self.all: list[ScanSource] = []
        self._arrays: dict[tuple[int, str], Any] = {}
        self._bases: list[int] = []
        self._first_units: list[int] = []

    def add(self, info: DebugInfo, units: Int64s, told: Int64s | None = None) -> ScanSource:
        """Append units of the file of `info`."""
        last = self.all[-1] if self.all else None
        base = 0 if last is None else last.base + _span(last.info)
        told = np.zeros(0, dtype=np.int64) if told is None else told
        is_shared = bool((units[:, R.UNIT_KIND] == R.SHARED).any())
        keeps_all = is_shared or bool(run_hot(completes_elsewhere, not self.plain, self.section(info, ".debug_abbrev")))
        source = ScanSource(info, base, units, told, keeps_all)
        self._first_units.append(0 if last is None else self._first_units[-1] + len(last.units))
        self._bases.append(base)
        self.all.append(source)
        return source

    def own_units(self) -> ScanSource:
        """Append the units of the module's own file."""
        return self.add(self.info, unit_columns(self.info, self.plain))

    def shared_units(self, alternate: DebugInfo) -> ScanSource:
        """Append the units of the shared file."""
        units = unit_columns(alternate, self.plain)
        units[:, R.UNIT_KIND] = R.SHARED
        return self.add(alternate, units)

    def split_units(self, skeletons: list[int]) -> list[ScanSource]:
        """Append what stands for the skeleton units of the first source whose indices are given.

        That is the full unit of each, or where there is none the skeleton itself, which is then noted.
        """
        full: dict[int, tuple[DebugInfo, dict[int, CompilationUnit]]] = {}
        alone: list[int] = []
        own = self.all[0]
        for index in skeletons:
            skeleton = own.unit(index)
            try:
                unit = self.info.full_unit(skeleton)
            except DwarfError as error:
                self.info.note_problem(error.problem)
                continue
            if unit is skeleton:
                alone.append(index)
            else:
                full.setdefault(id(unit.info), (unit.info, {}))[1][unit.offset] = unit
        found = []
        if alone:
            units = own.units[alone].copy()
            units[:, R.UNIT_KIND] = R.ALONE
            found.append(self.add(self.info, units))
        for info, members in full.values():
            found.append(self.add(info, *_full_columns(info, [members[offset] for offset in sorted(members)])))
        return found

    # --- what a number means

    def unit(self, index: int) -> CompilationUnit:
        """The unit that is number `index` of all. Raises DwarfError."""
        source = bisect_right(self._first_units, index) - 1
        return self.all[source].unit(index - self._first_units[source])

    def place(self, offset: int) -> tuple[ScanSource, int]:
        """The file that `offset` counts in, and the offset in the section."""
        source = self.all[bisect_right(self._bases, offset) - 1]
        return source, offset - source.base

    def string_data(self, reference: int) -> tuple[SectionData, int]:
        """The section that a reference to a string (line_header_scan.py) means, and the offset in it."""
        source, offset = self.place(reference >> 3)
        return source.info.sections.get(STRING_SECTIONS[reference & 7]), offset

    def string_groups(self, references: Int64s) -> Iterator[tuple[SectionData, Int64s, Int64s]]:
        """References to strings by section: the section, offsets in it, and the indices of these references."""
        bases = np.array(self._bases, dtype=np.int64)
        source = np.searchsorted(bases, references >> 3, side="right") - 1
        group = source * len(STRING_SECTIONS) + (references & 7)
        for each in distinct_values(group).tolist():
            chosen = np.flatnonzero(group == each)
            member, kind = divmod(each, len(STRING_SECTIONS))
            data = self.all[member].info.sections.get(STRING_SECTIONS[kind])
            yield data, (references[chosen] >> 3) - self._bases[member], chosen

    # --- sections

    def sections(self, source: ScanSource) -> tuple[Any, ...]:
        """Those that `scan_units` reads for the units of `source`."""
        return tuple(self.section(self.info if name in PROGRAM_SECTIONS else source.info, name) for name in SECTIONS)

    def section(self, info: DebugInfo, name: str) -> Any:
        """A section as the hot loops want it."""
        key = (id(info), name)
        if key not in self._arrays:
            data = info.sections.get(name)
            self._arrays[key] = data if self.plain else np.frombuffer(data or b"\0", dtype=np.uint8)[: len(data)]
        return self._arrays[key]

    @cached_property
    def longest_program(self) -> int:
        """Bytes of the longest line number program."""
        return int(run_hot(longest_program, not self.plain, self.section(self.info, ".debug_line")))


def unit_columns(info: DebugInfo, plain: bool) -> Int64s:
    """The units of a file but type units; those whose header is damaged are left out and noted."""
    data: Any = info.sections.get(".debug_info")
    if not plain:
        data = np.frombuffer(data, dtype=np.uint8)
    room = 64 + len(data) // 4096
    while True:
        columns = np.zeros(room * R.UNIT_WIDTH, dtype=np.int64)
        count = int(run_hot(read_unit_headers, not plain, data, columns, R.UNIT_WIDTH))
        if count != -2:
            break
        room *= 8
    if count < 0:
        return _columns_of(info.units)
    found = columns.reshape(-1, R.UNIT_WIDTH)[:count]
    found[:, R.UNIT_LOWEST] = info.lowest_address
    return np.ascontiguousarray(found[~np.isin(found[:, UNIT_TYPE], _TYPES)])


def _columns_of(units: list[CompilationUnit]) -> Int64s:
    found = np.zeros((len(units), R.UNIT_WIDTH), dtype=np.int64)
    for row, unit in zip(found, units, strict=True):
        row[:HEADER_WIDTH] = (
            *(unit.offset, unit.die_offset, unit.end, unit.version, unit.address_size, unit.offset_size),
            *(unit.contribution.of(".debug_abbrev") + unit.abbreviation_offset, unit.unit_type),
        )
        row[R.UNIT_LOWEST] = unit.info.lowest_address
    return np.ascontiguousarray(found[~np.isin(found[:, UNIT_TYPE], _TYPES)])


def _full_columns(info: DebugInfo, units: list[CompilationUnit]) -> tuple[Int64s, Int64s]:
    """Columns of full units in a split file, and the ranges of their skeleton units."""
    columns = _columns_of(units)
    told: list[int] = []
    for row, unit in zip(columns, units, strict=True):
        skeleton = unit.skeleton
        assert skeleton is not None
        row[R.UNIT_KIND] = R.FULL
        row[R.UNIT_LINE] = -1
        try:
            row[R.UNIT_STRING_BASE] = unit.string_offsets_base
            row[R.UNIT_RANGE_BASE] = unit.range_lists_base
            row[R.UNIT_ADDRESS_BASE] = skeleton.address_base
            row[R.UNIT_RANGES_4] = skeleton.split_ranges_base
            row[R.UNIT_LOW] = _signed(skeleton.base_address)
            row[R.UNIT_LINE] = -1 if skeleton.line_offset is None else skeleton.line_offset
            ranges = skeleton.ranges
        except (DwarfError, OverflowError) as error:
            if isinstance(error, DwarfError):
                info.note_problem(error.problem)
            ranges = []
        row[R.UNIT_TOLD] = len(told) // 2
        row[R.UNIT_TOLD_COUNT] = len(ranges)
        told += [_signed(each) for pair in ranges for each in pair]
    return columns, np.array(told, dtype=np.int64)


def _signed(address: int) -> int:
    """The int64 bit pattern of an address."""
    return (address + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def _span(info: DebugInfo) -> int:
    """A number that is more than any offset in the sections of a file that entries and strings are in."""
    return 1 + max(len(info.sections.get(name)) for name in STRING_SECTIONS)
