"""Rows of entries → rows of scopes, in the order of addresses: the hot loop that a symbol index is made by.

A *function* is a name and a source file. A *scope* is a function at one place in a chain of inlined calls: it has the
scope that it was inlined into, whose function's file is the call's, and the line and column of the call. So a file is
told once a function, and a row is an address, a scope, a line and a column. Scope 0, of function 0, stands for
addresses of which nothing is known. Scopes are numbered as they come up, each after the one that it was inlined into.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf import constants as C
from unwind.symbolize import scan_columns as U

# Columns of a piece: addresses [low, high) and the rows that hold in it.
PIECE_LOW = 0
PIECE_HIGH = 1
PIECE_FIRST = 2
"""The first row of its run."""
PIECE_COUNT = 3
"""How many rows the run has; 0 where there are no lines."""
PIECE_ENTRY = 4
"""The entry that the piece is of, -1 where its rows say so."""
PIECE_WIDTH = 5

# Columns of an entry, as far as they are needed.
ENTRY_OUTER = 0
"""The entry that it was inlined into, -1 for a function."""
ENTRY_CALL_FILE = 1
"""Numbers of a path and of a name."""
ENTRY_CALL_LINE = 2
ENTRY_CALL_COLUMN = 3
ENTRY_NAME = 4
ENTRY_SCOPE = 5
"""Scratch: its scope that was made last, -1 for none."""
ENTRY_WIDTH = 6

# Columns of a scope.
SCOPE_OUTER = 0
SCOPE_FUNCTION = 1
SCOPE_CALL_LINE = 2
SCOPE_CALL_COLUMN = 3
SCOPE_NEXT = 4
"""Scratch: another scope of the same entry, -1 for none."""
SCOPE_WIDTH = 5

# Columns of a function.
FUNCTION_NAME = 0
FUNCTION_FILE = 1
FUNCTION_LINE = 2
"""The least line of its rows and of the calls in it, 0 without any."""
FUNCTION_NEXT = 3
"""Scratch: another function of the same name, -1 for none."""
FUNCTION_WIDTH = 4

# Columns of a row.
ROW_ADDRESS = 0
ROW_SCOPE = 1
ROW_LINE = 2
ROW_COLUMN = 3
ROW_WIDTH = 4

_INLINED = C.DW_TAG_inlined_subroutine
_SOURCE_WIDTH = 5
_SOURCE_ADDRESS = 0
_SOURCE_ENTRY = 1
_SOURCE_FILE = 2
_SOURCE_LINE = 3
_SOURCE_COLUMN = 4


@hot_loop
def outline_entries(scanned: Any, file_ids: Any, names: Any, entries: Any) -> None:
    """Write to `entries` what is needed of those that a scan found (`scanned`), whose names are `names`."""
    for index in range(len(names)):
        at = index * U.ENTRY_WIDTH
        base = index * ENTRY_WIDTH
        file = 0 + scanned[at + U.CALL_FILE]
        entries[base + ENTRY_OUTER] = scanned[at + U.PARENT] if scanned[at + U.TAG] == _INLINED else -1
        entries[base + ENTRY_CALL_FILE] = file_ids[file] if file >= 0 else 0
        entries[base + ENTRY_CALL_LINE] = scanned[at + U.CALL_LINE]
        entries[base + ENTRY_CALL_COLUMN] = scanned[at + U.CALL_COLUMN]
        entries[base + ENTRY_NAME] = names[index]
        entries[base + ENTRY_SCOPE] = -1


@hot_loop
def _function_of(name: int, file: int, by_name: Any, functions: Any, counts: Any) -> int:
    """The function of a name and a file, a new one where there is none."""
    found: int = 0 + by_name[name]
    while found >= 0:
        if functions[found * FUNCTION_WIDTH + FUNCTION_FILE] == file:
            return found
        found = 0 + functions[found * FUNCTION_WIDTH + FUNCTION_NEXT]
    found = 0 + counts[1]
    base = found * FUNCTION_WIDTH
    functions[base + FUNCTION_NAME] = name
    functions[base + FUNCTION_FILE] = file
    functions[base + FUNCTION_LINE] = 0
    functions[base + FUNCTION_NEXT] = by_name[name]
    by_name[name] = found
    counts[1] += 1
    return found


@hot_loop
def _note_line(function: int, line: int, functions: Any) -> None:
    """Let the function's least line be at most `line`."""
    base = function * FUNCTION_WIDTH + FUNCTION_LINE
    if line > 0 and (functions[base] == 0 or line < functions[base]):
        functions[base] = line


@hot_loop
def _scope_of(
    entry: int, file: int, entries: Any, scopes: Any, by_name: Any, functions: Any, stack: Any, counts: Any
) -> int:
    """The scope of an entry whose code is of `file`, made where there is none, with those around it."""
    depth = 0
    outer = 0
    while True:
        found = 0 + entries[entry * ENTRY_WIDTH + ENTRY_SCOPE]
        while found >= 0:
            if functions[scopes[found * SCOPE_WIDTH + SCOPE_FUNCTION] * FUNCTION_WIDTH + FUNCTION_FILE] == file:
                break
            found = 0 + scopes[found * SCOPE_WIDTH + SCOPE_NEXT]
        if found >= 0:
            outer = found
            break
        stack[2 * depth] = entry
        stack[2 * depth + 1] = file
        depth += 1
        base = entry * ENTRY_WIDTH
        if entries[base + ENTRY_OUTER] < 0 or 2 * depth + 1 >= len(stack):
            break
        file = 0 + entries[base + ENTRY_CALL_FILE]
        entry = 0 + entries[base + ENTRY_OUTER]
    while depth > 0:
        depth -= 1
        entry = 0 + stack[2 * depth]
        scope = 0 + counts[0]
        base = scope * SCOPE_WIDTH
        function = _function_of(
            entries[entry * ENTRY_WIDTH + ENTRY_NAME], stack[2 * depth + 1], by_name, functions, counts
        )
        line = entries[entry * ENTRY_WIDTH + ENTRY_CALL_LINE] if outer > 0 else 0
        scopes[base + SCOPE_OUTER] = outer
        scopes[base + SCOPE_FUNCTION] = function
        scopes[base + SCOPE_CALL_LINE] = line
        scopes[base + SCOPE_CALL_COLUMN] = entries[entry * ENTRY_WIDTH + ENTRY_CALL_COLUMN] if outer > 0 else 0
        scopes[base + SCOPE_NEXT] = entries[entry * ENTRY_WIDTH + ENTRY_SCOPE]
        entries[entry * ENTRY_WIDTH + ENTRY_SCOPE] = scope
        if outer > 0:
            _note_line(scopes[outer * SCOPE_WIDTH + SCOPE_FUNCTION], line, functions)
        counts[0] += 1
        outer = scope
    return outer


@hot_loop
def _append(rows: Any, counts: Any, address: int, scope: int, line: int, column: int) -> None:
    at = counts[2] * ROW_WIDTH
    if counts[2] > 0:
        last = at - ROW_WIDTH
        if rows[last + ROW_SCOPE] == scope and rows[last + ROW_LINE] == line and rows[last + ROW_COLUMN] == column:
            return
    rows[at + ROW_ADDRESS] = address
    rows[at + ROW_SCOPE] = scope
    rows[at + ROW_LINE] = line
    rows[at + ROW_COLUMN] = column
    counts[2] += 1


@hot_loop
def make_scopes(
    pieces: Any,
    source: Any,
    file_ids: Any,
    entries: Any,
    by_name: Any,
    stack: Any,
    scopes: Any,
    functions: Any,
    rows: Any,
    counts: Any,
) -> None:
    """Go through the sorted, disjoint `pieces` and write `scopes`, `functions` and `rows`; `counts` says how many.

    `source` are the rows of a ModuleRows, `file_ids` the number of each of their files' path, `by_name` -1 for each
    name, `stack` scratch of two elements a nesting level. The outputs are large enough: a row in `source` or a piece
    makes a row and a gap at most, a row or an inlined call makes a scope, a scope a function.
    """
    for column in range(SCOPE_WIDTH):
        scopes[column] = 0
    scopes[SCOPE_NEXT] = -1
    counts[0] = 1
    counts[1] = 0
    counts[2] = 0
    _function_of(0, 0, by_name, functions, counts)
    previous = 0
    for piece in range(len(pieces) // PIECE_WIDTH):
        base = piece * PIECE_WIDTH
        low = 0 + pieces[base + PIECE_LOW]
        high = 0 + pieces[base + PIECE_HIGH]
        if piece > 0 and previous != low:
            _append(rows, counts, previous, 0, 0, 0)
        previous = high
        first = 0 + pieces[base + PIECE_FIRST]
        count = 0 + pieces[base + PIECE_COUNT]
        own = 0 + pieces[base + PIECE_ENTRY]
        if count == 0:
            scope = _scope_of(own, 0, entries, scopes, by_name, functions, stack, counts)
            _append(rows, counts, low, scope, 0, 0)
            continue
        begin = first
        end = first + count
        while begin < end:  # the first row behind `low`
            middle = (begin + end) // 2
            if source[middle * _SOURCE_WIDTH + _SOURCE_ADDRESS] <= low:
                begin = middle + 1
            else:
                end = middle
        address = low
        last_entry = -1
        last_file = -1
        scope = 0
        for row in range(max(begin - 1, first), first + count):
            at = row * _SOURCE_WIDTH
            if source[at + _SOURCE_ADDRESS] >= high:
                break
            if source[at + _SOURCE_ADDRESS] > low:
                address = 0 + source[at + _SOURCE_ADDRESS]
            entry = own if own >= 0 else 0 + source[at + _SOURCE_ENTRY]
            file = 0 + file_ids[source[at + _SOURCE_FILE]]
            line = 0 + source[at + _SOURCE_LINE]
            if entry != last_entry or file != last_file:
                scope = _scope_of(entry, file, entries, scopes, by_name, functions, stack, counts)
                last_entry = entry
                last_file = file
            _note_line(scopes[scope * SCOPE_WIDTH + SCOPE_FUNCTION], line, functions)
            _append(rows, counts, address, scope, line, source[at + _SOURCE_COLUMN])
    _append(rows, counts, previous, 0, 0, 0)
