"""The lookup that the walk makes once a frame, as a hot loop; runtime_c/core/ptap_lookup.c is the same in C."""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_INVALID,
    HEADER_RULE_COUNT,
    HEADER_RULE_OFFSETS_OFFSET,
    HEADER_TEXT_END,
    HEADER_TEXT_START,
    RULE_CFA_KIND,
)
from cfi_tables.rows import find_rule_id
from cfi_tables.scalars import read_i64, read_u8, read_u32


@hot_loop
def find_rule(arena: FlatArray, table: int, pc: int) -> int:
    """The offset in `arena` of the rule record in force at `pc`, -1 when there is none.

    `arena` (uint8) holds one or more tables that were checked when loaded, `table` is the offset of one in it. `pc`
    is a file virtual address as an int64 bit pattern: of a return address, the caller gives pc - 1.
    """
    start = read_i64(arena, table + HEADER_TEXT_START)
    if pc < start or pc >= read_i64(arena, table + HEADER_TEXT_END):
        return -1
    rule = find_rule_id(arena, table, pc - start)
    if rule < 0 or rule >= read_u32(arena, table + HEADER_RULE_COUNT):
        return -1
    offsets = table + read_u32(arena, table + HEADER_RULE_OFFSETS_OFFSET)
    record = table + read_u32(arena, offsets + 4 * rule)
    if read_u8(arena, record + RULE_CFA_KIND) == CFA_KIND_INVALID:
        return -1
    return record
