"""The lookup that the walk makes once a frame, as a hot loop; runtime_c/core/ptap_lookup.c is the same in C."""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_INVALID,
    DELTA_ALIGNMENT,
    HEADER_EXPRESSIONS_OFFSET,
    HEADER_LISTS_OFFSET,
    HEADER_TEXT_END,
    HEADER_TEXT_START,
    RULE_CFA_KIND,
    RULE_LIST,
)
from cfi_tables.rows import find_record
from cfi_tables.scalars import read_i64, read_u8, read_u16, read_u32


@hot_loop
def find_rule(arena: FlatArray, table: int, pc: int) -> int:
    """The offset in `arena` of the rule record in force at `pc`, -1 when there is none.

    `arena` (uint8) holds one or more tables that were checked when loaded, `table` is the offset of one in it. `pc`
    is a file virtual address as an int64 bit pattern: of a return address, the caller gives pc - 1.
    """
    start = read_i64(arena, table + HEADER_TEXT_START)
    if pc < start or pc >= read_i64(arena, table + HEADER_TEXT_END):
        return -1
    record = find_record(arena, table, pc - (start & -DELTA_ALIGNMENT))
    if record < 0 or read_u8(arena, record + RULE_CFA_KIND) == CFA_KIND_INVALID:
        return -1
    return record


@hot_loop
def register_list(arena: FlatArray, table: int, rule: int) -> int:
    """The offset in `arena` of the register list of the rule record at `rule`: a count, flags, then u32 entries."""
    return table + read_u32(arena, table + HEADER_LISTS_OFFSET) + 4 * read_u16(arena, rule + RULE_LIST)


@hot_loop
def expression_pool(arena: FlatArray, table: int) -> int:
    """The offset in `arena` from which a table's rules count the offsets of their expressions."""
    return table + read_u32(arena, table + HEADER_EXPRESSIONS_OFFSET)
