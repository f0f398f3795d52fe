"""Abbreviation tables as flat columns, for the hot loops that read whole units (DWARF 5 §7.5.3).

For each abbreviation the columns also say what a scan does with its entries: whether they are kept, and how the others
are stepped over without a look at each attribute. Data comes from .debug_abbrev.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.dwarf.abbreviation import fixed_form_size
from unwind.dwarf.leb128 import leb128_value, skip_leb128

if TYPE_CHECKING:
    import numpy as np

# Columns of an abbreviation.
CODE = 0
TAG = 1
CHILDREN = 2
"""0 or 1."""
FIRST = 3
"""Index of its first attribute."""
LAST = 4
"""Index behind its last attribute."""
SIZE = 5
"""Bytes of all its attributes, -1 where they vary."""
KIND = 6
SIBLING = 7
"""16 times the place of DW_AT_sibling among the attributes' bytes, and its size; -1 without one at a fixed place."""
ABBREVIATION_WIDTH = 8

# Kinds.
OTHER = 0
FUNCTION = 1
"""A function or an inlined call."""
SCOPE = 2
"""A namespace or a class, in which functions are declared."""
WITHOUT_CODE = 3
"""A type or a call site, with no function in it."""

# Columns of an attribute.
ATTRIBUTE_NAME = 0
ATTRIBUTE_FORM = 1
ATTRIBUTE_SIZE = 2
"""Bytes, -1 where its own bytes say so."""
ATTRIBUTE_CONSTANT = 3
"""Of DW_FORM_implicit_const; of DW_FORM_indirect 16 times the bytes of an address, and those of a DW_FORM_ref_addr."""
ATTRIBUTE_WIDTH = 4

DONE = 0
FULL = 1
TRUNCATED = 2

_ADDRESS_SIZED = -2
_OFFSET_SIZED = -3
_REFERENCE_SIZED = -4
_FORM_LIMIT = 0x2D

_FUNCTION_TAGS = (C.DW_TAG_subprogram, C.DW_TAG_inlined_subroutine)
_SCOPE_TAGS = (
    C.DW_TAG_namespace,
    C.DW_TAG_class_type,
    C.DW_TAG_structure_type,
    C.DW_TAG_union_type,
    C.DW_TAG_interface_type,
    C.DW_TAG_module,
)
_WITHOUT_CODE_TAGS = (
    C.DW_TAG_enumeration_type,
    C.DW_TAG_array_type,
    C.DW_TAG_subroutine_type,
    C.DW_TAG_call_site,
    C.DW_TAG_GNU_call_site,
)
_SIBLING_NAME = C.DW_AT_sibling
_REF1 = C.DW_FORM_ref1
_REF8 = C.DW_FORM_ref8
_IMPLICIT = C.DW_FORM_implicit_const
_INDIRECT = C.DW_FORM_indirect
_REF_ALT = C.DW_FORM_GNU_ref_alt
_STRP_ALT = C.DW_FORM_GNU_strp_alt
_COMPLETING = (C.DW_AT_abstract_origin, C.DW_AT_specification)
_FREE_FORMS = (C.DW_FORM_ref_addr, C.DW_FORM_indirect)


@cache
def form_sizes() -> np.ndarray:
    """Bytes of each form's value by DW_FORM, int64; -1 where it varies, less where the unit's sizes tell."""
    import numpy as np

    sizes = []
    for form in range(_FORM_LIMIT):
        small = fixed_form_size(form, 5, 4, 4)
        if form == C.DW_FORM_addr:
            small = _ADDRESS_SIZED
        elif form == C.DW_FORM_ref_addr:
            small = _REFERENCE_SIZED
        elif fixed_form_size(form, 5, 4, 8) != small:
            small = _OFFSET_SIZED
        sizes.append(small)
    return np.array(sizes, dtype=np.int64)


@hot_loop
def form_size(form: int, version: int, address_size: int, offset_size: int, sizes: Any) -> int:
    """Bytes of a value of `form`, -1 where they vary; `sizes` are `form_sizes`."""
    if form < 0 or form >= _FORM_LIMIT:
        return offset_size if form in (_REF_ALT, _STRP_ALT) else -1
    size: int = 0 + sizes[form]
    if size >= -1:
        return size
    if size == _ADDRESS_SIZED or (size == _REFERENCE_SIZED and version <= 2):
        return address_size
    return offset_size


@hot_loop
def kind_of(tag: int) -> int:
    """What a scan does with entries of `tag`."""
    if tag in _FUNCTION_TAGS:
        return FUNCTION
    if tag in _SCOPE_TAGS:
        return SCOPE
    return WITHOUT_CODE if tag in _WITHOUT_CODE_TAGS else OTHER


@hot_loop
def completes_elsewhere(data: Any) -> int:
    """1 when some entry may be completed by one of another unit, as an abbreviation of `data` (.debug_abbrev) lets it.

    So may it where the section is not one whole table after the other.
    """
    end = len(data)
    position = 0
    while position < end:
        if data[position] == 0:
            position += 1
            continue
        for _ in range(2):
            position = skip_leb128(data, position, end)
            if position < 0:
                return 1
        position += 1
        while True:
            start = position
            middle = skip_leb128(data, start, end)
            position = skip_leb128(data, middle, end) if middle >= 0 else -1
            if position < 0:
                return 1
            name = leb128_value(data, start, 0)
            form = leb128_value(data, middle, 0)
            if form == _IMPLICIT:
                position = skip_leb128(data, position, end)
                if position < 0:
                    return 1
            if name in _COMPLETING and form in _FREE_FORMS:
                return 1
            if name == 0 and form == 0:
                break
    return 0


@hot_loop
def read_abbreviations(
    data: Any,
    start: int,
    version: int,
    address_size: int,
    offset_size: int,
    sizes: Any,
    abbreviations: Any,
    attributes: Any,
) -> tuple[int, int, int]:
    """Read the table at `start` into `abbreviations` (sorted by code) and `attributes`.

    Returns how many there are of each, and DONE, FULL (an array is too small) or TRUNCATED.
    """
    capacity = len(abbreviations) // ABBREVIATION_WIDTH
    attribute_capacity = len(attributes) // ATTRIBUTE_WIDTH
    end = len(data)
    count = 0
    used = 0
    position = start
    while True:
        after = skip_leb128(data, position, end) if position >= 0 else -1
        if after < 0:
            return count, used, TRUNCATED
        code = leb128_value(data, position, 0)
        if code == 0:
            return count, used, DONE
        position = after
        after = skip_leb128(data, position, end)
        if after < 0 or after >= end:
            return count, used, TRUNCATED
        if count >= capacity:
            return count, used, FULL
        base = count * ABBREVIATION_WIDTH
        abbreviations[base + CODE] = code
        abbreviations[base + TAG] = leb128_value(data, position, 0)
        abbreviations[base + CHILDREN] = 1 if data[after] != 0 else 0
        abbreviations[base + FIRST] = used
        abbreviations[base + KIND] = kind_of(abbreviations[base + TAG])
        abbreviations[base + SIBLING] = -1
        position = after + 1
        total = 0
        while True:
            after = skip_leb128(data, position, end)
            if after < 0:
                return count, used, TRUNCATED
            name = leb128_value(data, position, 0)
            position = after
            after = skip_leb128(data, position, end)
            if after < 0:
                return count, used, TRUNCATED
            form = leb128_value(data, position, 0)
            position = after
            constant = 0
            if form == _IMPLICIT:
                after = skip_leb128(data, position, end)
                if after < 0:
                    return count, used, TRUNCATED
                constant = leb128_value(data, position, 1)
                position = after
            elif form == _INDIRECT:
                constant = 16 * address_size + (address_size if version <= 2 else offset_size)
            if name == 0 and form == 0:
                break
            if used >= attribute_capacity:
                return count, used, FULL
            size = form_size(form, version, address_size, offset_size, sizes)
            if name == _SIBLING_NAME and total >= 0 and form >= _REF1 and form <= _REF8:
                abbreviations[base + SIBLING] = 16 * total + size
            total = -1 if size < 0 or total < 0 else total + size
            attributes[used * ATTRIBUTE_WIDTH + ATTRIBUTE_NAME] = name
            attributes[used * ATTRIBUTE_WIDTH + ATTRIBUTE_FORM] = form
            attributes[used * ATTRIBUTE_WIDTH + ATTRIBUTE_SIZE] = size
            attributes[used * ATTRIBUTE_WIDTH + ATTRIBUTE_CONSTANT] = constant
            used += 1
        abbreviations[base + LAST] = used
        abbreviations[base + SIZE] = total
        _put_in_order(abbreviations, count)
        count += 1


@hot_loop
def _put_in_order(abbreviations: Any, last: int) -> None:
    """Move the abbreviation at `last` before those of greater codes; producers number them in order."""
    at = last
    while at > 0 and abbreviations[(at - 1) * ABBREVIATION_WIDTH] > abbreviations[at * ABBREVIATION_WIDTH]:
        for column in range(ABBREVIATION_WIDTH):
            above = (at - 1) * ABBREVIATION_WIDTH + column
            below = at * ABBREVIATION_WIDTH + column
            value = 0 + abbreviations[below]
            abbreviations[below] = abbreviations[above]
            abbreviations[above] = value
        at -= 1


@hot_loop
def find_abbreviation(abbreviations: Any, count: int, code: int) -> int:
    """Index of abbreviation `code`, -1 when it is not declared."""
    if code > 0 and code <= count and abbreviations[(code - 1) * ABBREVIATION_WIDTH] == code:
        return code - 1  # producers number them from 1
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if abbreviations[middle * ABBREVIATION_WIDTH] < code:
            low = middle + 1
        else:
            high = middle
    if low < count and abbreviations[low * ABBREVIATION_WIDTH] == code:
        return low
    return -1
