"""The line rows of a unit as one sorted, disjoint list: what a line number program's matrix says of each address.

`line_program.LineTable` answers for single addresses; this is for whole units.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop
from unwind.dwarf.line_program import FLAG_END_SEQUENCE
from unwind.dwarf.pair_sort import sort_pairs
from unwind.dwarf.range_scan import is_discarded

NO_FILE = -1


@hot_loop
def flatten_rows(
    address: Any,
    file: Any,
    line: Any,
    column: Any,
    flags: Any,
    spare: Any,
    count: int,
    address_size: int,
    lowest: int,
    keys: Any,
    values: Any,
    spare_keys: Any,
    spare_values: Any,
    places: Any,
    files: Any,
    lines: Any,
    columns: Any,
) -> int:
    """Write to `places`, `files`, `lines` and `columns` where each line of the matrix of `count` rows begins.

    Returns how many there are. Rows are sorted by address; between sequences, and after the last, stands one with
    NO_FILE. Where sequences overlap, the one that begins last counts from its beginning on; of rows at one address the
    last counts. All other arrays are scratch as long as the matrix has rows.
    """
    found = 0
    first = 0
    for index in range(count):
        if flags[index] & FLAG_END_SEQUENCE == 0:
            continue
        if index > first:
            _put_in_order(address, file, line, column, spare, first, index, spare_keys, spare_values)
            low = 0 + address[first]
            if low < address[index] and not is_discarded(low, address_size, lowest):
                keys[found] = low
                values[found] = index
                # The end's own row has no line: it keeps where the sequence begins.
                line[index] = first
                found += 1
        first = index + 1
    sort_pairs(keys, values, 0, found, spare_keys, spare_values)
    written = 0
    sequence = 0
    while sequence < found:
        end = 0 + values[sequence]
        # Of sequences that begin at one address the longest counts.
        while sequence + 1 < found and keys[sequence + 1] == keys[sequence]:
            sequence += 1
            if address[values[sequence]] > address[end]:
                end = 0 + values[sequence]
        sequence += 1
        limit = 0 + address[end]
        if sequence < found and keys[sequence] < limit:
            limit = 0 + keys[sequence]
        begun = written
        for row in range(line[end], end):
            if address[row] >= limit:
                break
            if written > begun and places[written - 1] == address[row]:
                written -= 1
            last = written - 1
            if written > begun and files[last] == file[row] and lines[last] == line[row]:
                if columns[last] == column[row]:
                    continue
            places[written] = address[row]
            files[written] = file[row]
            lines[written] = line[row]
            columns[written] = column[row]
            written += 1
        if sequence >= found or keys[sequence] > limit:
            places[written] = limit
            files[written] = NO_FILE
            lines[written] = 0
            columns[written] = 0
            written += 1
    return written


@hot_loop
def _put_in_order(
    address: Any, file: Any, line: Any, column: Any, spare: Any, first: int, last: int, spare_keys: Any,
    spare_values: Any,
) -> None:  # fmt: skip
    """Sort the rows of a sequence whose addresses go back, which the standard forbids."""
    for index in range(first + 1, last):
        if address[index] < address[index - 1]:
            break
    else:
        return
    for index in range(first, last):
        spare[index] = index
    sort_pairs(address, spare, first, last, spare_keys, spare_values)
    for index in range(first, last):
        spare_keys[index] = file[spare[index]]
        spare_values[index] = line[spare[index]]
    for index in range(first, last):
        file[index] = spare_keys[index]
        line[index] = spare_values[index]
    for index in range(first, last):
        spare_keys[index] = column[spare[index]]
    for index in range(first, last):
        column[index] = spare_keys[index]
