"""Rules and rows as text that a person reads, for `ptap tables show`."""

from __future__ import annotations

from collections.abc import Iterator

from cfi_tables import layout
from cfi_tables.architecture import Architecture, architecture_of
from cfi_tables.expression_text import describe_expression
from cfi_tables.hot_loop import FlatArray, plain_view, wrap64
from cfi_tables.lookup import expression_pool, find_rule, register_list
from cfi_tables.scalars import read_i16, read_i32, read_u8, read_u16
from cfi_tables.table import CompactTable


def describe_rule(arena: FlatArray, offset: int, table: int = 0) -> str:
    """The rule record at `offset`, such as `CFA=rsp+16 rbx=[CFA-16] ra=[CFA-8]`.

    `table` is where its table begins in `arena`. Registers that are not named keep the ABI's default: those
    that calls preserve are unchanged, the stack pointer is the CFA, the others are unknown.
    """
    view = plain_view(arena)
    kind = read_u8(view, offset + layout.RULE_CFA_KIND)
    if kind == layout.CFA_KIND_INVALID:
        return "no information"
    if kind == layout.CFA_KIND_END:
        return "outermost frame"
    if kind == layout.CFA_KIND_OVERFLOW:
        return "rule does not fit the table"
    architecture = architecture_of(read_u16(view, table + layout.HEADER_MACHINE))
    assert architecture is not None  # the table was checked when it was loaded
    register = architecture.register_name(read_u8(view, offset + layout.RULE_CFA_REGISTER))
    value = read_i32(view, offset + layout.RULE_CFA_VALUE)
    pool = expression_pool(view, table)
    if kind == layout.CFA_KIND_REGISTER_OFFSET:
        words = [f"CFA={_sum(register, value)}"]
    elif kind == layout.CFA_KIND_DEREF:
        a = read_i16(view, offset + layout.RULE_CFA_VALUE)
        words = [f"CFA={_sum(f'*({_sum(register, a)})', value >> 16)}"]
    else:
        words = [f"CFA=({describe_expression(_expression(view, pool + value), architecture)})"]
    entries = register_list(view, table, offset)
    for index in range(read_u8(view, entries)):
        words.append(_describe_entry(view, read_i32(view, entries + 4 + 4 * index), pool, architecture))
    flags = read_u8(view, entries + 1)
    if flags & layout.RULE_FLAG_SIGNAL_FRAME:
        words.append("signal frame")
    if flags & layout.RULE_FLAG_RETURN_ADDRESS_SIGNED:
        words.append(f"ra signed with key {'B' if flags & layout.RULE_FLAG_SIGNED_WITH_KEY_B else 'A'}")
    return "  ".join(words)


def format_rows(table: CompactTable, address: int | None = None) -> Iterator[str]:
    """One line a row: address range and rule. With `address` only the row in force there.

    Addresses are file virtual addresses; that nothing covers `address` is told in a line of its own.
    """
    view = plain_view(table.data)
    if address is not None:
        offset = find_rule(view, 0, wrap64(address))
        if offset < 0:
            yield f"{address:#x}  no information: no FDE covers this address"
            return
    previous: tuple[int, int] | None = None
    for row in [*table.rows(), (table.text_range[1], -1)]:
        if previous is not None and (address is None or previous[0] <= address < row[0]):
            yield f"{previous[0]:#x}-{row[0]:#x}  {describe_rule(view, previous[1])}"
        previous = row


def _sum(name: str, value: int) -> str:
    return f"{name}{value:+d}" if value else name


def _expression(view: FlatArray, offset: int) -> bytes:
    length = read_u16(view, offset)
    return bytes(view[offset + 2 : offset + 2 + length])


def _describe_entry(view: FlatArray, entry: int, pool: int, architecture: Architecture) -> str:
    name = architecture.register_name(entry & 63)
    kind = entry >> 6 & 7
    value = entry >> 9
    if kind == layout.REGISTER_KIND_UNDEFINED:
        return f"{name}=unknown"
    if kind == layout.REGISTER_KIND_SAME:
        return f"{name}=same"
    if kind == layout.REGISTER_KIND_AT_CFA:
        return f"{name}=[{_sum('CFA', value)}]"
    if kind == layout.REGISTER_KIND_CFA_PLUS:
        return f"{name}={_sum('CFA', value)}"
    if kind == layout.REGISTER_KIND_IN_REGISTER:
        return f"{name}={architecture.register_name(value)}"
    text = describe_expression(_expression(view, pool + value), architecture)
    return f"{name}=[({text})]" if kind == layout.REGISTER_KIND_EXPRESSION else f"{name}=({text})"
