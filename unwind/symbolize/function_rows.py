"""A function's ranges, inlined calls and line rows → rows of one innermost entry and one source line: hot loops.

What counts where entries overlap, which sound ones do not, is what `FunctionTable.chain_at` says: the first of several
inlined calls in one entry that cover an address, and only where the entry around it covers it too.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.pair_sort import sort_pairs

# Columns of rows and runs, and indices of counts, as in scan_columns.py.
_ROW_WIDTH = 5
_RUN_WIDTH = 5
_ROWS = 1
_RUNS = 2
_BETWEEN = -2
_LOWEST = -(1 << 63)
_HIGHEST = (1 << 63) - 1
_INLINED = C.DW_TAG_inlined_subroutine
_SUBPROGRAM = C.DW_TAG_subprogram


@hot_loop
def lower_bound(keys: Any, count: int, wanted: int) -> int:
    """Index of the first of `count` sorted keys that is not below `wanted`."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@hot_loop
def _boundaries(scanned: Any, function: int, ranges: Any, keys: Any, values: Any, spare: Any, spare_values: Any,
                owners: Any) -> int:  # fmt: skip
    """Write the sorted addresses at which any entry of the function begins or ends to `keys`. Returns how many.

    `owners[row]` becomes 1 for the function and the inlined calls in it, 0 for other rows under it.
    """
    range_first, lows, highs = ranges
    count = 0
    end = 0 + scanned[function * F.WIDTH + F.END]
    row = function
    while row < end:
        at = row * F.WIDTH
        inside = row == function
        if not inside and scanned[at + F.TAG] == _INLINED:
            parent = 0 + scanned[at + F.PARENT]
            inside = parent >= function and owners[parent] == 1
        owners[row] = 1 if inside else 0
        if not inside:
            for under in range(row, scanned[at + F.END]):
                owners[under] = 0
            row = max(row + 1, 0 + scanned[at + F.END])
            continue
        for index in range(range_first[row], range_first[row + 1]):
            keys[count] = lows[index]
            keys[count + 1] = highs[index]
            count += 2
        row += 1
    sort_pairs(keys, values, 0, count, spare, spare_values)
    distinct = 0
    for index in range(count):
        if distinct == 0 or keys[index] != keys[distinct - 1]:
            keys[distinct] = keys[index]
            distinct += 1
    return distinct


@hot_loop
def _append_row(
    rows: Any, counts: Any, begin: int, address: int, entry: int, file: int, line: int, column: int
) -> bool:
    """Append a row to the run whose first row is `begin`, unless it says what the last one says; False when full."""
    at = counts[_ROWS] * _ROW_WIDTH
    if counts[_ROWS] > begin:
        last = at - _ROW_WIDTH
        if rows[last + 1] == entry and rows[last + 2] == file and rows[last + 3] == line and rows[last + 4] == column:
            return True
    if at + _ROW_WIDTH > len(rows):
        return False
    rows[at] = address
    rows[at + 1] = entry
    rows[at + 2] = file
    rows[at + 3] = line
    rows[at + 4] = column
    counts[_ROWS] += 1
    return True


@hot_loop
def _append_run(runs: Any, counts: Any, low: int, high: int, begin: int, unit: int) -> bool:
    """Append the run of the rows from `begin` on; False when full."""
    at = counts[_RUNS] * _RUN_WIDTH
    if at + _RUN_WIDTH > len(runs):
        return False
    runs[at] = low
    runs[at + 1] = high
    runs[at + 2] = begin
    runs[at + 3] = counts[_ROWS] - begin
    runs[at + 4] = unit
    counts[_RUNS] += 1
    return True


@hot_loop
def _emit_segment(
    low: int, high: int, entry: int, flat: Any, lines: int, cursor: int, rows: Any, counts: Any, begin: int
) -> int:
    """Append rows for [low, high), all of one entry. Returns the line at its end, -2 when `rows` is full.

    `cursor` is the index of a line at or before `low`, -1 where none is.
    """
    places, files, numbers, columns = flat
    while cursor + 1 < lines and places[cursor + 1] <= low:
        cursor += 1
    position = low
    while True:
        file = -1
        number = 0
        column = 0
        if cursor >= 0 and files[cursor] != _BETWEEN:
            file = 0 + files[cursor]
            number = 0 + numbers[cursor]
            column = 0 + columns[cursor]
        if not _append_row(rows, counts, begin, position, entry, file, number, column):
            return -2
        if cursor + 1 >= lines or places[cursor + 1] >= high:
            return cursor
        cursor += 1
        position = 0 + places[cursor]


@hot_loop
def emit_function(
    scanned: Any, function: int, first: int, numbers: Any, ranges: Any, flat: Any, lines: int, sorting: Any,
    owners: Any, rows: Any, runs: Any, unit: int, counts: Any,
) -> bool:  # fmt: skip
    """Append the rows and runs of the function at row `function`; False when an output is full.

    `first` is what the unit's first entry is called among all, `numbers` what its rows are called behind it. `owners`
    is scratch, as long as the unit has rows, `sorting` as long as there are boundaries.
    """
    range_first, lows, highs = ranges
    keys, values, spare, spare_values = sorting
    count = _boundaries(scanned, function, ranges, keys, values, spare, spare_values, owners)
    for index in range(count):
        values[index] = -1
    for row in range(function, scanned[function * F.WIDTH + F.END]):
        if owners[row] == 0:
            continue
        parent = 0 + scanned[row * F.WIDTH + F.PARENT]
        for index in range(range_first[row], range_first[row + 1]):
            at = lower_bound(keys, count, lows[index])
            while at < count and keys[at] < highs[index]:
                if row == function or values[at] == parent:
                    values[at] = row
                at += 1
    begin = 0 + counts[_ROWS]
    low = 0
    cursor = -1
    for index in range(count):
        owned = index + 1 < count and values[index] >= 0
        if owned:
            if counts[_ROWS] == begin:
                low = 0 + keys[index]
                cursor = lower_bound(flat[0], lines, low + 1) - 1
            cursor = _emit_segment(
                keys[index], keys[index + 1], first + numbers[values[index]], flat, lines, cursor, rows, counts, begin
            )
            if cursor == -2:
                return False
        elif counts[_ROWS] > begin:
            if not _append_run(runs, counts, low, keys[index], begin, unit):
                return False
            begin = 0 + counts[_ROWS]
    return True


@hot_loop
def _cover_outside(ranges: Any, row: int, keys: Any, values: Any, covers: int, spare: Any, spare_values: Any) -> int:
    """Append what lies between, before and behind the ranges of `row` to the covers. Returns how many there are."""
    range_first, lows, highs = ranges
    first = covers
    for index in range(range_first[row], range_first[row + 1]):
        keys[covers] = lows[index]
        values[covers] = highs[index]
        covers += 1
    sort_pairs(keys, values, first, covers, spare, spare_values)
    reached = _LOWEST
    for index in range(first, covers):
        low = 0 + keys[index]
        high = 0 + values[index]
        keys[index] = reached
        values[index] = low
        reached = max(reached, high)
    keys[covers] = reached
    values[covers] = _HIGHEST
    return covers + 1


@hot_loop
def emit_unclaimed_lines(
    scanned: Any, count: int, told: bool, ranges: Any, flat: Any, lines: int, sorting: Any, rows: Any, runs: Any,
    unit: int, counts: Any,
) -> bool:  # fmt: skip
    """Append the unit's lines that none of its functions covers, as runs of entry -1; False when an output is full.

    With `told`, only lines in the ranges of row `count`, which are the unit's own.
    """
    range_first, lows, highs = ranges
    keys, values, spare, spare_values = sorting
    places, files, numbers, columns = flat
    covers = 0
    for row in range(count):
        if scanned[row * F.WIDTH + F.TAG] == _SUBPROGRAM:
            for index in range(range_first[row], range_first[row + 1]):
                keys[covers] = lows[index]
                values[covers] = highs[index]
                covers += 1
    if told:
        covers = _cover_outside(ranges, count, keys, values, covers, spare, spare_values)
    sort_pairs(keys, values, 0, covers, spare, spare_values)
    cover = 0
    begin = 0 + counts[_ROWS]
    low = 0
    reached = 0
    for index in range(lines - 1):
        if files[index] == _BETWEEN:
            continue
        position = 0 + places[index]
        end = 0 + places[index + 1]
        while position < end:
            while cover < covers and values[cover] <= position:
                cover += 1
            if cover < covers and keys[cover] <= position:
                position = 0 + values[cover]
                continue
            stop = end
            if cover < covers and keys[cover] < end:
                stop = 0 + keys[cover]
            if counts[_ROWS] > begin and reached != position:
                if not _append_run(runs, counts, low, reached, begin, unit):
                    return False
                begin = 0 + counts[_ROWS]
            if counts[_ROWS] == begin:
                low = position
            if not _append_row(rows, counts, begin, position, -1, files[index], numbers[index], columns[index]):
                return False
            reached = stop
            position = stop
    if counts[_ROWS] > begin:
        return _append_run(runs, counts, low, reached, begin, unit)
    return True
