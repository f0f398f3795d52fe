"""Address ranges of entries, read in bulk (DWARF 5 §2.17); for a single entry see range_list.py.

Addresses are int64 bit patterns; those of a kernel are negative, and order among themselves as they should. Ranges of
code that the linker discarded are left out: those at address 0 (but in objects), and the tombstones -1 and -2.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop, wrap64
from unwind.dwarf import constants as C
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128
from unwind.dwarf.range_list import (
    DW_RLE_base_address,
    DW_RLE_base_addressx,
    DW_RLE_end_of_list,
    DW_RLE_offset_pair,
    DW_RLE_start_end,
    DW_RLE_start_length,
    DW_RLE_startx_endx,
    DW_RLE_startx_length,
)

DAMAGED = -1
FULL = -2

_ADDRESS_INDEX_FORMS = (
    C.DW_FORM_addrx,
    C.DW_FORM_addrx1,
    C.DW_FORM_addrx2,
    C.DW_FORM_addrx3,
    C.DW_FORM_addrx4,
    C.DW_FORM_GNU_addr_index,
)


@hot_loop
def is_address_index(form: int) -> bool:
    """Whether values of `form` are indices into .debug_addr."""
    return form in _ADDRESS_INDEX_FORMS


@hot_loop
def is_address(form: int) -> bool:
    """Whether values of `form` are addresses or indices of such."""
    return form == C.DW_FORM_addr or form in _ADDRESS_INDEX_FORMS


@hot_loop
def is_discarded(address: int, address_size: int, lowest: int) -> bool:
    """Whether an address marks code that the linker left out; `lowest` is the lowest that code can have, 0 or 1."""
    if address == 0:
        return lowest > 0
    if address_size == 4:
        return address >= 0xFFFFFFFE
    return address == -1 or address == -2


@hot_loop
def indexed_address(table: Any, base: int, index: int, size: int) -> int:
    """The address at `index` of a unit's part of .debug_addr, which begins at `base`; 0 outside of it."""
    if index < 0 or index > len(table) or base < 0:
        return 0
    position = base + index * size
    return fixed_value(table, position, size) if position <= len(table) - size else 0


@hot_loop
def read_ranges_4(data: Any, start: int, size: int, base: int, lowest: int, lows: Any, highs: Any, count: int) -> int:
    """Append the list at `start` of .debug_ranges to `lows` and `highs`, which hold `count` ranges.

    Returns how many they hold then, DAMAGED for a list that does not end, or FULL.
    """
    maximum = -1 if size == 8 else 0xFFFFFFFF
    position = start
    while True:
        if position < 0 or position > len(data) - 2 * size:
            return DAMAGED
        low = fixed_value(data, position, size)
        high = fixed_value(data, position + size, size)
        position += 2 * size
        if low == 0 and high == 0:
            return count
        if low == maximum:
            base = high
        elif low != high and base != maximum and base != maximum - 1:
            low = wrap64(low + base)
            high = wrap64(high + base)
            if low < high and not is_discarded(low, size, lowest):
                if count >= len(lows):
                    return FULL
                lows[count] = low
                highs[count] = high
                count += 1


@hot_loop
def read_ranges_5(
    data: Any, start: int, size: int, base: int, lowest: int, table: Any, table_base: int, lows: Any, highs: Any,
    count: int,
) -> int:  # fmt: skip
    """As `read_ranges_4`, for the list at `start` of .debug_rnglists; `table` is .debug_addr."""
    end = len(data)
    position = start
    while True:
        if position < 0 or position >= end:
            return DAMAGED
        kind = 0 + data[position]
        position += 1
        first = 0
        second = 0
        if kind == DW_RLE_end_of_list:
            return count
        if kind in (DW_RLE_base_address, DW_RLE_start_end, DW_RLE_start_length):
            if position > end - size:
                return DAMAGED
            first = fixed_value(data, position, size)
            position += size
            if kind == DW_RLE_base_address:
                base = first
                continue
            if kind == DW_RLE_start_end:
                if position > end - size:
                    return DAMAGED
                second = fixed_value(data, position, size)
                position += size
        elif kind in (DW_RLE_base_addressx, DW_RLE_startx_endx, DW_RLE_startx_length, DW_RLE_offset_pair):
            after = skip_leb128(data, position, end)
            if after < 0:
                return DAMAGED
            first = leb128_value(data, position, 0)
            position = after
            if kind != DW_RLE_offset_pair:
                first = indexed_address(table, table_base, first, size)
            if kind == DW_RLE_base_addressx:
                base = first
                continue
        else:
            return DAMAGED
        if kind != DW_RLE_start_end:
            after = skip_leb128(data, position, end)
            if after < 0:
                return DAMAGED
            second = leb128_value(data, position, 0)
            position = after
        if kind == DW_RLE_offset_pair:
            if base == -1 or base == -2:
                continue
            first = wrap64(first + base)
            second = wrap64(second + base)
        elif kind == DW_RLE_startx_endx:
            second = indexed_address(table, table_base, second, size)
        elif kind != DW_RLE_start_end:
            second = wrap64(first + second)
        if first < second and not is_discarded(first, size, lowest):
            if count >= len(lows):
                return FULL
            lows[count] = first
            highs[count] = second
            count += 1
