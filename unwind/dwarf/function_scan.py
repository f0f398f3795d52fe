"""One pass over a unit's entries that keeps its functions, inlined calls and the scopes that name them.

A hot loop writes one row of int64 columns for each entry of interest; nothing is resolved, so that the
columns can be kept or indexed as they are. Data comes from .debug_info; the rows go to symbolization and to
the function search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfi_tables.hot_loop import compiled, compiled_pays, hot_loop, plain_view
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import constants as C
from unwind.dwarf.abbreviation_scan import find_abbreviation, form_sizes, read_abbreviations
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.language import has_scopes
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128
from unwind.dwarf.line_program import INTERPRETED_RATE

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

DONE = 0
FULL = 1
DEEP = 2
TRUNCATED = 3
BAD_ABBREVIATION = 4
BAD_FORM = 5


@hot_loop
def form_end(data: Any, position: int, end: int, form: int, offset_size: int) -> int:
    """Position after a value of varying size; -1 when it does not end before `end`, -2 for an unknown form.

    DW_FORM_indirect is for the caller, see `direct_form`; here it is unknown.
    """
    length: int = 0
    if form == C_exprloc:
        if position < end and data[position] < 128:
            length = 0 + data[position]
            position += 1
        else:
            after = skip_leb128(data, position, end)
            if after < 0:
                return -1
            length = leb128_value(data, position, 0)
            position = after
    elif form in (C_udata, C_sdata, C_ref_udata, C_strx, C_addrx, C_loclistx, C_rnglistx, C_gnu_addr, C_gnu_str):
        return skip_leb128(data, position, end)
    elif form == C_string:
        while position < end:
            if data[position] == 0:
                return position + 1
            position += 1
        return -1
    elif form == C_block:
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
_INDIRECT = C.DW_FORM_indirect
_ADDR = C.DW_FORM_addr
_REF_ADDR = C.DW_FORM_ref_addr
_DATA16 = C.DW_FORM_data16
_SIZED_1 = (C.DW_FORM_data1, C.DW_FORM_flag, C.DW_FORM_ref1, C.DW_FORM_strx1, C.DW_FORM_addrx1)
_SIZED_2 = (C.DW_FORM_data2, C.DW_FORM_ref2, C.DW_FORM_strx2, C.DW_FORM_addrx2)
_SIZED_3 = (C.DW_FORM_strx3, C.DW_FORM_addrx3)
_SIZED_4 = (C.DW_FORM_data4, C.DW_FORM_ref4, C.DW_FORM_ref_sup4, C.DW_FORM_strx4, C.DW_FORM_addrx4)
_SIZED_8 = (C.DW_FORM_data8, C.DW_FORM_ref8, C.DW_FORM_ref_sig8, C.DW_FORM_ref_sup8)
_OFFSET_SIZED = (
    C.DW_FORM_strp,
    C.DW_FORM_line_strp,
    C.DW_FORM_sec_offset,
    C.DW_FORM_strp_sup,
    C.DW_FORM_GNU_ref_alt,
    C.DW_FORM_GNU_strp_alt,
)


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
def attribute_value(data: Any, position: int, form: int, size: int, constant: int) -> int:
    """The raw value of an attribute, whose bytes were checked; of a DW_FORM_string its position, of a block 0."""
    if size > 0:
        return fixed_value(data, position, size if size < 8 else 8)
    if form == C_implicit_const:
        return constant
    if form == C_flag_present:
        return 1
    if form == C_string:
        return position
    if form == _SIGNED_DATA:
        return leb128_value(data, position, 1)
    if form == C_exprloc or form == C_block or (C_block2 <= form and form <= C_block4):
        return 0
    return leb128_value(data, position, 0)


@hot_loop
def direct_form(data: Any, position: int, end: int, constant: int, offset_size: int) -> tuple[int, int, int]:
    """(form, its size or -1, position of the value) of the DW_FORM_indirect at `position`; form 0 when it is cut off.

    `constant` is that of the attribute. Forms that may not follow are left to `form_end`, which knows none of them.
    """
    after = skip_leb128(data, position, end)
    if after < 0:
        return 0, 0, position
    form = leb128_value(data, position, 0)
    size = -1
    if form in _SIZED_1:
        size = 1
    elif form in _SIZED_2:
        size = 2
    elif form in _SIZED_3:
        size = 3
    elif form in _SIZED_4:
        size = 4
    elif form in _SIZED_8:
        size = 8
    elif form in _OFFSET_SIZED:
        size = offset_size
    elif form == _ADDR:
        size = constant // 16
    elif form == _REF_ADDR:
        size = constant % 16
    elif form == _DATA16:
        size = 16
    elif form == C_flag_present:
        size = 0
    return form, size, after


@hot_loop
def _keep_entry(
    data: Any,
    position: int,
    end: int,
    unit_offset: int,
    offset_size: int,
    first: int,
    last: int,
    attributes: Any,
    rows: Any,
    base: int,
) -> int:
    """Write the attributes `first` to `last` of the entry into the row at `base`.

    Gives the position after them, -1 when it lies behind `end`, -2 for an unknown form.
    """
    for item in range(first * A.ATTRIBUTE_WIDTH, last * A.ATTRIBUTE_WIDTH, A.ATTRIBUTE_WIDTH):
        form = 0 + attributes[item + A.ATTRIBUTE_FORM]
        size = 0 + attributes[item + A.ATTRIBUTE_SIZE]
        if form == _INDIRECT:
            constant = 0 + attributes[item + A.ATTRIBUTE_CONSTANT]
            form, size, position = direct_form(data, position, end, constant, offset_size)
            if form == 0:
                return -1
        if size >= 0:
            after = position + size
            if size > end - position:
                return -1
        else:
            after = form_end(data, position, end, form, offset_size)
            if after < 0:
                return after
        column = column_of(attributes[item + A.ATTRIBUTE_NAME])
        if column >= 0:
            value = attribute_value(data, position, form, size, attributes[item + A.ATTRIBUTE_CONSTANT])
            if column == ORIGIN and ((C_ref1 <= form and form <= C_ref8) or form == C_ref_udata):
                value += unit_offset
            rows[base + column] = value
            if column < DECL_FILE:
                rows[base + column - 1] = form
        position = after
    return position


@hot_loop
def skip_entry(data: Any, position: int, end: int, offset_size: int, first: int, last: int, attributes: Any) -> int:
    """Position after the attributes of an entry; -1 when it lies behind `end`, -2 for an unknown form."""
    for item in range(first * A.ATTRIBUTE_WIDTH, last * A.ATTRIBUTE_WIDTH, A.ATTRIBUTE_WIDTH):
        size = 0 + attributes[item + A.ATTRIBUTE_SIZE]
        if size >= 0:
            if size > end - position:
                return -1
            position += size
        else:
            form = 0 + attributes[item + A.ATTRIBUTE_FORM]
            if form == _INDIRECT:
                constant = 0 + attributes[item + A.ATTRIBUTE_CONSTANT]
                form, size, position = direct_form(data, position, end, constant, offset_size)
                if form == 0 or size > end - position:
                    return -1
            position = position + size if size >= 0 else form_end(data, position, end, form, offset_size)
            if position < 0:
                return position
    return position


@hot_loop
def scan_functions(
    data: Any,
    start: int,
    end: int,
    unit_offset: int,
    offset_size: int,
    abbreviations: Any,
    abbreviation_count: int,
    attributes: Any,
    scopes: int,
    stack: Any,
    rows: Any,
) -> tuple[int, int, int]:
    """Scan the entries in `data[start:end]`; write WIDTH values into `rows` for each that is kept.

    `abbreviations` and `attributes` are those of `abbreviation_scan`. With `scopes` namespaces and classes are kept
    too; without, classes are stepped over as other types are. `stack` is scratch, one element a nesting level.
    Returns rows, status, and the position where it ended.
    """
    capacity = len(rows) // WIDTH
    levels = len(stack)
    count = 0
    depth = 0
    owner = -1
    position = start
    while position < end:
        at = position
        code = 0 + data[position]
        position += 1
        if code == 0:
            if depth > 0 and owner != stack[depth]:
                rows[owner * WIDTH + END] = count
                owner = 0 + stack[depth]
            depth -= 1
            if depth <= 0:
                break
            continue
        if code >= 128:
            position = skip_leb128(data, at, end)
            if position < 0:
                return count, TRUNCATED, at
            code = leb128_value(data, at, 0)
        index = find_abbreviation(abbreviations, abbreviation_count, code)
        if index < 0:
            return count, BAD_ABBREVIATION, at
        shape = index * A.ABBREVIATION_WIDTH
        kind = 0 + abbreviations[shape + A.KIND]
        has_children = 0 + abbreviations[shape + A.CHILDREN]
        keep = kind == A.FUNCTION or (kind == A.SCOPE and scopes != 0 and has_children != 0)
        begin = position
        if keep:
            if count >= capacity:
                return count, FULL, at
            base = count * WIDTH
            for column in range(WIDTH):
                rows[base + column] = 0
            rows[base + OFFSET] = at
            rows[base + TAG] = abbreviations[shape + A.TAG]
            rows[base + PARENT] = owner
            rows[base + END] = count + 1
            first = 0 + abbreviations[shape + A.FIRST]
            last = 0 + abbreviations[shape + A.LAST]
            position = _keep_entry(data, position, end, unit_offset, offset_size, first, last, attributes, rows, base)
        else:
            size = 0 + abbreviations[shape + A.SIZE]
            if size >= 0:
                position = position + size if size <= end - position else -1
            else:
                first = 0 + abbreviations[shape + A.FIRST]
                last = 0 + abbreviations[shape + A.LAST]
                position = skip_entry(data, position, end, offset_size, first, last, attributes)
        if position < 0:
            return count, (TRUNCATED if position == -1 else BAD_FORM), at
        if has_children:
            if not keep and depth > 0 and (kind == A.WITHOUT_CODE or kind == A.SCOPE):
                place = 0 + abbreviations[shape + A.SIBLING]
                if place >= 0:
                    sibling = fixed_value(data, begin + place // 16, place % 16)
                    if sibling > position - unit_offset and sibling < end - unit_offset:
                        position = unit_offset + sibling
                        continue
            depth += 1
            if depth >= levels:
                return count, DEEP, at
            stack[depth] = owner
            if keep:
                owner = count
        elif depth == 0:
            break
        if keep:
            count += 1
    return count, (DONE if depth <= 0 else TRUNCATED), position


def scan_unit(unit: CompilationUnit, plain: bool | None = None) -> np.ndarray:
    """The rows of a unit, int64 of shape (rows, WIDTH), in the order of .debug_info.

    `plain` chooses the form of the hot loop (None: by size). Damage ends the rows at its place and is noted
    in `unit.info.problems`. Raises DwarfError when the unit's header or abbreviations are unusable.
    """
    import numpy as np

    unit.check()
    size = unit.end - unit.die_offset
    if plain is None:
        plain = not compiled_pays(scan_functions, size / INTERPRETED_RATE)
    abbreviations, count, attributes = unit_abbreviations(unit, plain)
    scopes = int(has_scopes(unit.language))
    capacity = size // 24 + 64
    levels = 256
    data: Any = unit.data if plain else np.frombuffer(unit.data, dtype=np.uint8)
    scan: Any = scan_functions if plain else compiled(scan_functions)
    while True:
        rows = np.empty(capacity * WIDTH, dtype=np.int64)
        stack = np.full(levels, -1, dtype=np.int64)
        shapes, attribute_columns, levels_left, table = (
            (plain_view(each) if plain else each) for each in (abbreviations, attributes, stack, rows)
        )
        kept, status, position = scan(
            *(data, unit.die_offset, unit.end, unit.offset, unit.offset_size),
            *(shapes, count, attribute_columns, scopes, levels_left, table),
        )
        if status == FULL:
            capacity *= 2
        elif status == DEEP and levels < 1 << 20:
            levels *= 16
        else:
            break
    if status != DONE:
        unit.info.note(REASONS.get(int(status), DwarfReason.TRUNCATED), unit.section, int(position), unit.offset)
    found = rows[: kept * WIDTH].reshape(-1, WIDTH).copy()
    if status != DONE:
        _close_open_rows(found)
    return found


def unit_abbreviations(unit: CompilationUnit, plain: bool) -> tuple[np.ndarray, int, np.ndarray]:
    """The unit's abbreviations, how many there are, and their attributes. Raises DwarfError."""
    import numpy as np

    data: Any = unit.info.sections.get(".debug_abbrev")
    offset = unit.contribution.of(".debug_abbrev") + unit.abbreviation_offset
    read: Any = read_abbreviations if plain else compiled(read_abbreviations)
    sizes = form_sizes()
    capacity = 256
    while True:
        abbreviations = np.zeros(capacity * A.ABBREVIATION_WIDTH, dtype=np.int64)
        attributes = np.zeros(8 * capacity * A.ATTRIBUTE_WIDTH, dtype=np.int64)
        views = [plain_view(each) if plain else each for each in (sizes, abbreviations, attributes)]
        count, _, status = read(
            *(data if plain else np.frombuffer(data, dtype=np.uint8), offset, unit.version),
            *(unit.address_size, unit.offset_size, *views),
        )
        if status == A.FULL:
            capacity *= 4
        elif status == A.TRUNCATED:
            raise DwarfError(DwarfReason.TRUNCATED, ".debug_abbrev", offset, unit.offset)
        else:
            return abbreviations, count, attributes


REASONS = {
    DEEP: DwarfReason.TOO_DEEP,
    BAD_ABBREVIATION: DwarfReason.BAD_ABBREVIATION,
    BAD_FORM: DwarfReason.BAD_FORM,
}
"""What a status of the scan means; every other one but DONE is TRUNCATED."""


def _close_open_rows(table: np.ndarray) -> None:
    """Give rows that were still open when the scan stopped the end that the rows under them imply."""
    for row in range(len(table) - 1, -1, -1):
        parent = int(table[row, PARENT])
        if parent >= 0 and table[parent, END] < table[row, END]:
            table[parent, END] = table[row, END]
