"""What a rule means, whatever way it is written: of a row as the interpreter reads it, and of a record in a table.

A meaning is "gap", "end" or "overflow", or a `Meaning` with a rule for each register of the architecture, so that
what a table leaves out (a register that keeps the ABI's default) compares equal to what says it.
"""

from __future__ import annotations

from dataclasses import dataclass

from oracles.call_frame_interpreter import (
    AT_CFA,
    CFA_PLUS,
    EXPRESSION,
    IN_REGISTER,
    SAME,
    UNDEFINED,
    VAL_EXPRESSION,
    Cie,
    Fde,
    RegisterRule,
    State,
)

from cfi_tables import layout
from cfi_tables.architecture import Architecture

GAP, END, OVERFLOW = "gap", "end", "overflow"
_KINDS = (UNDEFINED, SAME, AT_CFA, CFA_PLUS, IN_REGISTER, EXPRESSION, VAL_EXPRESSION)


@dataclass(frozen=True)
class Meaning:
    """How the caller's registers are found."""

    cfa: tuple[int, ...] | bytes
    """(register, offset), (register, offset, addend) of a CFA in memory, or an expression."""
    registers: tuple[RegisterRule, ...]
    flags: tuple[bool, bool, bool] = (False, False, False)
    """Signal frame, signed return address, signed with key B."""


def default_rule(architecture: Architecture, register: int) -> RegisterRule:
    """Of a register that nothing is said of."""
    if register == architecture.stack_pointer:
        return CFA_PLUS, 0
    return (SAME, 0) if register in architecture.callee_saved else (UNDEFINED, 0)


def meaning_of_state(state: State, cie: Cie, architecture: Architecture) -> Meaning | str:
    """Of a row of an FDE of `cie`, with the limits of a table: 32 bits of CFA offset, 23 of a register's."""
    by = cie.return_column
    through = state.rules.get(by)
    if through is not None and through[0] == UNDEFINED and by < len(architecture.register_names):
        return END
    if state.cfa is None:
        return GAP
    cfa: tuple[int, ...] | bytes = state.cfa
    if isinstance(cfa, bytes):
        if len(cfa) > 0xFFFF:
            return OVERFLOW
        cfa = _in_memory(cfa, architecture) or cfa
    elif cfa[0] >= len(architecture.register_names) or not -(1 << 31) <= cfa[1] < 1 << 31:
        return OVERFLOW
    registers = []
    for number in range(len(architecture.register_names)):
        rule = state.rules.get(number)
        if number == architecture.return_column and by != number:
            rule = (IN_REGISTER, by) if through is None or through[0] == SAME else through
        if rule is None:
            rule = default_rule(architecture, number)
        how, value = rule
        if how in (AT_CFA, CFA_PLUS) and isinstance(value, int) and not -(1 << 22) <= value < 1 << 22:
            return OVERFLOW
        if isinstance(value, bytes) and len(value) > 0xFFFF:
            return OVERFLOW
        if how == IN_REGISTER and isinstance(value, int) and value >= len(architecture.register_names):
            if number == architecture.return_column:
                return OVERFLOW
            rule = (UNDEFINED, 0)  # in a register that no capture has
        registers.append(rule)
    return Meaning(cfa, tuple(registers), (cie.signal, state.signed, state.signed and cie.key_b))


def _in_memory(expression: bytes, architecture: Architecture) -> tuple[int, ...] | None:
    """(register, a, b) of breg, deref and perhaps plus_uconst in 16 bits each: *(register + a) + b."""
    at = 0

    def leb(signed: bool) -> int | None:
        nonlocal at
        value = shift = 0
        while at < len(expression):
            byte = expression[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if signed and byte & 64 else value
        return None

    if not expression or not 0 <= expression[0] - 0x70 < min(len(architecture.register_names), 32):
        return None
    at = 1
    a, b = leb(True), 0
    if a is None or expression[at : at + 1] != b"\x06":
        return None
    at += 1
    if expression[at : at + 1] == b"\x23":
        at += 1
        found = leb(False)
        if found is None:
            return None
        b = found
    if at != len(expression) or not -(1 << 15) <= a < 1 << 15 or b >= 1 << 15:
        return None
    return expression[0] - 0x70, a, b


def meaning_in_table(data: memoryview, record: int, architecture: Architecture) -> Meaning | str:
    """Of the rule record at `record` of a table, -1 for none; the layout is told in cfi_tables/schema.py."""

    def unsigned(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    def expression(offset: int) -> bytes:
        at = unsigned(layout.HEADER_EXPRESSIONS_OFFSET, 4) + offset
        return bytes(data[at + 2 : at + 2 + unsigned(at, 2)])

    if record < 0:
        return GAP
    kind = data[record]
    value = int.from_bytes(data[record + 4 : record + 8], "little", signed=True)
    if kind in (layout.CFA_KIND_INVALID, layout.CFA_KIND_END, layout.CFA_KIND_OVERFLOW):
        return {layout.CFA_KIND_INVALID: GAP, layout.CFA_KIND_END: END}.get(kind, OVERFLOW)
    cfa: tuple[int, ...] | bytes
    if kind == layout.CFA_KIND_REGISTER_OFFSET:
        cfa = (data[record + 1], value)
    elif kind == layout.CFA_KIND_DEREF:
        cfa = (data[record + 1], (value & 0xFFFF ^ 0x8000) - 0x8000, value >> 16)
    else:
        assert kind == layout.CFA_KIND_EXPRESSION
        cfa = expression(value)
    registers = [default_rule(architecture, number) for number in range(len(architecture.register_names))]
    head = unsigned(layout.HEADER_LISTS_OFFSET, 4) + 4 * unsigned(record + 2, 2)
    for index in range(data[head]):
        entry = int.from_bytes(data[head + 4 + 4 * index : head + 8 + 4 * index], "little", signed=True)
        how = _KINDS[entry >> 6 & 7]
        registers[entry & 63] = (how, expression(entry >> 9) if how in (EXPRESSION, VAL_EXPRESSION) else entry >> 9)
    flags = data[head + 1]
    return Meaning(
        cfa, tuple(registers),
        (bool(flags & layout.RULE_FLAG_SIGNAL_FRAME), bool(flags & layout.RULE_FLAG_RETURN_ADDRESS_SIGNED),
         bool(flags & layout.RULE_FLAG_SIGNED_WITH_KEY_B)),
    )  # fmt: skip


def meaning_at(fdes: list[Fde], pc: int, architecture: Architecture) -> Meaning | str:
    """What holds at `pc`: of overlapping FDEs that which starts last, then the shorter one, then the later one."""
    best: Fde | None = None
    for fde in fdes:
        if fde.start <= pc < fde.end and (best is None or (fde.start, -fde.end) >= (best.start, -best.end)):
            best = fde
    if best is None:
        return GAP
    state = next(state for address, state in reversed(best.rows) if address <= pc)
    return meaning_of_state(state, best.cie, architecture)
