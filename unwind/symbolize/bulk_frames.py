"""Frames of a large batch of addresses, from the columns of an index unpacked: the hot loops of index_lookup.py.

They say what its NumPy passes say, in a fifth of the time: NumPy sorts the addresses to find their rows and goes over
all frames a dozen times. Addresses here count from the index's first row, as int64. What an index holds is not
trusted: a number that leads out of it ends the loop.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop

DAMAGED = -1


@hot_loop
def fill_buckets(begins: Any, shift: int, firsts: Any) -> int:
    """Write to `firsts[b]` how many of the sorted `begins` lie below `b << shift`. Returns 0, or DAMAGED.

    `firsts` has two elements more than the last of `begins` has buckets before it.
    """
    bucket = 0
    previous = 0
    for row in range(len(begins)):
        begin = 0 + begins[row]
        if begin < previous or (begin >> shift) + 1 >= len(firsts):
            return DAMAGED
        previous = begin
        while bucket <= begin >> shift:
            firsts[bucket] = row
            bucket += 1
    while bucket < len(firsts):
        firsts[bucket] = len(begins)
        bucket += 1
    return 0


@hot_loop
def find_rows(begins: Any, shift: int, firsts: Any, places: Any, scopes: Any, outers: Any, rows: Any,
              offsets: Any) -> int:  # fmt: skip
    """Write to `rows` the last row at or below each of `places`, -1 for none, and to `offsets` where its frames begin.

    Returns how many frames there are, or DAMAGED.
    """
    last = len(firsts) - 2
    total = 0
    for index in range(len(places)):
        place = 0 + places[index]
        row = -1
        scope = 0
        if place >= 0:
            bucket = min(place >> shift, last)
            low = 0 + firsts[bucket]
            high = 0 + firsts[bucket + 1]
            while low < high:
                middle = (low + high) // 2
                if begins[middle] <= place:
                    low = middle + 1
                else:
                    high = middle
            row = low - 1
            if row >= 0:
                scope = 0 + scopes[row]
        rows[index] = row
        offsets[index] = total
        while scope != 0:
            if scope < 0 or scope >= len(outers):
                return DAMAGED
            total += 1
            distance = 0 + outers[scope]
            if distance <= 0:
                break
            scope -= distance
            if scope == 0:
                return DAMAGED
    offsets[len(places)] = total
    return total


@hot_loop
def write_frames(rows: Any, row_columns: Any, scope_columns: Any, function_columns: Any, found: Any) -> int:
    """Write the frames of each of `rows` to the columns `found`, one behind the other. Returns 0, or DAMAGED.

    The scopes of `rows` are those that `find_rows` has checked.
    """
    scopes, row_lines, row_places = row_columns
    outers, scope_functions, call_lines, call_columns = scope_columns
    function_names, function_files, least_lines = function_columns
    functions, names, files, lines, columns, inlined = found
    at = 0
    for index in range(len(rows)):
        row = 0 + rows[index]
        if row < 0:
            continue
        scope = 0 + scopes[row]
        line = 0 + row_lines[row]
        column = 0 + row_places[row]
        while scope != 0:
            function = 0 + scope_functions[scope]
            if function < 0 or function >= len(function_names):
                return DAMAGED
            distance = 0 + outers[scope]
            functions[at] = function
            names[at] = function_names[function]
            files[at] = function_files[function]
            lines[at] = line - 1 + least_lines[function] if line > 0 else 0
            columns[at] = column
            inlined[at] = 1 if distance > 0 else 0
            at += 1
            if distance <= 0:
                break
            line = 0 + call_lines[scope]
            column = 0 + call_columns[scope]
            scope -= distance
    return 0
