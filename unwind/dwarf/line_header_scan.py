"""Headers of line number programs, read in bulk (DWARF 5 §6.2.4); as objects they are read by line_header.py.

Strings are not read but referred to: 8 times the offset of the string, and its section (STRING_SECTIONS).
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.dwarf.abbreviation_scan import form_size
from unwind.dwarf.function_scan import form_end
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128

STRING_SECTIONS = (".debug_str", ".debug_line_str", ".debug_info", ".debug_line")
IN_STR = 0
IN_LINE_STR = 1
IN_INFO = 2
IN_LINE = 3
NO_STRING = -1
SHARED_STRING = -2
"""A string of the shared (dwz) file."""

DONE = 0
FULL = 1
DAMAGED = 2

# Parameters of a header; the first six are those of `run_line_program`.
PROGRAM = 6
"""Offset of the first opcode."""
PROGRAM_END = 7
VERSION = 8
DIRECTORIES = 9
"""How many there are; before DWARF 5 the first one, which no header has, is NO_STRING."""
FILES = 10
PARAMETER_COUNT = 11

_MAXIMUM_FORMATS = 64
_PATH = 1
_DIRECTORY = 2
_DATA16 = C.DW_FORM_data16


@hot_loop
def string_reference(form: int, value: int, line_section: bool) -> int:
    """How a string attribute of `form` and raw `value` is referred to; not for the indexed forms."""
    if form == C.DW_FORM_strp:
        return 8 * value + IN_STR
    if form == C.DW_FORM_line_strp:
        return 8 * value + IN_LINE_STR
    if form == C.DW_FORM_string:
        return 8 * value + (IN_LINE if line_section else IN_INFO)
    if form in (C.DW_FORM_GNU_strp_alt, C.DW_FORM_strp_sup):
        return SHARED_STRING
    return NO_STRING


@hot_loop
def string_end(data: Any, position: int, end: int) -> int:
    """Position after the string at `position` and its NUL, -1 when it does not end before `end`."""
    while position < end:
        if data[position] == 0:
            return position + 1
        position += 1
    return -1


@hot_loop
def scan_line_header(
    data: Any,
    offset: int,
    address_size: int,
    sizes: Any,
    formats: Any,
    parameters: Any,
    counts: Any,
    directories: Any,
    directory_count: int,
    files: Any,
    file_count: int,
) -> int:
    """Read the header at `offset` into `parameters` (see above) and `counts`, operands of each standard opcode.

    Its directories (a string each) are written to `directories` from `directory_count` on, its files (a string and the
    index of a directory) to `files` from `file_count` on. `formats` is scratch. Returns DONE, FULL or DAMAGED.
    """
    if offset < 0 or offset > len(data) - 16:
        return DAMAGED
    length = fixed_value(data, offset, 4)
    position = offset + 4
    offset_size = 4
    if length == 0xFFFFFFFF:
        length = fixed_value(data, position, 8)
        position += 8
        offset_size = 8
    end = len(data)
    if length < 0 or length > end - position:
        length = end - position
    end = position + length
    if end - position < 24:
        return DAMAGED
    version = fixed_value(data, position, 2)
    position += 2
    if version < 2 or version > 5:
        return DAMAGED
    if version >= 5:
        position += 2
    header_length = fixed_value(data, position, offset_size)
    position += offset_size
    if header_length < 0 or header_length > end - position:
        return DAMAGED
    program = position + header_length
    parameters[0] = data[position]
    position += 1
    parameters[1] = 1
    if version >= 4:
        parameters[1] = max(1, 0 + data[position])
        position += 1
    if end - position < 4:
        return DAMAGED
    parameters[2] = 1 if data[position] != 0 else 0
    parameters[3] = 0 + data[position + 1] if data[position + 1] < 128 else data[position + 1] - 256
    parameters[4] = data[position + 2]
    opcode_base = 0 + data[position + 3]
    parameters[5] = opcode_base
    position += 4
    if parameters[4] == 0 or opcode_base == 0 or opcode_base - 1 > end - position:
        return DAMAGED
    for opcode in range(1, opcode_base):
        counts[opcode] = data[position]
        position += 1
    parameters[PROGRAM] = program
    parameters[PROGRAM_END] = end
    parameters[VERSION] = version
    if version >= 5:
        for table in range(2):
            position, found = _scan_table_5(
                data, position, program, address_size, offset_size, sizes, formats, table == 1,
                files if table == 1 else directories, file_count if table == 1 else directory_count,
            )  # fmt: skip
            if position < 0:
                return FULL if position == -2 else DAMAGED
            parameters[FILES if table == 1 else DIRECTORIES] = found
        return DONE
    if directory_count >= len(directories):
        return FULL
    directories[directory_count] = NO_STRING
    parameters[DIRECTORIES] = 1
    parameters[FILES] = 0
    while position < program and data[position] != 0:
        at = directory_count + parameters[DIRECTORIES]
        if at >= len(directories):
            return FULL
        directories[at] = 8 * position + IN_LINE
        parameters[DIRECTORIES] += 1
        position = string_end(data, position, program)
        if position < 0:
            return DAMAGED
    position += 1
    while position < program and data[position] != 0:
        at = 2 * (file_count + parameters[FILES])
        if at + 1 >= len(files):
            return FULL
        files[at] = 8 * position + IN_LINE
        position = string_end(data, position, program)
        for field in range(3):  # the directory, the time of modification, and the length in bytes
            after = skip_leb128(data, position, program) if position >= 0 else -1
            if after < 0:
                return DAMAGED
            if field == 0:
                files[at + 1] = leb128_value(data, position, 0)
            position = after
        parameters[FILES] += 1
    return DONE


@hot_loop
def _scan_table_5(
    data: Any,
    position: int,
    end: int,
    address_size: int,
    offset_size: int,
    sizes: Any,
    formats: Any,
    is_files: bool,
    table: Any,
    first: int,
) -> tuple[int, int]:
    """Read one of the two tables of a version 5 header. Returns the position after it, and how many items it has.

    The position is -1 for a damaged table, -2 when `table` is too small.
    """
    if position >= end:
        return -1, 0
    count = 0 + data[position]
    position += 1
    if count > _MAXIMUM_FORMATS:
        return -1, 0
    for index in range(2 * count):
        after = skip_leb128(data, position, end)
        if after < 0:
            return -1, 0
        formats[index] = leb128_value(data, position, 0)
        position = after
    after = skip_leb128(data, position, end)
    if after < 0:
        return -1, 0
    items = leb128_value(data, position, 0)
    position = after
    if items < 0 or items > 2 * (end - position):
        return -1, 0
    width = 2 if is_files else 1
    for item in range(items):
        at = (first + item) * width
        if at + width > len(table):
            return -2, 0
        table[at] = NO_STRING
        if is_files:
            table[at + 1] = 0
        for index in range(count):
            content = 0 + formats[2 * index]
            form = 0 + formats[2 * index + 1]
            size = form_size(form, 5, address_size, offset_size, sizes)
            if form == C.DW_FORM_implicit_const:
                return -1, 0
            after = position + size if size >= 0 else form_end(data, position, end, form, offset_size)
            if after < 0 or after > end:
                return -1, 0
            if content == _PATH:
                value = position if size < 0 else fixed_value(data, position, min(size, 8))
                table[at] = string_reference(form, value, True)
            elif content == _DIRECTORY and is_files:
                if size >= 0:
                    table[at + 1] = fixed_value(data, position, min(size, 8))
                elif form == C.DW_FORM_udata:
                    table[at + 1] = leb128_value(data, position, 0)
            position = after
    return position, items
