"""Range lists: the addresses of entities in several pieces (DWARF 5 §2.17.3, §7.25; DWARF 4 §2.17.3).

.debug_ranges for DWARF 2-4 and .debug_rnglists for 5. Ranges that the linker discarded (tombstones) are
left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_uleb128, read_unsigned

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit

DW_RLE_end_of_list = 0
DW_RLE_base_addressx = 1
DW_RLE_startx_endx = 2
DW_RLE_startx_length = 3
DW_RLE_offset_pair = 4
DW_RLE_base_address = 5
DW_RLE_start_end = 6
DW_RLE_start_length = 7


def list_offset(unit: CompilationUnit, section: str, base: int, value: int, indexed: bool) -> int:
    """Offset in `section` of a list: `value` itself, or the item `value` of the unit's offset table at
    `base`.
    """
    if not indexed:
        return value + unit.contribution.of(section)
    position = base + value * unit.offset_size
    try:
        return base + read_unsigned(unit.info.sections.get(section), position, unit.offset_size)
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, section, position, unit.offset) from None


def read_range_list(unit: CompilationUnit, value: int, indexed: bool) -> list[tuple[int, int]]:
    """The ranges [low, high) of a list, in its order, without empty ones.

    `value` is a section offset, or with `indexed` a DW_FORM_rnglistx index. Raises DwarfError.
    """
    if unit.version < 5 and unit.skeleton is not None:  # a .dwo file has no .debug_ranges
        value += unit.skeleton.split_ranges_base
        unit = unit.skeleton
    section = ".debug_rnglists" if unit.version >= 5 else ".debug_ranges"
    data = unit.info.sections.get(section)
    try:
        if unit.version >= 5:
            return _read_version_5(unit, data, list_offset(unit, section, unit.range_lists_base, value, indexed))
        return _read_version_4(unit, data, value)
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, section, value, unit.offset) from None


def tombstone(unit: CompilationUnit) -> int:
    """The lowest address that linkers write for discarded code: -2 and -1 (lld, DWARF issue 200609.1)."""
    return (1 << 8 * unit.address_size) - 2


def _read_version_4(unit: CompilationUnit, data: SectionData, position: int) -> list[tuple[int, int]]:
    size = unit.address_size
    maximum = (1 << 8 * size) - 1
    base = unit.base_address
    ranges: list[tuple[int, int]] = []
    while True:
        low = read_unsigned(data, position, size)
        high = read_unsigned(data, position + size, size)
        position += 2 * size
        if low == high == 0:
            return ranges
        if low == maximum:
            base = high
        elif low < high and base < tombstone(unit) and low + base < maximum - 1:
            ranges.append((low + base, high + base))


def _read_version_5(unit: CompilationUnit, data: SectionData, position: int) -> list[tuple[int, int]]:
    size = unit.address_size
    base = unit.base_address
    dead = tombstone(unit)
    ranges: list[tuple[int, int]] = []
    while True:
        kind = data[position]
        position += 1
        if kind == DW_RLE_end_of_list:
            return ranges
        if kind == DW_RLE_offset_pair:
            low, position = read_uleb128(data, position)
            high, position = read_uleb128(data, position)
            low, high = low + base, high + base
            if base >= dead:
                continue
        elif kind in (DW_RLE_base_addressx, DW_RLE_startx_endx, DW_RLE_startx_length):
            index, position = read_uleb128(data, position)
            low = unit.addrx(index)
            if kind == DW_RLE_base_addressx:
                base = low
                continue
            high, position = read_uleb128(data, position)
            high = unit.addrx(high) if kind == DW_RLE_startx_endx else low + high
        elif kind in (DW_RLE_base_address, DW_RLE_start_end, DW_RLE_start_length):
            low = read_unsigned(data, position, size)
            position += size
            if kind == DW_RLE_base_address:
                base = low
                continue
            if kind == DW_RLE_start_end:
                high = read_unsigned(data, position, size)
                position += size
            else:
                length, position = read_uleb128(data, position)
                high = low + length
        else:
            raise DwarfError(DwarfReason.BAD_LIST, ".debug_rnglists", position - 1, unit.offset)
        if low < high and low < dead:
            ranges.append((low, high))
