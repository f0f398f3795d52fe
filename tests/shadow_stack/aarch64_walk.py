"""The walk by compact tables on aarch64, compared at one state with the true call stack, as hot loops.

`unwind.walk` is for x86-64; this is one frame's step with the same table records, for what aarch64 tables must prove.
Rules without an expression, as compilers write them. The return address of a frame whose rule says that it is signed
loses its authentication code.
"""

from __future__ import annotations

from shadow_stack.aarch64_run import CALL_REGISTERS, CALL_RETURN_ADDRESS, CALL_SP, CALL_WIDTH, FIRST_SAVED, LAST_SAVED

from cfi_tables.hot_loop import FlatArray, hot_loop, wrap64
from cfi_tables.layout import (
    CFA_KIND_END,
    CFA_KIND_REGISTER_OFFSET,
    REGISTER_KIND_AT_CFA,
    REGISTER_KIND_CFA_PLUS,
    REGISTER_KIND_IN_REGISTER,
    REGISTER_KIND_SAME,
    REGISTER_KIND_UNDEFINED,
    RULE_CFA_REGISTER,
    RULE_CFA_VALUE,
    RULE_FLAG_RETURN_ADDRESS_SIGNED,
)
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.scalars import read_i32, read_i64

LINK, STACK_POINTER, PROGRAM_COUNTER = 30, 31, 32
WIDTH = 33

# What a state came to.
EXACT = 0
WRONG_CALLER = 1
WRONG_CFA = 2
WRONG_REGISTER = 3
ENDS_EARLY = 4
ENDS_LATE = 5
NO_ROW = 6
OTHER_MEMORY = 7
"""The rule needs memory that is not of the stack."""
NOT_SUPPORTED = 8
"""A rule that this step does not know."""

_STEPPED = 0
_END = -1

# Bits 48-54 and 56-63 hold the code (user space has 48-bit addresses, and its top byte is ignored); bit 55 tells which
# half of the address space it is and is kept.
_CODE_BITS = -(1 << 48) & ~(1 << 55)


@hot_loop
def _strip(value: int) -> int:
    return value | _CODE_BITS if (value >> 55) & 1 else value & ~_CODE_BITS


@hot_loop
def _step(
    table: FlatArray, rule: int, current: FlatArray, caller: FlatArray, stack: FlatArray, stack_begin: int
) -> int:
    """Fill `caller` from `current` (int64, x0-x30, sp, pc): _STEPPED, _END, OTHER_MEMORY or NOT_SUPPORTED."""
    kind = table[rule] + 0
    if kind == CFA_KIND_END:
        return _END
    if kind != CFA_KIND_REGISTER_OFFSET:
        return NOT_SUPPORTED
    cfa = wrap64(current[table[rule + RULE_CFA_REGISTER] + 0] + read_i32(table, rule + RULE_CFA_VALUE))
    for register in range(WIDTH):
        caller[register] = current[register]
    caller[STACK_POINTER] = cfa
    entries = register_list(table, 0, rule)
    for index in range(table[entries] + 0):
        entry = read_i32(table, entries + 4 + 4 * index)
        register = entry & 63
        kind = (entry >> 6) & 7
        value = entry >> 9
        if kind == REGISTER_KIND_AT_CFA:
            place = cfa + value - stack_begin
            if place < 0 or place + 8 > len(stack):
                return OTHER_MEMORY
            caller[register] = read_i64(stack, place)
        elif kind == REGISTER_KIND_CFA_PLUS:
            caller[register] = cfa + value
        elif kind == REGISTER_KIND_IN_REGISTER:
            caller[register] = current[value]
        elif kind == REGISTER_KIND_UNDEFINED and register == LINK:
            return _END
        elif kind != REGISTER_KIND_SAME:
            return NOT_SUPPORTED
    if table[entries + 1] & RULE_FLAG_RETURN_ADDRESS_SIGNED:
        caller[LINK] = _strip(caller[LINK] + 0)
    caller[PROGRAM_COUNTER] = caller[LINK]
    return _STEPPED


@hot_loop
def _mismatch(caller: FlatArray, calls: FlatArray, call: int) -> int:
    """How the caller's registers differ from those at the call that stands at `call` of `calls`; or EXACT."""
    if caller[PROGRAM_COUNTER] != calls[call + CALL_RETURN_ADDRESS]:
        return WRONG_CALLER
    if caller[STACK_POINTER] != calls[call + CALL_SP]:
        return WRONG_CFA
    for register in range(FIRST_SAVED, LAST_SAVED + 1):
        if caller[register] != calls[call + CALL_REGISTERS + register - FIRST_SAVED]:
            return WRONG_REGISTER
    return EXACT


@hot_loop
def compare(
    table: FlatArray,
    bias: int,
    registers: FlatArray,
    stack: FlatArray,
    stack_begin: int,
    calls: FlatArray,
    depth: int,
    first: FlatArray,
    second: FlatArray,
) -> tuple[int, int, int]:
    """(what the state came to, pc of the frame whose rule is wrong, 1 when that pc is not a return address).

    `bias` is run-time addresses minus the table's; `registers` int64 WIDTH; `stack` bytes from `stack_begin` on;
    `calls` as `Aarch64Run` has them; `first` and `second` are scratch, int64 WIDTH.
    """
    for register in range(WIDTH):
        first[register] = registers[register]
    current = first
    caller = second
    frame = depth
    while True:
        exact = 1 if frame == depth else 0
        pc = current[PROGRAM_COUNTER] + 0
        rule = find_rule(table, 0, pc - bias - (0 if exact else 1))
        if rule < 0:
            return NO_ROW, pc, exact
        status = _step(table, rule, current, caller, stack, stack_begin)
        if status == _END:
            return (EXACT if frame == 0 else ENDS_EARLY), pc, exact
        if status != _STEPPED:
            return status, pc, exact
        if frame == 0:
            return ENDS_LATE, pc, exact
        frame -= 1
        status = _mismatch(caller, calls, frame * CALL_WIDTH)
        if status != EXACT:
            return status, pc, exact
        swapped = current
        current = caller
        caller = swapped
