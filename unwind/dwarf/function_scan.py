"""One pass over a unit's entries that keeps its functions, inlined calls and the scopes that name them.

A hot loop writes one row of int64 columns for each entry of interest; nothing is resolved, so that the
columns can be kept or indexed as they are. Data comes from .debug_info; the rows go to symbolization and to
the function search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfi_tables.hot_loop import compiled, hot_loop, plain_view
from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfReason
from unwind.dwarf.line_program import fixed_value, leb128_value, prefer_plain, skip_leb128

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.unit import CompilationUnit

# Columns of a row. An attribute of several forms takes two: the form (0: absent) and the raw value.
OFFSET = 0
"""Offset of the entry in .debug_info."""
TAG = 1
PARENT = 2
"""Row of the nearest kept entry around it, -1 for none."""
END = 3
"""Row after the last one that is nested in it."""
LOW_FORM = 4
LOW = 5
HIGH_FORM = 6
HIGH = 7
RANGES_FORM = 8
RANGES = 9
ORIGIN_FORM = 10
ORIGIN = 11
"""Abstract origin or specification: offset in .debug_info of this file, or (GNU_ref_alt) the shared one."""
NAME_FORM = 12
NAME = 13
"""Raw string value; for DW_FORM_string the offset of the string in .debug_info."""
LINKAGE_FORM = 14
LINKAGE = 15
ENTRY_FORM = 16
ENTRY = 17
DECL_FILE = 18
DECL_LINE = 19
CALL_FILE = 20
CALL_LINE = 21
CALL_COLUMN = 22
DECLARATION = 23
"""1: DW_AT_declaration."""
WIDTH = 24

_DONE = 0
_FULL = 1
_DEEP = 2
_TRUNCATED = 3
_BAD_ABBREVIATION = 4
_BAD_FORM = 5


@hot_loop
def find_abbreviation(entries: Any, count: int, code: int) -> int:
    """Index in `entries` (AbbreviationColumns) of abbreviation `code`, -1 when it is not declared."""
    if 0 < code <= count and entries[4 * (code - 1)] == code:
        return code - 1  # producers number them from 1
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if entries[4 * middle] < code:
            low = middle + 1
        else:
            high = middle
    if low < count and entries[4 * low] == code:
        return low
    return -1


@hot_loop
def form_end(data: Any, position: int, end: int, form: int, offset_size: int) -> int:
    """Position after a value of varying size; -1 when it does not end before `end`, -2 for an unknown form.

    DW_FORM_indirect, which no producer writes into .debug_info, counts as unknown here.
    """
    length = 0
    if form in (C_udata, C_sdata, C_ref_udata) or (C_strx <= form and form <= C_addrx):
        return skip_leb128(data, position, end)
    if form in (C_loclistx, C_rnglistx, C_gnu_addr, C_gnu_str):
        return skip_leb128(data, position, end)
    if form == C_string:
        while position < end:
            if data[position] == 0:
                return position + 1
            position += 1
        return -1
    if form in (C_exprloc, C_block):
        after = skip_leb128(data, position, end)
        if after < 0:
            return -1
        length = leb128_value(data, position, 0)
        position = after
    elif form in (C_block1, C_block2, C_block4):
        size = 1 if form == C_block1 else (2 if form == C_block2 else 4)
        if end - position < size:
            return -1
        length = fixed_value(data, position, size)
        position += size
    else:
        return -2
    if length < 0 or length > end - position:
        return -1
    return position + length


C_udata = C.DW_FORM_udata
C_sdata = C.DW_FORM_sdata
C_ref_udata = C.DW_FORM_ref_udata
C_strx = C.DW_FORM_strx
C_addrx = C.DW_FORM_addrx
C_loclistx = C.DW_FORM_loclistx
C_rnglistx = C.DW_FORM_rnglistx
C_gnu_addr = C.DW_FORM_GNU_addr_index
C_gnu_str = C.DW_FORM_GNU_str_index
C_string = C.DW_FORM_string
C_exprloc = C.DW_FORM_exprloc
C_block = C.DW_FORM_block
C_block1 = C.DW_FORM_block1
C_block2 = C.DW_FORM_block2
C_block4 = C.DW_FORM_block4
C_implicit_const = C.DW_FORM_implicit_const
C_flag_present = C.DW_FORM_flag_present
C_ref1 = C.DW_FORM_ref1
C_ref8 = C.DW_FORM_ref8
_SUBPROGRAM = C.DW_TAG_subprogram
_INLINED = C.DW_TAG_inlined_subroutine
_NAMESPACE = C.DW_TAG_namespace
_CLASS = C.DW_TAG_class_type
_STRUCTURE = C.DW_TAG_structure_type
_UNION = C.DW_TAG_union_type
_INTERFACE = C.DW_TAG_interface_type
_MODULE = C.DW_TAG_module
_SIBLING = C.DW_AT_sibling
_LOW_PC = C.DW_AT_low_pc
_HIGH_PC = C.DW_AT_high_pc
_RANGES = C.DW_AT_ranges
_ABSTRACT_ORIGIN = C.DW_AT_abstract_origin
_SPECIFICATION = C.DW_AT_specification
_NAME = C.DW_AT_name
_LINKAGE_NAME = C.DW_AT_linkage_name
_MIPS_LINKAGE_NAME = C.DW_AT_MIPS_linkage_name
_ENTRY_PC = C.DW_AT_entry_pc
_DECL_FILE = C.DW_AT_decl_file
_DECL_LINE = C.DW_AT_decl_line
_CALL_FILE = C.DW_AT_call_file
_CALL_LINE = C.DW_AT_call_line
_CALL_COLUMN = C.DW_AT_call_column
_DECLARATION = C.DW_AT_declaration
_SIGNED_DATA = C.DW_FORM_sdata


@hot_loop
def column_of(attribute: int) -> int:
    """Column for the raw value of an attribute, -1 for one that is not kept."""
    if attribute == _NAME:
        return NAME
    if attribute == _LOW_PC:
        return LOW
    if attribute == _HIGH_PC:
        return HIGH
    if attribute in (_ABSTRACT_ORIGIN, _SPECIFICATION):
        return ORIGIN
    if attribute == _RANGES:
        return RANGES
    if attribute in (_LINKAGE_NAME, _MIPS_LINKAGE_NAME):
        return LINKAGE
    if attribute == _ENTRY_PC:
        return ENTRY
    if attribute == _DECL_FILE:
        return DECL_FILE
    if attribute == _DECL_LINE:
        return DECL_LINE
    if attribute == _CALL_FILE:
        return CALL_FILE
    if attribute == _CALL_LINE:
        return CALL_LINE
    if attribute == _CALL_COLUMN:
        return CALL_COLUMN
    if attribute == _DECLARATION:
        return DECLARATION
    return -1


@hot_loop
def scan_functions(
    data: Any,
    start: int,
    end: int,
    unit_offset: int,
    offset_size: int,
    entries: Any,
    attributes: Any,
    columns_of: Any,
    stack: Any,
    rows: Any,
) -> tuple[int, int, int]:
    """Scan the entries in `data[start:end]`; write WIDTH values into `rows` for each that is kept.

    `entries` and `attributes` are AbbreviationColumns; `columns_of[i]` is `column_of` of attribute i. `stack`
    is scratch, one element a nesting level. Returns rows, status, and the position where it ended.
    """
    capacity = len(rows) // WIDTH
    levels = len(stack)
    abbreviations = len(entries) // 4 - 1
    count = 0
    depth = 0
    owner = -1
    position = start
    while position < end:
        at = position
        after = skip_leb128(data, position, end)
        if after < 0:
            return count, _TRUNCATED, at
        code = leb128_value(data, position, 0) if after > position + 1 else 0 + data[position]
        position = after
        if code == 0:
            if depth > 0 and owner != stack[depth]:
                rows[owner * WIDTH + END] = count
                owner = stack[depth]
            depth -= 1
            if depth <= 0:
                break
            continue
        index = find_abbreviation(entries, abbreviations, code)
        if index < 0:
            return count, _BAD_ABBREVIATION, at
        tag = entries[4 * index + 1]
        has_children = entries[4 * index + 2]
        keep = tag in (_SUBPROGRAM, _INLINED) or (
            has_children != 0 and (tag in (_NAMESPACE, _CLASS, _STRUCTURE, _UNION, _INTERFACE, _MODULE))
        )
        base = count * WIDTH
        if keep:
            if count >= capacity:
                return count, _FULL, at
            for column in range(WIDTH):
                rows[base + column] = 0
            rows[base + OFFSET] = at
            rows[base + TAG] = tag
            rows[base + PARENT] = owner
            rows[base + END] = count + 1
        for item in range(entries[4 * index + 3], entries[4 * index + 7]):
            form = attributes[4 * item + 1]
            size = attributes[4 * item + 2]
            if size >= 0:
                after = position + size
                if size > end - position:
                    return count, _TRUNCATED, at
            else:
                after = form_end(data, position, end, form, offset_size)
                if after < 0:
                    return count, (_TRUNCATED if after == -1 else _BAD_FORM), at
            column = columns_of[item]
            if keep and column >= 0:
                value = 0
                if form == C_implicit_const:
                    value = attributes[4 * item + 3]
                elif form == C_flag_present:
                    value = 1
                elif form == C_string:
                    value = position
                elif size >= 0:
                    value = fixed_value(data, position, min(size, 8))
                elif form == _SIGNED_DATA:
                    value = leb128_value(data, position, 1)
                elif form != C_exprloc and form != C_block and (form < C_block2 or form > C_block4):
                    value = leb128_value(data, position, 0)
                if column == ORIGIN and ((C_ref1 <= form and form <= C_ref8) or form == C_ref_udata):
                    value += unit_offset
                rows[base + column] = value
                if column < DECL_FILE:
                    rows[base + column - 1] = form
            position = after
        if has_children:
            depth += 1
            if depth >= levels:
                return count, _DEEP, at
            stack[depth] = owner
            if keep:
                owner = count
        elif depth == 0:
            break
        if keep:
            count += 1
    return count, (_DONE if depth <= 0 else _TRUNCATED), position


def scan_unit(unit: CompilationUnit, plain: bool | None = None) -> np.ndarray:
    """The rows of a unit, int64 of shape (rows, WIDTH), in the order of .debug_info.

    `plain` chooses the form of the hot loop (None: by size). Damage ends the rows at its place and is noted
    in `unit.info.problems`. Raises DwarfError when the unit's header or abbreviations are unusable.
    """
    import numpy as np

    columns = unit.abbreviations.columns
    size = unit.end - unit.die_offset
    if plain is None:
        plain = prefer_plain(size)
    chosen = np.array([column_of(int(name)) for name in columns.attributes[::4]], dtype=np.int64)
    capacity = size // 24 + 64
    levels = 256
    arrays: list[Any] = [columns.entries, columns.attributes, chosen]
    data: Any = unit.data
    scan = scan_functions
    if plain:
        arrays = [plain_view(item) for item in arrays]
    else:
        data = np.frombuffer(unit.data, dtype=np.uint8)
        scan = compiled(scan_functions)
    while True:
        rows = np.empty(capacity * WIDTH, dtype=np.int64)
        stack = np.full(levels, -1, dtype=np.int64)
        scratch = [plain_view(stack), plain_view(rows)] if plain else [stack, rows]
        count, status, position = scan(
            data, unit.die_offset, unit.end, unit.offset, unit.offset_size, *arrays, *scratch
        )
        if status == _FULL:
            capacity *= 2
        elif status == _DEEP and levels < 1 << 20:
            levels *= 16
        else:
            break
    if status != _DONE:
        reason = _REASONS.get(int(status), DwarfReason.TRUNCATED)
        unit.info.note(reason, unit.section, int(position), unit.offset)
    table = rows[: count * WIDTH].reshape(-1, WIDTH).copy()
    if status != _DONE:
        _close_open_rows(table)
    return table


_REASONS = {
    _DEEP: DwarfReason.TOO_DEEP,
    _BAD_ABBREVIATION: DwarfReason.BAD_ABBREVIATION,
    _BAD_FORM: DwarfReason.BAD_FORM,
}


def _close_open_rows(table: np.ndarray) -> None:
    """Give rows that were still open when the scan stopped the end that the rows under them imply."""
    for row in range(len(table) - 1, -1, -1):
        parent = int(table[row, PARENT])
        if parent >= 0 and table[parent, END] < table[row, END]:
            table[parent, END] = table[row, END]
