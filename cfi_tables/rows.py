"""How rows (address, rule id) are coded in a table, as hot loops.

Owns the row stream and its index, nothing else: another coding replaces this file and bumps FORMAT_VERSION.
Rows go in blocks of BLOCK_ROWS. The index has each block's first address and where its bytes begin. A block is
the first row's rule, then, for each further row, the address delta and the rule. A delta is a byte, or DELTA_U16
or DELTA_U32 and that many bits; a rule id is a byte, or RULE_U16 and 16 bits; ids are given by frequency.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    BLOCK_ROWS,
    DELTA_U16,
    DELTA_U32,
    HEADER_BLOCK_COUNT,
    HEADER_INDEX_OFFSET,
    HEADER_ROW_COUNT,
    HEADER_ROWS_OFFSET,
    HEADER_ROWS_SIZE,
    INDEX_ENTRY_OFFSET,
    INDEX_ENTRY_PC,
    INDEX_ENTRY_SIZE,
    RULE_U16,
)
from cfi_tables.scalars import read_u8, read_u16, read_u32

MAXIMUM_ROW_BYTES = 8
"""No row takes more; the row stream ends with as many spare bytes, so a row that begins inside can be read."""


@hot_loop
def write_rule(out: FlatArray, at: int, rule: int) -> int:
    """Write a rule id; gives the next position."""
    if rule < RULE_U16:
        out[at] = rule
        return at + 1
    out[at] = RULE_U16
    out[at + 1] = rule & 255
    out[at + 2] = rule >> 8
    return at + 3


@hot_loop
def write_delta(out: FlatArray, at: int, delta: int) -> int:
    """Write an address delta; gives the next position."""
    if delta < DELTA_U16:
        out[at] = delta
        return at + 1
    size = 2
    out[at] = DELTA_U16
    if delta > 0xFFFF:
        out[at] = DELTA_U32
        size = 4
    for index in range(size):
        out[at + 1 + index] = (delta >> (8 * index)) & 255
    return at + 1 + size


@hot_loop
def encode_rows(addresses: FlatArray, rules: FlatArray, out: FlatArray, index: FlatArray) -> int:
    """Code the rows into `out` (MAXIMUM_ROW_BYTES a row) and `index` (two words a block); gives the bytes used.

    `addresses` count from the table's text start and grow.
    """
    at = 0
    previous = 0
    for row in range(len(addresses)):
        address = addresses[row]
        if row % BLOCK_ROWS == 0:
            block = row // BLOCK_ROWS
            index[2 * block] = address
            index[2 * block + 1] = at
        else:
            at = write_delta(out, at, address - previous)
        at = write_rule(out, at, rules[row])
        previous = address
    return at


@hot_loop
def read_rule(arena: FlatArray, at: int) -> tuple[int, int]:
    """(rule id, next position)."""
    rule = read_u8(arena, at)
    if rule != RULE_U16:
        return rule, at + 1
    return read_u16(arena, at + 1), at + 3


@hot_loop
def read_delta(arena: FlatArray, at: int) -> tuple[int, int]:
    """(address delta, next position)."""
    delta = read_u8(arena, at)
    if delta < DELTA_U16:
        return delta, at + 1
    if delta == DELTA_U16:
        return read_u16(arena, at + 1), at + 3
    return read_u32(arena, at + 1), at + 5


@hot_loop
def find_block(arena: FlatArray, index: int, count: int, relative: int) -> int:
    """The last of `count` blocks that begins at or before `relative`; -1 when none does."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if read_u32(arena, index + middle * INDEX_ENTRY_SIZE + INDEX_ENTRY_PC) <= relative:
            low = middle + 1
        else:
            high = middle
    return low - 1


@hot_loop
def find_rule_id(arena: FlatArray, table: int, relative: int) -> int:
    """The id of the rule in force at `relative` bytes from the text start; -1 when there is none."""
    count = read_u32(arena, table + HEADER_BLOCK_COUNT)
    index = table + read_u32(arena, table + HEADER_INDEX_OFFSET)
    block = find_block(arena, index, count, relative)
    if block < 0:
        return -1
    rows = table + read_u32(arena, table + HEADER_ROWS_OFFSET)
    end = rows + read_u32(arena, table + HEADER_ROWS_SIZE)
    entry = index + block * INDEX_ENTRY_SIZE
    address = read_u32(arena, entry + INDEX_ENTRY_PC)
    at = rows + read_u32(arena, entry + INDEX_ENTRY_OFFSET)
    left = read_u32(arena, table + HEADER_ROW_COUNT) - block * BLOCK_ROWS
    if left > BLOCK_ROWS:
        left = BLOCK_ROWS
    if at >= end:
        return -1
    rule, at = read_rule(arena, at)
    while left > 1 and at < end:
        delta, at = read_delta(arena, at)
        address += delta
        if address > relative:
            break
        rule, at = read_rule(arena, at)
        left -= 1
    return rule


@hot_loop
def decode_rows(arena: FlatArray, table: int, addresses: FlatArray, rules: FlatArray) -> int:
    """Every row of a table, addresses counting from its text start; gives how many were decoded."""
    count = read_u32(arena, table + HEADER_ROW_COUNT)
    index = table + read_u32(arena, table + HEADER_INDEX_OFFSET)
    rows = table + read_u32(arena, table + HEADER_ROWS_OFFSET)
    end = rows + read_u32(arena, table + HEADER_ROWS_SIZE)
    address = 0
    at = rows
    for row in range(count):
        if at >= end:
            return row
        if row % BLOCK_ROWS == 0:
            entry = index + row // BLOCK_ROWS * INDEX_ENTRY_SIZE
            address = read_u32(arena, entry + INDEX_ENTRY_PC)
            at = rows + read_u32(arena, entry + INDEX_ENTRY_OFFSET)
            if at >= end:
                return row
        else:
            delta, at = read_delta(arena, at)
            address += delta
        rule, at = read_rule(arena, at)
        addresses[row] = address
        rules[row] = rule
    return count
