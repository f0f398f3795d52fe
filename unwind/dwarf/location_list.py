"""Location lists: where a variable lives, by address (DWARF 5 §2.6.2, §7.29; DWARF 4 §2.6.2).

.debug_loc for DWARF 2-4 and .debug_loclists for 5. GNU view pairs (a finer order of rows of one address) are
skipped: they do not change which bytes of code an entry covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_uleb128, read_unsigned
from unwind.dwarf.range_list import list_offset

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit

DW_LLE_end_of_list = 0
DW_LLE_base_addressx = 1
DW_LLE_startx_endx = 2
DW_LLE_startx_length = 3
DW_LLE_offset_pair = 4
DW_LLE_default_location = 5
DW_LLE_base_address = 6
DW_LLE_start_end = 7
DW_LLE_start_length = 8
DW_LLE_GNU_view_pair = 9


def location_expression(unit: CompilationUnit, value: int, indexed: bool, pc: int) -> bytes | None:
    """The expression of the first entry that covers `pc`, else the default location's, else None.

    `value` is a section offset, or with `indexed` a DW_FORM_loclistx index. Raises DwarfError.
    """
    default = None
    for low, high, expression in read_location_list(unit, value, indexed):
        if low is None:
            default = expression
        elif high is not None and low <= pc < high:
            return expression
    return default


def read_location_list(
    unit: CompilationUnit, value: int, indexed: bool
) -> Iterator[tuple[int | None, int | None, bytes]]:
    """Entries (low, high, expression) of a list, in its order; low and high are None for a default location.

    Raises DwarfError.
    """
    section = ".debug_loclists" if unit.version >= 5 else ".debug_loc"
    data = unit.info.sections.get(section)
    try:
        if unit.version >= 5:
            offset = list_offset(unit, section, unit.location_lists_base, value, indexed)
            yield from _read_version_5(unit, data, offset)
        else:
            offset = value + unit.contribution.of(section)
            yield from (_read_split_4 if unit.info.sections_suffix else _read_version_4)(unit, data, offset)
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, section, value, unit.offset) from None


def _expression(data: SectionData, position: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(data):
        raise IndexError(position)
    return bytes(data[position:end]), end


def _read_version_4(unit: CompilationUnit, data: SectionData, position: int) -> Iterator[tuple[int, int, bytes]]:
    size = unit.address_size
    maximum = (1 << 8 * size) - 1
    base = unit.base_address
    while True:
        low = read_unsigned(data, position, size)
        high = read_unsigned(data, position + size, size)
        position += 2 * size
        if low == high == 0:
            return
        if low == maximum:
            base = high
            continue
        expression, position = _expression(data, position + 2, read_unsigned(data, position, 2))
        yield low + base, high + base, expression


def _read_split_4(unit: CompilationUnit, data: SectionData, position: int) -> Iterator[tuple[int, int, bytes]]:
    """GNU's lists of split DWARF 4: kinds 0 to 3 of what DWARF 5 made of them, but with lengths of fixed size."""
    while True:
        kind = data[position]
        start = position
        position += 1
        if kind == DW_LLE_end_of_list:
            return
        if kind not in (DW_LLE_base_addressx, DW_LLE_startx_endx, DW_LLE_startx_length):
            raise DwarfError(DwarfReason.BAD_LIST, ".debug_loc", start, unit.offset)
        index, position = read_uleb128(data, position)
        low = unit.addrx(index)
        if kind == DW_LLE_base_addressx:
            continue  # nothing here counts from it
        if kind == DW_LLE_startx_endx:
            index, position = read_uleb128(data, position)
            high = unit.addrx(index)
        else:
            high = low + read_unsigned(data, position, 4)
            position += 4
        expression, position = _expression(data, position + 2, read_unsigned(data, position, 2))
        yield low, high, expression


def _read_version_5(
    unit: CompilationUnit, data: SectionData, position: int
) -> Iterator[tuple[int | None, int | None, bytes]]:
    size = unit.address_size
    base = unit.base_address
    low: int | None
    high: int | None
    while True:
        kind = data[position]
        start = position
        position += 1
        if kind == DW_LLE_end_of_list:
            return
        if kind == DW_LLE_GNU_view_pair:
            _, position = read_uleb128(data, position)
            _, position = read_uleb128(data, position)
            continue
        if kind == DW_LLE_base_addressx:
            index, position = read_uleb128(data, position)
            base = unit.addrx(index)
            continue
        if kind == DW_LLE_base_address:
            base = read_unsigned(data, position, size)
            position += size
            continue
        if kind == DW_LLE_offset_pair:
            first, position = read_uleb128(data, position)
            second, position = read_uleb128(data, position)
            low, high = base + first, base + second
        elif kind in (DW_LLE_startx_endx, DW_LLE_startx_length):
            index, position = read_uleb128(data, position)
            second, position = read_uleb128(data, position)
            low = unit.addrx(index)
            high = unit.addrx(second) if kind == DW_LLE_startx_endx else low + second
        elif kind == DW_LLE_default_location:
            low = high = None
        elif kind == DW_LLE_start_end:
            low = read_unsigned(data, position, size)
            high = read_unsigned(data, position + size, size)
            position += 2 * size
        elif kind == DW_LLE_start_length:
            low = read_unsigned(data, position, size)
            length, position = read_uleb128(data, position + size)
            high = low + length
        else:
            raise DwarfError(DwarfReason.BAD_LIST, ".debug_loclists", start, unit.offset)
        length, position = read_uleb128(data, position)
        expression, position = _expression(data, position, length)
        yield low, high, expression
