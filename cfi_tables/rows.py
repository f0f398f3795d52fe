"""How rows (address, rule) are coded in a table's blocks, and read from them in place, as hot loops.

Owns the blocks and their index. The codes come from `row_codes`; `schema.py` tells the layout of their decoding
tables. Another coding replaces these two files and bumps FORMAT_VERSION.

A block has `block_bytes` bytes, read as bits from the lowest of the first byte on. Its first row's address stands in
the index, and its first `rule_bits` bits are that row's rule id. Each further row is a code for its rule, which
depends on the rule before it, and a code for the address delta, in a class that depends on both rules. A row of which
any bit would lie behind the block is not in the block, which ends with as many of its bits as there is room for. So a
reader finds a block's end by itself, because what is cut from a prefix code never reads as something shorter. A block
has at most BLOCK_ROWS rows, since a row that was certain takes no bits. Rows at or behind the next block's address may
be there as well: those are the next block's.

The last row is the gap at the table's text end, which every address in the table lies before.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    BLOCK_ROWS,
    DELTA_ALIGNMENT,
    DELTA_EXTRA_U32,
    DELTA_NEAR_EXTRA,
    HEADER_BLOCK_BYTES,
    HEADER_BLOCK_COUNT,
    HEADER_BLOCKS_OFFSET,
    HEADER_DELTA_BITS,
    HEADER_DELTAS_OFFSET,
    HEADER_INDEX_OFFSET,
    HEADER_ROW_COUNT,
    HEADER_RULE_BITS,
    HEADER_RULE_COUNT,
    HEADER_RULES_OFFSET,
    HEADER_STATES_OFFSET,
    MAXIMUM_BLOCK_BYTES,
    RULE_SIZE,
)
from cfi_tables.scalars import item, read_u8, read_u16, read_u32, write_i64

PAIR_SHIFT = 8
MARK_MASK = (1 << PAIR_SHIFT) - 1
"""A row's step: its pair's number above its delta's mark. A mark says which token a delta has and, of the near ones,
which further bits, so that nearly all rows are coded by their steps alone."""
CODE_SHIFT = 24
_CLASS_MASK = 0xFF00
_BLOCK_WORDS = MAXIMUM_BLOCK_BYTES // 8
_WINDOW = 56
"""Bits that are right in a window."""
NEAR_BITS = 24
"""Bits that a row takes at most without an escape and a far delta; those refill the window by themselves."""


@hot_loop
def _read_bits(arena: FlatArray, at: int) -> int:
    """The bits from bit `at` of the arena on: 56 of them are right, those above are zero or right."""
    place = at >> 3
    return (read_u32(arena, place) + (read_u32(arena, place + 4) & 0x7FFFFFFF) * 4294967296) >> (at & 7)


@hot_loop
def _state_of(arena: FlatArray, table: int, rule: int) -> int:
    """The state (a step word) of a rule id, 0 when there is no such rule."""
    if rule >= read_u32(arena, table + HEADER_RULE_COUNT):
        return 0
    return read_u32(arena, table + read_u32(arena, table + HEADER_STATES_OFFSET) + 4 * rule)


@hot_loop
def _next_row(
    arena: FlatArray,
    table: int,
    rules: int,
    deltas: int,
    rule_bits: int,
    delta_bits: int,
    at: int,
    window: int,
    valid: int,
    state: int,
    address: int,
) -> tuple[int, int, int, int, int]:
    """Read the row at bit `at` of the arena, behind a row of `state` (not 0) at `address`.

    Gives the next `at`, `window`, `valid`, and the row's state (0 when the block is damaged) and address. The window
    holds the `valid` bits from `at` on. `rules` and `deltas` are where these areas lie in the arena.
    """
    if valid < NEAR_BITS:
        window = _read_bits(arena, at)
        valid = _WINDOW
    successor = (state >> 12) + (window & ((1 << ((state >> 8) & 15)) - 1))
    state = read_u32(arena, rules + RULE_SIZE + 4 * successor)
    used = state & 15
    delta_class = (state >> 4) & 15
    window >>= used
    if state < 4096:
        state = _state_of(arena, table, _read_bits(arena, at + used) & ((1 << rule_bits) - 1))
        at += used + rule_bits
        window = _read_bits(arena, at)
        valid = _WINDOW
        used = 0
    code = read_u16(arena, deltas + 2 * ((delta_class << delta_bits) + (window & ((1 << delta_bits) - 1))))
    length = code & 15
    extra = (code >> 4) & 15
    used += length
    window >>= length
    if extra > DELTA_NEAR_EXTRA:
        if extra == DELTA_EXTRA_U32:
            extra = 32
        at += used
        delta = _read_bits(arena, at) & ((1 << extra) - 1)
        at += extra
        return at, _read_bits(arena, at), _WINDOW, state, address + delta
    delta = (code >> 8) + (window & ((1 << extra) - 1))
    if delta == 0:
        delta = DELTA_ALIGNMENT - (address & (DELTA_ALIGNMENT - 1))
    used += extra
    return at + used, window >> extra, valid - used, state, address + delta


@hot_loop
def _find_block(arena: FlatArray, index: int, count: int, relative: int) -> int:
    """The last of `count` (at least one) blocks that begins at or before `relative`; the first when none does."""
    block = 0
    while count > 1:
        half = count >> 1
        if read_u32(arena, index + 4 * (block + half)) <= relative:
            block += half
        count -= half
    return block


@hot_loop
def find_record(arena: FlatArray, table: int, relative: int) -> int:
    """Where the record of the rule in force at `relative` lies in the arena; -1 when there is none.

    `relative` counts from the table's text start, rounded down to DELTA_ALIGNMENT, and is before its end.
    """
    count = read_u32(arena, table + HEADER_BLOCK_COUNT)
    if count == 0:
        return -1
    index = table + read_u32(arena, table + HEADER_INDEX_OFFSET)
    block = _find_block(arena, index, count, relative)
    address = read_u32(arena, index + 4 * block)
    if address > relative:
        return -1
    rules = table + read_u32(arena, table + HEADER_RULES_OFFSET)
    deltas = table + read_u32(arena, table + HEADER_DELTAS_OFFSET)
    rule_bits = read_u8(arena, table + HEADER_RULE_BITS)
    delta_bits = read_u8(arena, table + HEADER_DELTA_BITS)
    block_bytes = read_u8(arena, table + HEADER_BLOCK_BYTES)
    at = 8 * (table + read_u32(arena, table + HEADER_BLOCKS_OFFSET) + block * block_bytes)
    end = at + 8 * block_bytes
    window = _read_bits(arena, at)
    state = _state_of(arena, table, window & ((1 << rule_bits) - 1))
    at += rule_bits
    window >>= rule_bits
    valid = _WINDOW - rule_bits
    for _ in range(BLOCK_ROWS - 1):
        if state == 0:
            return -1
        found = state
        at, window, valid, state, address = _next_row(
            arena, table, rules, deltas, rule_bits, delta_bits, at, window, valid, state, address
        )
        if address > relative or at > end:
            return rules + 4 * (found >> 12)
    if state == 0:
        return -1
    return rules + 4 * (state >> 12)


@hot_loop
def decode_rows(arena: FlatArray, table: int, addresses: FlatArray, records: FlatArray) -> int:
    """Every row: its address as in the index, and where its rule's record lies in the table.

    Gives how many were decoded: fewer than the table's row count when it is damaged.
    """
    rows = read_u32(arena, table + HEADER_ROW_COUNT)
    index = table + read_u32(arena, table + HEADER_INDEX_OFFSET)
    rules_offset = read_u32(arena, table + HEADER_RULES_OFFSET)
    deltas = table + read_u32(arena, table + HEADER_DELTAS_OFFSET)
    rule_bits = read_u8(arena, table + HEADER_RULE_BITS)
    delta_bits = read_u8(arena, table + HEADER_DELTA_BITS)
    blocks = table + read_u32(arena, table + HEADER_BLOCKS_OFFSET)
    block_bytes = read_u8(arena, table + HEADER_BLOCK_BYTES)
    done = 0
    previous = -1
    block_count = read_u32(arena, table + HEADER_BLOCK_COUNT)
    for block in range(block_count):
        address = read_u32(arena, index + 4 * block)
        limit = read_u32(arena, index + 4 * (block + 1)) if block + 1 < block_count else 1 << 32
        at = 8 * (blocks + block * block_bytes)
        end = at + 8 * block_bytes
        valid = 0
        window = 0
        state = _state_of(arena, table, _read_bits(arena, at) & ((1 << rule_bits) - 1))
        at += rule_bits
        left = BLOCK_ROWS
        while left > 0 and at <= end:
            if done == rows:
                return rows
            if address >= limit:
                break
            if state == 0 or address <= previous:
                return done
            addresses[done] = address
            records[done] = rules_offset + 4 * (state >> 12)
            done += 1
            previous = address
            left -= 1
            at, window, valid, state, address = _next_row(
                arena, table, table + rules_offset, deltas, rule_bits, delta_bits, at, window, valid, state, address
            )
    return done


@hot_loop
def encode_rows(
    addresses: FlatArray,
    rules: FlatArray,
    steps: FlatArray,
    last: int,
    base: int,
    rule_numbers: FlatArray,
    pair_words: FlatArray,
    mark_words: FlatArray,
    rule_bits: int,
    block_bytes: int,
    out: FlatArray,
    index: FlatArray,
) -> int:
    """Code rows into blocks, the last of which begins before row `last`; gives how many they took.

    Row i follows its predecessor by the pair and the delta's mark of `steps[i]` (PAIR_SHIFT). A pair's word holds its
    code's length (bits 0-7), its class (bits 16-23) and the code, to be read lowest bit first, from bit CODE_SHIFT on;
    a mark's word, one for each mark of each class, the length, how many further bits of the delta follow what the code
    says (bits 8-15: more than a block has room for when they are not 0), and the code. `index` gets addresses less
    `base`, and a block's first rule is numbered by `rule_numbers`. `out` has as many spare bytes as a table.
    """
    blocks = 0
    row = 0
    rows = len(addresses)
    while row < last:
        index[blocks] = addresses[row] - base
        place = block_bytes * blocks
        for word in range(_BLOCK_WORDS):
            write_i64(out, place + 8 * word, 0)
        bits = item(
            rule_numbers, 0 + rules[row]
        )  # those of the byte at `place` and behind it that are yet to be written
        write_i64(out, place, bits)
        bits >>= rule_bits & ~7
        place += rule_bits >> 3
        fill = rule_bits & 7  # bits of the byte at `place` that are taken
        room = 8 * block_bytes - rule_bits
        blocks += 1
        stop = min(row + BLOCK_ROWS, rows)
        row += 1
        while row < stop:
            step = item(steps, row)
            pair = item(pair_words, step >> PAIR_SHIFT)
            code = item(mark_words, (pair >> 8 & _CLASS_MASK) | (step & MARK_MASK))
            value = (pair >> CODE_SHIFT) | (code >> CODE_SHIFT) << (pair & 63)
            length = (pair + code) & 0xFFFF
            if length <= room:
                bits |= value << fill
                write_i64(out, place, bits)
                fill += length
                room -= length
                bits >>= fill & ~7
                place += fill >> 3
                fill &= 7
                row += 1
                continue
            # A far delta is written by itself; of a row that does not fit, as many bits as there is room for.
            extra = length >> 8
            length &= 255
            fits = length + extra <= room
            length = min(length, room)
            bits |= (value & ((1 << length) - 1)) << fill
            write_i64(out, place, bits)
            fill += length
            room -= length
            bits >>= fill & ~7
            place += fill >> 3
            fill &= 7
            extra = min(extra, room)
            bits |= ((addresses[row] - addresses[row - 1]) & ((1 << extra) - 1)) << fill
            write_i64(out, place, bits)
            if not fits:
                break
            fill += extra
            room -= extra
            bits >>= fill & ~7
            place += fill >> 3
            fill &= 7
            row += 1
    return blocks
