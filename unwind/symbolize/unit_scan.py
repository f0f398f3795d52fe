"""Units of .debug_info → rows that say which function and source line each address is of, as hot loops.

One call reads many units: abbreviations, functions with their ranges and inlined calls, and the line number program of
each, and merges them. Names, files and references are not resolved (scope_build.py does that for the whole module), so
that several calls can run at once on parts of the same file. A damaged unit is skipped from its damage on, and told.

An *entry* is a function, an inlined call or a scope that names them. A *row* begins at an address and says which
entry is innermost there, and of which file and line the code is; a *run* is a range of addresses whose rows stand side
by side: a function's, or lines that no function of the unit covers.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf import line_header_scan as H
from unwind.dwarf import range_scan as R
from unwind.dwarf.abbreviation_scan import read_abbreviations
from unwind.dwarf.function_scan import scan_functions
from unwind.dwarf.language import WITHOUT_SCOPES
from unwind.dwarf.leb128 import fixed_value
from unwind.dwarf.line_header_scan import scan_line_header
from unwind.dwarf.line_program import run_line_program
from unwind.dwarf.line_scan import flatten_rows
from unwind.dwarf.range_scan import (
    indexed_address,
    is_address,
    is_address_index,
    is_discarded,
    read_ranges_4,
    read_ranges_5,
)
from unwind.dwarf.unit_header_scan import (
    UNIT_ABBREVIATIONS,
    UNIT_ADDRESS_SIZE,
    UNIT_END,
    UNIT_FIRST_ENTRY,
    UNIT_OFFSET,
    UNIT_OFFSET_SIZE,
    UNIT_VERSION,
)
from unwind.symbolize.function_rows import emit_function, emit_unclaimed_lines
from unwind.symbolize.unit_root import (
    FULL as FULL_UNIT,
)
from unwind.symbolize.unit_root import (
    LINKED,
    ROOT_ADDRESS_BASE,
    ROOT_DIRECTORY,
    ROOT_HIGH,
    ROOT_HIGH_FORM,
    ROOT_LANGUAGE,
    ROOT_LINE,
    ROOT_LOW,
    ROOT_LOW_FORM,
    ROOT_LOW_RAW,
    ROOT_RANGE_BASE,
    ROOT_RANGES,
    ROOT_RANGES_FORM,
    ROOT_SPLIT,
    ROOT_STRING_BASE,
    UNIT_KIND,
    UNIT_LOWEST,
    UNIT_RANGES_4,
    UNIT_TOLD,
    UNIT_TOLD_COUNT,
    UNIT_WIDTH,
    read_root,
    string_at,
)

SECTIONS = (
    ".debug_info",
    ".debug_abbrev",
    ".debug_line",
    ".debug_addr",
    ".debug_str_offsets",
    ".debug_ranges",
    ".debug_rnglists",
)
"""What `scan_units` reads, in the order in which it is given them."""
PROGRAM_SECTIONS = (".debug_line", ".debug_addr", ".debug_ranges")
"""Those that a split file leaves to the program."""

# Columns of what is found out of a unit.
DIRECTORY = 0
"""Its compilation directory (a string as line_header_scan refers to it)."""
LANGUAGE = 1
LINE_VERSION = 2
"""Of its line number program, 0 without one."""
FIRST_DIRECTORY = 3
DIRECTORY_COUNT = 4
FIRST_FILE = 5
FILE_COUNT = 6
STATUS = 7
"""What is damaged, see DAMAGED_*."""
PLACE = 8
"""Offset at which it was noticed."""
SPLIT = 9
"""1: it is a skeleton unit, and the unit that stands for it comes later."""
FIRST_ROW = 10
"""Its first entry among all entries."""
FACT_WIDTH = 11

DAMAGED_ABBREVIATIONS = 16
DAMAGED_RANGES = 17
DAMAGED_LINES = 18
DAMAGED_ROOT = 19
"""Other values of STATUS are those of function_scan; later ones do not replace the first."""

# Columns of an entry.
OFFSET = 0
UNIT = 1
TAG = 2
PARENT = 3
"""Entry around it, -1 for none."""
ORIGIN = 4
"""Offset in .debug_info of what completes it, -1 for nothing.

ORIGIN_SHARED less an offset in the shared (dwz) file, or ORIGIN_ELSEWHERE for what is in a type unit.
"""
NAME = 5
LINKAGE = 6
"""Strings as line_header_scan refers to them."""
CALL_FILE = 7
"""Index among all files, -1 for none."""
CALL_LINE = 8
CALL_COLUMN = 9
START = 10
"""Where a function is entered, WITHOUT_CODE for what has none."""
ENTRY_WIDTH = 11

WITHOUT_CODE = -(1 << 63)
ORIGIN_SHARED = -2
ORIGIN_ELSEWHERE = -(1 << 60)

# Columns of a row.
ROW_ADDRESS = 0
ROW_ENTRY = 1
"""-1 in lines that no function covers."""
ROW_FILE = 2
ROW_LINE = 3
ROW_COLUMN = 4
ROW_WIDTH = 5

# Columns of a run.
RUN_LOW = 0
RUN_HIGH = 1
RUN_FIRST = 2
"""Its first row."""
RUN_COUNT = 3
RUN_UNIT = 4
RUN_WIDTH = 5

# Indices in `counts`: how many of each were written.
ENTRIES = 0
ROWS = 1
RUNS = 2
DIRECTORIES = 3
FILES = 4
COUNTS = 5

# What was too small, as `scan_units` returns it.
SCRATCH_FULL = 1
OUTPUT_FULL = 2


@hot_loop
def _read_row_ranges(
    sections: Any, row: Any, at: int, units: Any, base: int, root: Any, lows: Any, highs: Any, count: int,
) -> int:  # fmt: skip
    """Append the ranges of the scan row at `at`. Returns how many there are then, or one of range_scan's statuses."""
    _, _, _, addresses, _, ranges, range_lists = sections
    version = 0 + units[base + UNIT_VERSION]
    address_size = 0 + units[base + UNIT_ADDRESS_SIZE]
    offset_size = 0 + units[base + UNIT_OFFSET_SIZE]
    lowest = 0 + units[base + UNIT_LOWEST]
    form = 0 + row[at + F.RANGES_FORM]
    if form != 0:
        start = 0 + row[at + F.RANGES]
        if version < 5:
            if start < 0 or start > len(ranges):
                return R.DAMAGED
            start += units[base + UNIT_RANGES_4]
            return read_ranges_4(ranges, start, address_size, root[ROOT_LOW], lowest, lows, highs, count)
        if form == C.DW_FORM_rnglistx:
            if start < 0 or start > len(range_lists):
                return R.DAMAGED
            place = root[ROOT_RANGE_BASE] + start * offset_size
            if place < 0 or place > len(range_lists) - offset_size:
                return R.DAMAGED
            start = root[ROOT_RANGE_BASE] + fixed_value(range_lists, place, offset_size)
        return read_ranges_5(
            range_lists, start, address_size, root[ROOT_LOW], lowest, addresses, root[ROOT_ADDRESS_BASE], lows, highs,
            count,
        )  # fmt: skip
    form = 0 + row[at + F.LOW_FORM]
    if form == 0 or row[at + F.HIGH_FORM] == 0:
        return count
    low = 0 + row[at + F.LOW]
    if is_address_index(form):
        low = indexed_address(addresses, root[ROOT_ADDRESS_BASE], low, address_size)
    form = 0 + row[at + F.HIGH_FORM]
    high = 0 + row[at + F.HIGH]
    if is_address_index(form):
        high = indexed_address(addresses, root[ROOT_ADDRESS_BASE], high, address_size)
    elif not is_address(form):
        if high < 0 or high >= 1 << 48:
            return count
        high = low + high if low < (1 << 62) else low
    if low < high and not is_discarded(low, address_size, lowest):
        if count >= len(lows):
            return R.FULL
        lows[count] = low
        highs[count] = high
        count += 1
    return count


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
    """Where the function of the scan row at `at` is entered (DWARF 5 §2.18), WITHOUT_CODE for what has none."""
    if first >= last:
        return WITHOUT_CODE
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
def _read_lines(
    line: Any, sizes: Any, facts: Any, fact: int, offset: int, address_size: int, lowest: int, formats: Any,
    parameters: Any, operands: Any, matrix: Any, sorting: Any, flat: Any, directories: Any, files: Any, counts: Any,
) -> int:  # fmt: skip
    """Read a unit's line number program into `flat`. Returns how many lines that has, or -1: an output is too small."""
    status = scan_line_header(
        line, offset, address_size, sizes, formats, parameters, operands, directories, counts[DIRECTORIES], files,
        counts[FILES],
    )  # fmt: skip
    if status == H.FULL:
        return -1
    if status == H.DAMAGED:
        if facts[fact + STATUS] == F.DONE:
            facts[fact + STATUS] = DAMAGED_LINES
            facts[fact + PLACE] = offset
        return 0
    facts[fact + LINE_VERSION] = parameters[H.VERSION]
    facts[fact + FIRST_DIRECTORY] = counts[DIRECTORIES]
    facts[fact + DIRECTORY_COUNT] = parameters[H.DIRECTORIES]
    facts[fact + FIRST_FILE] = counts[FILES]
    facts[fact + FILE_COUNT] = parameters[H.FILES]
    counts[DIRECTORIES] += parameters[H.DIRECTORIES]
    counts[FILES] += parameters[H.FILES]
    address, file, number, column, flags, spare = matrix
    keys, values, spare_keys, spare_values = sorting
    places, flat_files, flat_lines, flat_columns = flat
    program = 0 + parameters[H.PROGRAM]
    end = 0 + parameters[H.PROGRAM_END]
    rows, status, position = run_line_program(
        line, program, end, parameters, operands, address, file, number, column, flags
    )
    if status != 0 and facts[fact + STATUS] == F.DONE:
        facts[fact + STATUS] = DAMAGED_LINES
        facts[fact + PLACE] = position
    count = flatten_rows(
        address, file, number, column, flags, spare, rows, address_size, lowest, keys, values, spare_keys, spare_values,
        places, flat_files, flat_lines, flat_columns,
    )  # fmt: skip
    for index in range(count):
        if flat_files[index] >= 0:
            flat_files[index] = _file_index(facts, fact, flat_files[index])
        else:
            flat_files[index] = -2  # between sequences
    return count


@hot_loop
def _file_index(facts: Any, fact: int, file: int) -> int:
    """Index among all files of what a unit's line rows and call sites call `file`; -1 for none."""
    index = file if facts[fact + LINE_VERSION] >= 5 else file - 1
    return facts[fact + FIRST_FILE] + index if index >= 0 and index < facts[fact + FILE_COUNT] else -1


@hot_loop
def _keep_rows(
    scanned: Any, count: int, unit: int, sections: Any, root: Any, units: Any, facts: Any, ranges: Any, entries: Any,
    first: int,
) -> None:  # fmt: skip
    """Write the scan rows of a unit to `entries` from `first` on."""
    _, _, _, addresses, string_offsets, _, _ = sections
    range_first, lows, highs = ranges
    fact = unit * FACT_WIDTH
    offset_size = 0 + units[unit * UNIT_WIDTH + UNIT_OFFSET_SIZE]
    address_size = 0 + units[unit * UNIT_WIDTH + UNIT_ADDRESS_SIZE]
    for row in range(count):
        at = row * F.WIDTH
        entry = (first + row) * ENTRY_WIDTH
        entries[entry + OFFSET] = scanned[at + F.OFFSET]
        entries[entry + UNIT] = unit
        entries[entry + TAG] = scanned[at + F.TAG]
        entries[entry + PARENT] = first + scanned[at + F.PARENT] if scanned[at + F.PARENT] >= 0 else -1
        form = 0 + scanned[at + F.ORIGIN_FORM]
        origin = -1
        if form != 0:
            origin = 0 + scanned[at + F.ORIGIN]
            if form in (C.DW_FORM_GNU_ref_alt, C.DW_FORM_ref_sup4, C.DW_FORM_ref_sup8):
                origin = ORIGIN_SHARED - (origin & 0xFFFFFFFFFFFF)
            elif form == C.DW_FORM_ref_sig8 or origin < 0:
                origin = ORIGIN_ELSEWHERE
        entries[entry + ORIGIN] = origin
        entries[entry + NAME] = string_at(
            scanned[at + F.NAME_FORM], scanned[at + F.NAME], string_offsets, root[ROOT_STRING_BASE], offset_size
        )
        entries[entry + LINKAGE] = string_at(
            scanned[at + F.LINKAGE_FORM], scanned[at + F.LINKAGE], string_offsets, root[ROOT_STRING_BASE], offset_size
        )
        entries[entry + CALL_FILE] = _file_index(facts, fact, scanned[at + F.CALL_FILE])
        entries[entry + CALL_LINE] = scanned[at + F.CALL_LINE] & 0x7FFFFFFF
        entries[entry + CALL_COLUMN] = scanned[at + F.CALL_COLUMN] & 0x7FFFFFFF
        entries[entry + START] = _entry_address(
            scanned, at, addresses, root[ROOT_ADDRESS_BASE], address_size, lows, highs, range_first[row],
            range_first[row + 1],
        )  # fmt: skip


@hot_loop
def _close_rows(scanned: Any, count: int) -> None:
    """Give rows that were still open when a scan stopped the end that the rows under them imply."""
    for row in range(count - 1, -1, -1):
        parent = 0 + scanned[row * F.WIDTH + F.PARENT]
        if parent >= 0 and scanned[parent * F.WIDTH + F.END] < scanned[row * F.WIDTH + F.END]:
            scanned[parent * F.WIDTH + F.END] = scanned[row * F.WIDTH + F.END]


@hot_loop
def _scan_unit(
    sections: Any, units: Any, told: Any, unit: int, sizes: Any, scratch: Any, matrix: Any, sorting: Any, flat: Any,
    ranges: Any, output: Any, facts: Any, counts: Any, abbreviation_count: int,
) -> int:  # fmt: skip
    """Read one unit, whose abbreviations are in `scratch`. Returns 0, or what was too small."""
    info, _, line, addresses, string_offsets, _, _ = sections
    abbreviations, attributes, stack, scanned, formats, parameters, operands, root, owners = scratch
    entries, rows, runs, directories, files = output
    range_first, lows, highs = ranges
    base = unit * UNIT_WIDTH
    fact = unit * FACT_WIDTH
    address_size = 0 + units[base + UNIT_ADDRESS_SIZE]
    offset_size = 0 + units[base + UNIT_OFFSET_SIZE]
    if not read_root(info, units, base, abbreviations, abbreviation_count, attributes, addresses, string_offsets, root):
        facts[fact + STATUS] = DAMAGED_ROOT
        facts[fact + PLACE] = units[base + UNIT_FIRST_ENTRY]
        return 0
    facts[fact + LANGUAGE] = root[ROOT_LANGUAGE]
    facts[fact + DIRECTORY] = root[ROOT_DIRECTORY]
    if root[ROOT_SPLIT] != 0 and units[base + UNIT_KIND] == LINKED:
        facts[fact + SPLIT] = 1
        return 0
    count, status, position = scan_functions(
        info, units[base + UNIT_FIRST_ENTRY], units[base + UNIT_END], units[base + UNIT_OFFSET], offset_size,
        abbreviations, abbreviation_count, attributes, 0 if root[ROOT_LANGUAGE] in WITHOUT_SCOPES else 1, stack,
        scanned,
    )  # fmt: skip
    if status == F.FULL or count + 2 >= len(range_first) or (count + 1) * F.WIDTH > len(scanned):
        return SCRATCH_FULL
    if status != F.DONE:
        facts[fact + STATUS] = status
        facts[fact + PLACE] = position
        _close_rows(scanned, count)
    # Behind the rows stands one for the unit itself, which says where its lines count.
    for column in range(F.WIDTH):
        scanned[count * F.WIDTH + column] = 0
    scanned[count * F.WIDTH + F.LOW_FORM] = root[ROOT_LOW_FORM]
    scanned[count * F.WIDTH + F.LOW] = root[ROOT_LOW_RAW]
    scanned[count * F.WIDTH + F.HIGH_FORM] = root[ROOT_HIGH_FORM]
    scanned[count * F.WIDTH + F.HIGH] = root[ROOT_HIGH]
    scanned[count * F.WIDTH + F.RANGES_FORM] = root[ROOT_RANGES_FORM]
    scanned[count * F.WIDTH + F.RANGES] = root[ROOT_RANGES]
    found = 0
    for row in range(count + 1):
        range_first[row] = found
        after = found
        if scanned[row * F.WIDTH + F.LOW_FORM] != 0 or scanned[row * F.WIDTH + F.RANGES_FORM] != 0:
            after = _read_row_ranges(sections, scanned, row * F.WIDTH, units, base, root, lows, highs, found)
        if after == R.FULL:
            return SCRATCH_FULL
        if after == R.DAMAGED:
            if facts[fact + STATUS] == F.DONE:
                facts[fact + STATUS] = DAMAGED_RANGES
                facts[fact + PLACE] = scanned[row * F.WIDTH + F.OFFSET]
        else:
            found = after
    if units[base + UNIT_KIND] == FULL_UNIT:
        if found + units[base + UNIT_TOLD_COUNT] > len(lows):
            return SCRATCH_FULL
        for index in range(units[base + UNIT_TOLD], units[base + UNIT_TOLD] + units[base + UNIT_TOLD_COUNT]):
            lows[found] = told[2 * index]
            highs[found] = told[2 * index + 1]
            found += 1
    range_first[count + 1] = found
    lines = 0
    if root[ROOT_LINE] >= 0:
        lines = _read_lines(
            line, sizes, facts, fact, root[ROOT_LINE], address_size, units[base + UNIT_LOWEST], formats, parameters,
            operands, matrix, sorting, flat, directories, files, counts,
        )  # fmt: skip
        if lines < 0:
            return OUTPUT_FULL
    first = 0 + counts[ENTRIES]
    facts[fact + FIRST_ROW] = first
    if (first + count) * ENTRY_WIDTH > len(entries):
        return OUTPUT_FULL
    _keep_rows(scanned, count, unit, sections, root, units, facts, ranges, entries, first)
    counts[ENTRIES] += count
    if 2 * found + 4 > len(sorting[0]):
        return SCRATCH_FULL
    for row in range(count):
        if scanned[row * F.WIDTH + F.TAG] == C.DW_TAG_subprogram and range_first[row + 1] > range_first[row]:
            if not emit_function(scanned, row, first, ranges, flat, lines, sorting, owners, rows, runs, unit, counts):
                return OUTPUT_FULL
    if lines > 0:
        is_told = root[ROOT_RANGES_FORM] != 0 or root[ROOT_HIGH_FORM] != 0 or units[base + UNIT_TOLD_COUNT] > 0
        if not emit_unclaimed_lines(scanned, count, is_told, ranges, flat, lines, sorting, rows, runs, unit, counts):
            return OUTPUT_FULL
    return 0


@hot_loop
def scan_units(
    sections: Any,
    units: Any,
    told: Any,
    first: int,
    last: int,
    sizes: Any,
    scratch: Any,
    matrix: Any,
    sorting: Any,
    flat: Any,
    ranges: Any,
    output: Any,
    facts: Any,
    counts: Any,
) -> tuple[int, int]:
    """Read the units `first` to `last`, and append what they hold to `output`; `counts` says how much there is.

    `told` are the pairs of addresses that full units refer to.

    Returns the next unit to read, and 0, SCRATCH_FULL or OUTPUT_FULL: the caller then makes these arrays larger, keeps
    what `counts` covers, and goes on with that unit.
    """
    abbreviations, attributes = scratch[0], scratch[1]
    previous = -1
    abbreviation_count = 0
    for unit in range(first, last):
        base = unit * UNIT_WIDTH
        fact = unit * FACT_WIDTH
        for column in range(FACT_WIDTH):
            facts[fact + column] = 0
        start = 0 + units[base + UNIT_ABBREVIATIONS]
        shape = ((start * 8 + units[base + UNIT_VERSION]) * 16 + units[base + UNIT_ADDRESS_SIZE]) * 16
        shape += units[base + UNIT_OFFSET_SIZE]
        if shape != previous:
            abbreviation_count, _, status = read_abbreviations(
                sections[1], start, units[base + UNIT_VERSION], units[base + UNIT_ADDRESS_SIZE],
                units[base + UNIT_OFFSET_SIZE], sizes, abbreviations, attributes,
            )  # fmt: skip
            if status == A.FULL:
                return unit, SCRATCH_FULL
            if status == A.TRUNCATED:
                previous = -1
                facts[fact + STATUS] = DAMAGED_ABBREVIATIONS
                facts[fact + PLACE] = start
                continue
            previous = shape
        entries = 0 + counts[ENTRIES]
        rows = 0 + counts[ROWS]
        runs = 0 + counts[RUNS]
        directories = 0 + counts[DIRECTORIES]
        files = 0 + counts[FILES]
        full = _scan_unit(
            sections, units, told, unit, sizes, scratch, matrix, sorting, flat, ranges, output, facts, counts,
            abbreviation_count,
        )  # fmt: skip
        if full != 0:
            counts[ENTRIES] = entries
            counts[ROWS] = rows
            counts[RUNS] = runs
            counts[DIRECTORIES] = directories
            counts[FILES] = files
            return unit, full
    return last, 0
