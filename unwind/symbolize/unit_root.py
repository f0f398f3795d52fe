"""The first entry of a unit, read in bulk: where its code begins, its language, and what its other entries refer to."""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import constants as C
from unwind.dwarf import line_header_scan as H
from unwind.dwarf.abbreviation_scan import find_abbreviation
from unwind.dwarf.function_scan import attribute_value, direct_form, form_end
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128
from unwind.dwarf.line_header_scan import string_reference
from unwind.dwarf.range_scan import indexed_address, is_address_index
from unwind.dwarf.unit_header_scan import (
    UNIT_ADDRESS_SIZE,
    UNIT_END,
    UNIT_FIRST_ENTRY,
    UNIT_OFFSET_SIZE,
    UNIT_TYPE,
    UNIT_VERSION,
)

# Columns of a unit behind those of its header.
UNIT_KIND = 8
LINKED = 0
"""A unit of the module's own file; where it turns out to be a skeleton, no more of it is read."""
ALONE = 1
"""A skeleton unit whose split file is not there."""
FULL = 2
"""A unit of a split file; what its skeleton says is in the columns below."""
SHARED = 3
"""A unit of the shared file, which has no code."""
UNIT_LOWEST = 9
"""The lowest address that code can have: 1, or 0 in objects."""
UNIT_LINE = 10
"""Offset of the line number program, -1 without one."""
UNIT_ADDRESS_BASE = 11
UNIT_STRING_BASE = 12
UNIT_RANGE_BASE = 13
UNIT_RANGES_4 = 14
"""What is added to offsets in .debug_ranges."""
UNIT_LOW = 15
UNIT_TOLD = 16
"""Index of the first of its pairs of addresses: the ranges of the skeleton."""
UNIT_TOLD_COUNT = 17
UNIT_WIDTH = 18

# Values of a unit's first entry, by index in a scratch array.
ROOT_LOW = 0
ROOT_LINE = 1
ROOT_ADDRESS_BASE = 2
ROOT_STRING_BASE = 3
ROOT_RANGE_BASE = 4
ROOT_LANGUAGE = 5
ROOT_DIRECTORY = 6
ROOT_SPLIT = 7
ROOT_LOW_FORM = 8
ROOT_LOW_RAW = 9
ROOT_HIGH_FORM = 10
ROOT_HIGH = 11
ROOT_RANGES_FORM = 12
ROOT_RANGES = 13
ROOT_COUNT = 14
"""Length of that scratch array."""


@hot_loop
def string_at(form: int, value: int, string_offsets: Any, base: int, offset_size: int) -> int:
    """How the string of an entry's attribute is referred to; SHARED_STRING less an offset in the shared file."""
    if form == 0:
        return H.NO_STRING
    if (C.DW_FORM_strx1 <= form and form <= C.DW_FORM_strx4) or form in (C.DW_FORM_strx, C.DW_FORM_GNU_str_index):
        if value < 0 or value > len(string_offsets):
            return H.NO_STRING
        position = base + value * offset_size
        if position < 0 or position > len(string_offsets) - offset_size:
            return H.NO_STRING
        return 8 * fixed_value(string_offsets, position, offset_size) + H.IN_STR
    if form in (C.DW_FORM_GNU_strp_alt, C.DW_FORM_strp_sup):
        return H.SHARED_STRING - (value & 0xFFFFFFFFFFFF)
    return string_reference(form, value, False)


@hot_loop
def read_root(
    data: Any,
    unit: Any,
    base: int,
    abbreviations: Any,
    abbreviation_count: int,
    attributes: Any,
    addresses: Any,
    string_offsets: Any,
    root: Any,
) -> bool:
    """Read the unit's first entry into `root` (see above); whether it could be."""
    header = 8 if unit[base + UNIT_OFFSET_SIZE] == 4 else 16
    offset_size = 0 + unit[base + UNIT_OFFSET_SIZE]
    root[ROOT_LOW] = 0
    root[ROOT_LINE] = -1
    root[ROOT_ADDRESS_BASE] = header if unit[base + UNIT_VERSION] >= 5 else 0
    root[ROOT_STRING_BASE] = root[ROOT_ADDRESS_BASE]
    root[ROOT_RANGE_BASE] = header + 4
    root[ROOT_LANGUAGE] = 0
    root[ROOT_DIRECTORY] = H.NO_STRING
    for value in range(ROOT_SPLIT, ROOT_COUNT):
        root[value] = 0
    position = 0 + unit[base + UNIT_FIRST_ENTRY]
    end = 0 + unit[base + UNIT_END]
    after = skip_leb128(data, position, end)
    if after < 0:
        return False
    index = find_abbreviation(abbreviations, abbreviation_count, leb128_value(data, position, 0))
    if index < 0:
        return False
    position = after
    directory_form = 0
    directory = 0
    shape = index * A.ABBREVIATION_WIDTH
    for item in range(abbreviations[shape + A.FIRST], abbreviations[shape + A.LAST]):
        name = 0 + attributes[item * A.ATTRIBUTE_WIDTH + A.ATTRIBUTE_NAME]
        form = 0 + attributes[item * A.ATTRIBUTE_WIDTH + A.ATTRIBUTE_FORM]
        size = 0 + attributes[item * A.ATTRIBUTE_WIDTH + A.ATTRIBUTE_SIZE]
        constant = 0 + attributes[item * A.ATTRIBUTE_WIDTH + A.ATTRIBUTE_CONSTANT]
        if form == C.DW_FORM_indirect:
            form, size, position = direct_form(data, position, end, constant, offset_size)
        after = position + size if size >= 0 else form_end(data, position, end, form, offset_size)
        if form == 0 or after < 0 or after > end:
            return False
        value = attribute_value(data, position, form, size, constant)
        if name == C.DW_AT_low_pc:
            root[ROOT_LOW_FORM] = form
            root[ROOT_LOW_RAW] = value
        elif name == C.DW_AT_high_pc:
            root[ROOT_HIGH_FORM] = form
            root[ROOT_HIGH] = value
        elif name == C.DW_AT_ranges:
            root[ROOT_RANGES_FORM] = form
            root[ROOT_RANGES] = value
        elif name == C.DW_AT_stmt_list:
            root[ROOT_LINE] = value
        elif name in (C.DW_AT_addr_base, C.DW_AT_GNU_addr_base):
            root[ROOT_ADDRESS_BASE] = value
        elif name == C.DW_AT_str_offsets_base:
            root[ROOT_STRING_BASE] = value
        elif name == C.DW_AT_rnglists_base:
            root[ROOT_RANGE_BASE] = value
        elif name == C.DW_AT_language:
            root[ROOT_LANGUAGE] = value
        elif name == C.DW_AT_comp_dir:
            directory_form = form
            directory = value
        elif name in (C.DW_AT_GNU_dwo_name, C.DW_AT_dwo_name):
            root[ROOT_SPLIT] = 1
        position = after
    if unit[base + UNIT_TYPE] == C.DW_UT_skeleton:
        root[ROOT_SPLIT] = 1
    if unit[base + UNIT_KIND] == FULL:
        root[ROOT_LINE] = unit[base + UNIT_LINE]
        root[ROOT_ADDRESS_BASE] = unit[base + UNIT_ADDRESS_BASE]
        root[ROOT_STRING_BASE] = unit[base + UNIT_STRING_BASE]
        root[ROOT_RANGE_BASE] = unit[base + UNIT_RANGE_BASE]
        root[ROOT_LOW] = unit[base + UNIT_LOW]
        root[ROOT_LOW_FORM] = 0
        root[ROOT_HIGH_FORM] = 0
        root[ROOT_RANGES_FORM] = 0
        return True
    if unit[base + UNIT_KIND] == SHARED or abbreviations[shape + A.TAG] == C.DW_TAG_partial_unit:
        root[ROOT_LINE] = -1  # what it names is for the units that import it, which have the same lines
    root[ROOT_DIRECTORY] = string_at(directory_form, directory, string_offsets, root[ROOT_STRING_BASE], offset_size)
    root[ROOT_LOW] = root[ROOT_LOW_RAW]
    if is_address_index(root[ROOT_LOW_FORM]):
        root[ROOT_LOW] = indexed_address(
            addresses, root[ROOT_ADDRESS_BASE], root[ROOT_LOW_RAW], unit[base + UNIT_ADDRESS_SIZE]
        )
    return True
