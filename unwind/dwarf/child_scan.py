"""Where the entries directly under one entry begin, as a hot loop: for owners with thousands of them.

Says what `Entry.children` says, without an object for each. Data comes from .debug_info; the offsets go to the search
for the owner of an entry, which in C++ passes namespaces that a unit fills for the most part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfi_tables.hot_loop import compiled, compiled_pays, hot_loop, plain_view
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import function_scan as F
from unwind.dwarf.abbreviation_scan import find_abbreviation
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.function_scan import skip_entry, unit_abbreviations
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit

_ENTRY_RATE = 2 << 20
"""Bytes of entries in a second that are read as objects, about."""


@hot_loop
def scan_children(
    data: Any,
    start: int,
    end: int,
    unit_offset: int,
    offset_size: int,
    abbreviations: Any,
    abbreviation_count: int,
    attributes: Any,
    found: Any,
) -> tuple[int, int, int]:
    """Write the offsets of the entries from `start` on to `found`, up to the end of their list, without those in them.

    Returns how many there are, a status of function_scan, and the position where it ended.
    """
    count = 0
    depth = 0
    position = start
    while position < end:
        at = position
        code = 0 + data[position]
        position += 1
        if code == 0:
            if depth == 0:
                return count, F.DONE, at
            depth -= 1
            continue
        if code >= 128:
            position = skip_leb128(data, at, end)
            if position < 0:
                return count, F.TRUNCATED, at
            code = leb128_value(data, at, 0)
        index = find_abbreviation(abbreviations, abbreviation_count, code)
        if index < 0:
            return count, F.BAD_ABBREVIATION, at
        if depth == 0:
            if count >= len(found):
                return count, F.FULL, at
            found[count] = at
            count += 1
        shape = index * A.ABBREVIATION_WIDTH
        begin = position
        size = 0 + abbreviations[shape + A.SIZE]
        if size >= 0:
            position = position + size if size <= end - position else -1
        else:
            first = 0 + abbreviations[shape + A.FIRST]
            last = 0 + abbreviations[shape + A.LAST]
            position = skip_entry(data, position, end, offset_size, first, last, attributes)
        if position < 0:
            return count, F.TRUNCATED if position == -1 else F.BAD_FORM, at
        if abbreviations[shape + A.CHILDREN] != 0:
            place = 0 + abbreviations[shape + A.SIBLING]
            if place >= 0:
                sibling = fixed_value(data, begin + place // 16, place % 16)
                if sibling > position - unit_offset and sibling < end - unit_offset:
                    position = unit_offset + sibling
                    continue
            depth += 1
    return count, F.TRUNCATED, position


def child_offsets(unit: CompilationUnit, start: int, end: int, plain: bool | None = None) -> list[int] | None:
    """Offsets of the entries from `start` on that are under the same owner, whose entries end at `end` at most.

    None where it does not pay to have them scanned; `plain` chooses the form of the hot loop. Raises DwarfError.
    """
    if plain is None and not compiled_pays(scan_children, (end - start) / _ENTRY_RATE):
        return None
    import numpy as np

    plain = bool(plain)
    data: Any = unit.data if plain else np.frombuffer(unit.data, dtype=np.uint8)
    abbreviations, count, attributes = unit_abbreviations(unit, plain)
    scan: Any = scan_children if plain else compiled(scan_children)
    room = 64 + (end - start) // 256
    while True:
        found = np.empty(room, dtype=np.int64)
        shapes, columns, places = (plain_view(each) if plain else each for each in (abbreviations, attributes, found))
        children, status, position = scan(
            data, start, unit.end, unit.offset, unit.offset_size, shapes, count, columns, places
        )
        if status != F.FULL:
            break
        room *= 8
    if status != F.DONE:
        reason = F.REASONS.get(status, DwarfReason.TRUNCATED)
        raise DwarfError(reason, unit.section, int(position), unit.offset)
    listed: list[int] = found[:children].tolist()
    return listed
