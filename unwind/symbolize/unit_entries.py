"""Entries of one unit as an index keeps them: which of those that were scanned, and their columns, as hot loops.

What has no code of its own is kept only where something that has code lies in it, or is completed by it: in C++ most
entries are declarations of member functions that nothing calls.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.range_scan import indexed_address, is_address, is_address_index
from unwind.dwarf.unit_header_scan import UNIT_ADDRESS_SIZE, UNIT_OFFSET_SIZE
from unwind.symbolize import scan_columns as U
from unwind.symbolize.unit_root import ROOT_ADDRESS_BASE, ROOT_STRING_BASE, UNIT_WIDTH, string_at

_SHARED_FORMS = (C.DW_FORM_GNU_ref_alt, C.DW_FORM_ref_sup4, C.DW_FORM_ref_sup8)


@hot_loop
def _entry_address(
    row: Any,
    at: int,
    addresses: Any,
    address_base: int,
    address_size: int,
    lows: Any,
    highs: Any,
    first: int,
    last: int,
) -> int:
    """Where the function of the scan row at `at` is entered (DWARF 5 §2.18), U.WITHOUT_CODE for what has none."""
    if first >= last:
        return U.WITHOUT_CODE
    form = 0 + row[at + F.ENTRY_FORM]
    if form != 0:
        entry: int = 0 + row[at + F.ENTRY]
        if is_address_index(form):
            entry = indexed_address(addresses, address_base, entry, address_size)
        elif not is_address(form):
            entry = lows[first] + entry if entry >= 0 and entry < 1 << 40 else 0
        for index in range(first, last):
            if lows[index] <= entry and entry < highs[index]:
                return entry
    start: int = 0 + lows[first]
    return start


@hot_loop
def file_index(facts: Any, fact: int, file: int) -> int:
    """Index among all files of what a unit's line rows and call sites call `file`; -1 for none."""
    index = file if facts[fact + U.LINE_VERSION] >= 5 else file - 1
    return facts[fact + U.FIRST_FILE] + index if index >= 0 and index < facts[fact + U.FILE_COUNT] else -1


@hot_loop
def _scanned_at(scanned: Any, count: int, row: int) -> int:
    """The row of the entry of the same unit that completes that of `row`, -1 where there is none."""
    form = 0 + scanned[row * F.WIDTH + F.ORIGIN_FORM]
    if form == 0 or form == C.DW_FORM_ref_sig8 or form in _SHARED_FORMS:
        return -1
    offset = 0 + scanned[row * F.WIDTH + F.ORIGIN]
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if scanned[middle * F.WIDTH + F.OFFSET] < offset:
            low = middle + 1
        else:
            high = middle
    return low if low < count and scanned[low * F.WIDTH + F.OFFSET] == offset else -1


@hot_loop
def choose_entries(
    scanned: Any, count: int, range_first: Any, everything: int, numbers: Any, origins: Any, waiting: Any
) -> int:
    """Write to `numbers` what each of the `count` scan rows of a unit is called among those that are kept, or -1.

    Those with code are, and what they lie in or are completed by; with `everything` all. `origins` becomes the row that
    completes each of them, -1 where none of the unit does. `waiting` is scratch. Returns how many are kept.
    """
    left = 0
    for row in range(count):
        numbers[row] = -1
        if everything != 0 or range_first[row] < range_first[row + 1]:
            numbers[row] = 0
            waiting[left] = row
            left += 1
    while left > 0:
        left -= 1
        row = 0 + waiting[left]
        origin = _scanned_at(scanned, count, row)
        origins[row] = origin
        if origin >= 0 and numbers[origin] < 0:
            numbers[origin] = 0
            waiting[left] = origin
            left += 1
        parent = 0 + scanned[row * F.WIDTH + F.PARENT]
        if parent >= 0 and numbers[parent] < 0:
            numbers[parent] = 0
            waiting[left] = parent
            left += 1
    kept = 0
    for row in range(count):
        if numbers[row] == 0:
            numbers[row] = kept
            kept += 1
    return kept


@hot_loop
def _origin_offset(form: int, origin: int) -> int:
    """How an entry refers to what completes it: the column ORIGIN."""
    if form == 0:
        return -1
    if form in _SHARED_FORMS:
        return U.ORIGIN_SHARED - (origin & 0xFFFFFFFFFFFF)
    return U.ORIGIN_ELSEWHERE if form == C.DW_FORM_ref_sig8 or origin < 0 else origin


@hot_loop
def keep_entries(
    scanned: Any, count: int, unit: int, sections: Any, root: Any, units: Any, facts: Any, ranges: Any, entries: Any,
    first: int, numbers: Any, origins: Any,
) -> None:  # fmt: skip
    """Write the scan rows of a unit that `choose_entries` chose to `entries` from `first` on."""
    _, _, _, addresses, string_offsets, _, _ = sections
    range_first, lows, highs = ranges
    fact = unit * U.FACT_WIDTH
    offset_size = 0 + units[unit * UNIT_WIDTH + UNIT_OFFSET_SIZE]
    address_size = 0 + units[unit * UNIT_WIDTH + UNIT_ADDRESS_SIZE]
    strings = 0 + root[ROOT_STRING_BASE]
    for row in range(count):
        if numbers[row] < 0:
            continue
        at = row * F.WIDTH
        entry = (first + numbers[row]) * U.ENTRY_WIDTH
        parent = 0 + scanned[at + F.PARENT]
        entries[entry + U.OFFSET] = scanned[at + F.OFFSET]
        entries[entry + U.UNIT] = unit
        entries[entry + U.TAG] = scanned[at + F.TAG]
        entries[entry + U.PARENT] = first + numbers[parent] if parent >= 0 else -1
        entries[entry + U.ORIGIN] = _origin_offset(scanned[at + F.ORIGIN_FORM], scanned[at + F.ORIGIN])
        entries[entry + U.ORIGIN_ENTRY] = first + numbers[origins[row]] if origins[row] >= 0 else -1
        entries[entry + U.NAME] = string_at(
            scanned[at + F.NAME_FORM], scanned[at + F.NAME], string_offsets, strings, offset_size
        )
        entries[entry + U.LINKAGE] = string_at(
            scanned[at + F.LINKAGE_FORM], scanned[at + F.LINKAGE], string_offsets, strings, offset_size
        )
        entries[entry + U.CALL_FILE] = file_index(facts, fact, scanned[at + F.CALL_FILE])
        entries[entry + U.CALL_LINE] = scanned[at + F.CALL_LINE] & 0x7FFFFFFF
        entries[entry + U.CALL_COLUMN] = scanned[at + F.CALL_COLUMN] & 0x7FFFFFFF
        entries[entry + U.START] = _entry_address(
            scanned, at, addresses, root[ROOT_ADDRESS_BASE], address_size, lows, highs, range_first[row],
            range_first[row + 1],
        )  # fmt: skip


@hot_loop
def copy_shifted(source: Any, width: int, shifts: Any, target: Any) -> None:
    """Copy rows of `width` values, with `shifts[column]` added to what is not negative in each column."""
    for base in range(0, len(source), width):
        for column in range(width):
            value = 0 + source[base + column]
            target[base + column] = value + shifts[column] if value >= 0 else value
