"""Units of .debug_info → rows that say which function and source line each address is of, as hot loops.

One call reads many units: abbreviations, functions with their ranges and inlined calls, and the line number program of
each, and merges them. Names, files and references are not resolved (scope_build.py does that for the whole module), so
that several calls can run at once on parts of the same file. A damaged unit is skipped from its damage on, and told.
What comes out is in scan_columns.py.
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
from unwind.symbolize import scan_columns as U
from unwind.symbolize.function_rows import emit_function, emit_unclaimed_lines
from unwind.symbolize.unit_entries import choose_entries, file_index, keep_entries
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
    UNIT_KIND,
    UNIT_LOWEST,
    UNIT_RANGES_4,
    UNIT_TOLD,
    UNIT_TOLD_COUNT,
    UNIT_WIDTH,
    read_root,
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
def _read_lines(
    line: Any, sizes: Any, facts: Any, fact: int, offset: int, address_size: int, lowest: int, formats: Any,
    parameters: Any, operands: Any, matrix: Any, sorting: Any, flat: Any, directories: Any, files: Any, counts: Any,
) -> int:  # fmt: skip
    """Read a unit's line number program into `flat`. Returns how many lines that has, or -1: an output is too small."""
    status = scan_line_header(
        line, offset, address_size, sizes, formats, parameters, operands, directories, counts[U.DIRECTORIES], files,
        counts[U.FILES],
    )  # fmt: skip
    if status == H.FULL:
        return -1
    if status == H.DAMAGED:
        if facts[fact + U.STATUS] == F.DONE:
            facts[fact + U.STATUS] = U.DAMAGED_LINES
            facts[fact + U.PLACE] = offset
        return 0
    facts[fact + U.LINE_VERSION] = parameters[H.VERSION]
    facts[fact + U.FIRST_DIRECTORY] = counts[U.DIRECTORIES]
    facts[fact + U.DIRECTORY_COUNT] = parameters[H.DIRECTORIES]
    facts[fact + U.FIRST_FILE] = counts[U.FILES]
    facts[fact + U.FILE_COUNT] = parameters[H.FILES]
    counts[U.DIRECTORIES] += parameters[H.DIRECTORIES]
    counts[U.FILES] += parameters[H.FILES]
    address, file, number, column, flags, spare = matrix
    keys, values, spare_keys, spare_values = sorting
    places, flat_files, flat_lines, flat_columns = flat
    program = 0 + parameters[H.PROGRAM]
    end = 0 + parameters[H.PROGRAM_END]
    rows, status, position = run_line_program(
        line, program, end, parameters, operands, address, file, number, column, flags
    )
    if status != 0 and facts[fact + U.STATUS] == F.DONE:
        facts[fact + U.STATUS] = U.DAMAGED_LINES
        facts[fact + U.PLACE] = position
    count = flatten_rows(
        address, file, number, column, flags, spare, rows, address_size, lowest, keys, values, spare_keys, spare_values,
        places, flat_files, flat_lines, flat_columns,
    )  # fmt: skip
    for index in range(count):
        if flat_files[index] >= 0:
            flat_files[index] = file_index(facts, fact, flat_files[index])
        else:
            flat_files[index] = -2  # between sequences
    return count


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
    ranges: Any, output: Any, facts: Any, counts: Any, abbreviation_count: int, everything: int,
) -> int:  # fmt: skip
    """Read one unit, whose abbreviations are in `scratch`. Returns 0, or what was too small."""
    info, _, line, addresses, string_offsets, _, _ = sections
    abbreviations, attributes, stack, scanned, formats, parameters, operands, root, owners, numbers, origins = scratch
    entries, rows, runs, directories, files = output
    range_first, lows, highs = ranges
    base = unit * UNIT_WIDTH
    fact = unit * U.FACT_WIDTH
    address_size = 0 + units[base + UNIT_ADDRESS_SIZE]
    offset_size = 0 + units[base + UNIT_OFFSET_SIZE]
    if not read_root(info, units, base, abbreviations, abbreviation_count, attributes, addresses, string_offsets, root):
        facts[fact + U.STATUS] = U.DAMAGED_ROOT
        facts[fact + U.PLACE] = units[base + UNIT_FIRST_ENTRY]
        return 0
    facts[fact + U.LANGUAGE] = root[ROOT_LANGUAGE]
    facts[fact + U.DIRECTORY] = root[ROOT_DIRECTORY]
    if root[ROOT_SPLIT] != 0 and units[base + UNIT_KIND] == LINKED:
        facts[fact + U.SPLIT] = 1
        return 0
    count, status, position = scan_functions(
        info, units[base + UNIT_FIRST_ENTRY], units[base + UNIT_END], units[base + UNIT_OFFSET], offset_size,
        abbreviations, abbreviation_count, attributes, 0 if root[ROOT_LANGUAGE] in WITHOUT_SCOPES else 1, stack,
        scanned,
    )  # fmt: skip
    if status == F.FULL or count + 2 >= len(range_first) or (count + 1) * F.WIDTH > len(scanned):
        return U.SCRATCH_FULL
    if status != F.DONE:
        facts[fact + U.STATUS] = status
        facts[fact + U.PLACE] = position
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
            return U.SCRATCH_FULL
        if after == R.DAMAGED:
            if facts[fact + U.STATUS] == F.DONE:
                facts[fact + U.STATUS] = U.DAMAGED_RANGES
                facts[fact + U.PLACE] = scanned[row * F.WIDTH + F.OFFSET]
        else:
            found = after
    if units[base + UNIT_KIND] == FULL_UNIT:
        if found + units[base + UNIT_TOLD_COUNT] > len(lows):
            return U.SCRATCH_FULL
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
            return U.OUTPUT_FULL
    first = 0 + counts[U.ENTRIES]
    kept = choose_entries(scanned, count, range_first, everything, numbers, origins, owners)
    if (first + kept) * U.ENTRY_WIDTH > len(entries):
        return U.OUTPUT_FULL
    keep_entries(
        scanned, count, unit, sections, root, units, facts, ranges, entries, first, numbers, origins
    )  # fmt: skip
    counts[U.ENTRIES] += kept
    if 2 * found + 4 > len(sorting[0]):
        return U.SCRATCH_FULL
    for row in range(count):
        if scanned[row * F.WIDTH + F.TAG] == C.DW_TAG_subprogram and range_first[row + 1] > range_first[row]:
            if not emit_function(
                scanned, row, first, numbers, ranges, flat, lines, sorting, owners, rows, runs, unit, counts
            ):
                return U.OUTPUT_FULL
    if lines > 0:
        is_told = root[ROOT_RANGES_FORM] != 0 or root[ROOT_HIGH_FORM] != 0 or units[base + UNIT_TOLD_COUNT] > 0
        if not emit_unclaimed_lines(scanned, count, is_told, ranges, flat, lines, sorting, rows, runs, unit, counts):
            return U.OUTPUT_FULL
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
    everything: int,
) -> tuple[int, int]:
    """Read the units `first` to `last`, and append what they hold to `output`; `counts` says how much there is.

    `told` are the pairs of addresses that full units refer to. With `everything` entries are kept that nothing in their
    unit refers to: other units may.

    Returns the next unit to read, and 0, SCRATCH_FULL or OUTPUT_FULL: the caller then makes these arrays larger, keeps
    what `counts` covers, and goes on with that unit.
    """
    abbreviations, attributes = scratch[0], scratch[1]
    previous = -1
    abbreviation_count = 0
    for unit in range(first, last):
        base = unit * UNIT_WIDTH
        fact = unit * U.FACT_WIDTH
        for column in range(U.FACT_WIDTH):
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
                return unit, U.SCRATCH_FULL
            if status == A.TRUNCATED:
                previous = -1
                facts[fact + U.STATUS] = U.DAMAGED_ABBREVIATIONS
                facts[fact + U.PLACE] = start
                continue
            previous = shape
        entries = 0 + counts[U.ENTRIES]
        rows = 0 + counts[U.ROWS]
        runs = 0 + counts[U.RUNS]
        directories = 0 + counts[U.DIRECTORIES]
        files = 0 + counts[U.FILES]
        full = _scan_unit(
            sections, units, told, unit, sizes, scratch, matrix, sorting, flat, ranges, output, facts, counts,
            abbreviation_count, everything,
        )  # fmt: skip
        if full != 0:
            counts[U.ENTRIES] = entries
            counts[U.ROWS] = rows
            counts[U.RUNS] = runs
            counts[U.DIRECTORIES] = directories
            counts[U.FILES] = files
            return unit, full
    return last, 0
