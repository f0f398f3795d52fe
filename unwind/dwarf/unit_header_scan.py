"""Headers of all units of .debug_info, read in bulk (DWARF 5 §7.5.1); as objects they are read by unit.py."""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.dwarf.leb128 import fixed_value

# Columns of a unit.
UNIT_OFFSET = 0
UNIT_FIRST_ENTRY = 1
"""Offset of its first entry in .debug_info."""
UNIT_END = 2
UNIT_VERSION = 3
UNIT_ADDRESS_SIZE = 4
UNIT_OFFSET_SIZE = 5
UNIT_ABBREVIATIONS = 6
UNIT_TYPE = 7
HEADER_WIDTH = 8

_SHORTEST = 11


@hot_loop
def read_unit_headers(data: Any, columns: Any, width: int) -> int:
    """Write the columns above of each unit to `columns`, one unit each `width` values. Returns how many there are.

    -1: some header is damaged, or a unit ends behind the section; -2: `columns` is too small.
    """
    position = 0
    end = len(data)
    count = 0
    while position < end:
        if (count + 1) * width > len(columns):
            return -2
        if position > end - _SHORTEST:
            return -1
        base = count * width
        columns[base + UNIT_OFFSET] = position
        length = fixed_value(data, position, 4)
        offset_size = 4
        at = position + 4
        if length == 0xFFFFFFFF:
            if at > end - 8:
                return -1
            length = fixed_value(data, at, 8)
            offset_size = 8
            at += 8
        if length < 7 or length > end - at:
            return -1
        after = at + length
        # The longest header has 2 + 1 + 1 + 8 bytes and two identifiers of 8 bytes.
        version = fixed_value(data, at, 2)
        if version < 2 or version > 5 or after - at < 2 + 2 + offset_size:
            return -1
        at += 2
        kind = C.DW_UT_compile
        if version >= 5:
            kind = 0 + data[at]
            address_size = 0 + data[at + 1]
            abbreviations = fixed_value(data, at + 2, offset_size)
            at += 2 + offset_size
            if kind in (C.DW_UT_skeleton, C.DW_UT_split_compile):
                at += 8
            elif kind in (C.DW_UT_type, C.DW_UT_split_type):
                at += 8 + offset_size
        else:
            abbreviations = fixed_value(data, at, offset_size)
            address_size = 0 + data[at + offset_size]
            at += offset_size + 1
        if (address_size != 4 and address_size != 8) or kind < 1 or kind > 6 or at > after:
            return -1
        columns[base + UNIT_FIRST_ENTRY] = at
        columns[base + UNIT_END] = after
        columns[base + UNIT_VERSION] = version
        columns[base + UNIT_ADDRESS_SIZE] = address_size
        columns[base + UNIT_OFFSET_SIZE] = offset_size
        columns[base + UNIT_ABBREVIATIONS] = abbreviations
        columns[base + UNIT_TYPE] = kind
        position = after
        count += 1
    return count


@hot_loop
def longest_program(data: Any) -> int:
    """Bytes of the longest line number program in .debug_line, with its header; of all where a length is damaged."""
    longest = 0
    position = 0
    end = len(data)
    while position < end:
        if position > end - 12:
            return end
        length = fixed_value(data, position, 4)
        header = 4
        if length == 0xFFFFFFFF:
            length = fixed_value(data, position + 4, 8)
            header = 12
        # A unit may refer to a place between the headers, where any length may stand.
        if length < 0 or length > end - position - header:
            return end
        longest = max(longest, length + header)
        position += length + header
    return longest
