"""Rows put behind one another without repetition, as a hot loop.

Owns what makes a sequence of rows normal: of several at one address the last holds, of equal neighbours the first is
kept. Data comes from `program_automaton` and `cfi_program`, row by row.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.scalars import item, put_item

APART = 1 << 62
"""A floor above all rows: each is put behind the others as it is."""


@hot_loop
def put_row(addresses: FlatArray, rules: FlatArray, count: int, floor: int, address: int, rule: int) -> int:
    """Put a row behind `count` rows, the last of which is at `address` or before; gives how many there are then.

    Rows below `floor` belong to another sequence and are left alone.
    """
    if count > floor and addresses[count - 1] == address:
        count -= 1
    if count > floor and rules[count - 1] == rule:
        return count
    addresses[count] = address
    rules[count] = rule
    return count + 1


@hot_loop
def append_rows(
    addresses: FlatArray, rules: FlatArray, count: int, more: FlatArray, more_rules: FlatArray, numbers: FlatArray
) -> int:
    """Put a normal sequence behind `count` rows, its rules numbered by `numbers`; gives how many there are then."""
    for row in range(len(more)):
        if row < 2:  # of the others none is at the place of the one before, and none repeats its rule
            count = put_row(addresses, rules, count, 0, 0 + more[row], 0 + numbers[more_rules[row]])
        else:
            put_item(addresses, count, item(more, row))
            put_item(rules, count, item(numbers, item(more_rules, row)))
            count += 1
    return count
