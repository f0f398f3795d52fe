"""The programs of a section's FDEs run into rows by remembered steps, as hot loops.

Owns the pool of distinct register states and the table of steps between them. An instruction leads from one state to
another; compilers write the same few thousand steps over and over, so each is interpreted once, by `cfi_program.step`,
and from then on found by what it was: the state's number and the instruction's bytes, compared whole. States and
remembered states are numbers here, and a row's rule is its state's.

What is rare (long operands, expressions, set_loc) is interpreted each time. FDEs that come when the pool is full are
run by `cfi_program.run_fde`; both ways give the same rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.cfi_program import (
    CURSOR_ADVANCED,
    CURSOR_AT,
    CURSOR_DEPTH,
    CURSOR_LOCATION,
    CURSOR_SIZE,
    STATE_STACK_DEPTH,
    run_fde,
    step,
)
from cfi_tables.frame_section import (
    CIE_CODE_ALIGNMENT,
    CIE_COLUMNS,
    CIE_FLAGS,
    CIE_PROBLEM,
    FDE_CIE,
    FDE_COLUMNS,
    FDE_END,
    FDE_OFFSET,
    FDE_PROGRAM,
    FDE_PROGRAM_END,
    FDE_START,
    PROBLEM_COLUMNS,
    PROBLEM_OFFSET,
    PROBLEM_REASON,
    PROBLEM_START,
)
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    FRAME_PROBLEM_BACKWARD,
    FRAME_PROBLEM_BAD_INSTRUCTION,
    FRAME_PROBLEM_NONE,
    FRAME_PROBLEM_STATE_STACK,
)
from cfi_tables.rule_pool import RULE_INVALID, STATE_MAXIMUM_SIZE, intern_rule, state_size
from cfi_tables.scalars import read_u8, read_u16, read_u32

# A state in the pool: these words, then the state; the first word of the array is the count.
POOLED_CIE = 0
POOLED_RULE = 1  # its rule's id, -1 while no row has had the state
POOLED_WORDS = 2
STATE_LIMIT = 1 << 14
STATE_SLOTS = 2 * STATE_LIMIT
STEP_SLOTS = 1 << 16
"""Each has a key, 0 when it is free, and the number of the state behind the step; the array's last word counts them."""

_POOL_FULL = -1
_HASH_MASK = (1 << 40) - 1
_LONGEST = 4  # bytes of operands that a remembered step may have


@hot_loop
def _intern_state(state: FlatArray, cie_index: int, size: int, states: FlatArray, slots: FlatArray) -> int:
    """The number of a CIE's state of `size` words, a new one when it is new; -1 when the pool is full."""
    pooled = POOLED_WORDS + size
    value = cie_index
    for index in range(size):
        value = (value * 1000003 ^ state[index]) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    while slots[slot]:
        number: int = slots[slot] - 1
        base = 1 + number * pooled
        if states[base + POOLED_CIE] == cie_index:
            index = 0
            while index < size and states[base + POOLED_WORDS + index] == state[index]:
                index += 1
            if index == size:
                return number
        slot = (slot + 1) & mask
    count: int = states[0]
    base = 1 + count * pooled
    if base + pooled > len(states):
        return _POOL_FULL
    slots[slot] = count + 1
    states[0] = count + 1
    states[base + POOLED_CIE] = cie_index
    states[base + POOLED_RULE] = -1
    for index in range(size):
        states[base + POOLED_WORDS + index] = state[index]
    return count


@hot_loop
def _take_state(number: int, size: int, states: FlatArray, state: FlatArray) -> None:
    """Copy a state of `size` words out of the pool."""
    base = 1 + number * (POOLED_WORDS + size) + POOLED_WORDS
    for index in range(size):
        state[index] = states[base + index]


@hot_loop
def _rule_of(
    number: int,
    flags: int,
    section: FlatArray,
    states: FlatArray,
    state: FlatArray,
    rules: FlatArray,
    slots: FlatArray,
) -> int:
    """The id of the rule that a state in the pool stands for."""
    size = state_size(section)
    place = 1 + number * (POOLED_WORDS + size) + POOLED_RULE
    if states[place] < 0:
        _take_state(number, size, states, state)
        states[place] = intern_rule(state, flags, section, rules, slots)
    found: int = states[place]
    return found


@hot_loop
def _operand_end(data: FlatArray, opcode: int, at: int, end: int) -> int:
    """Where the operands of an instruction end that may be a remembered step; -1 when it may not."""
    if opcode >> 6 == 3 or opcode == 0x2D:  # restore, AARCH64_negate_ra_state
        return at
    if opcode >> 6 == 2 or opcode == 0x0D or opcode == 0x0E:  # offset, def_cfa_register, def_cfa_offset
        operands = 1
    elif opcode == 0x0C:  # def_cfa
        operands = 2
    else:
        return -1
    limit = at + _LONGEST
    if limit > end:
        limit = end
    while at < limit:
        if read_u8(data, at) < 128:
            operands -= 1
            if operands == 0:
                return at + 1
        at += 1
    return -1


@hot_loop
def _find_step(data: FlatArray, number: int, at: int, operand_end: int, steps: FlatArray) -> tuple[int, int]:
    """(slot of the step by the instruction at `at` from a state, or the free one where it belongs; its key)."""
    key = number + 1
    for place in range(at, operand_end):
        key = key * 256 + read_u8(data, place)
    key = key * 8 + operand_end - at
    mask = STEP_SLOTS - 1
    slot = ((((key ^ (key >> 31)) & _HASH_MASK) * 1000003) >> 20) & mask
    while steps[2 * slot] and steps[2 * slot] != key:
        slot = (slot + 1) & mask
    return slot, key


@hot_loop
def _advance(data: FlatArray, opcode: int, at: int, end: int) -> tuple[int, int]:
    """(how far an advance_loc of any form moves, next position); (0, next position) for nop, position -1 if cut."""
    if opcode >> 6 == 1:
        return opcode & 0x3F, at
    if opcode == 0x00:
        return 0, at
    size = 1 << (opcode - 2)
    if at + size > end:
        return 0, -1
    if size == 1:
        return read_u8(data, at), at + 1
    if size == 2:
        return read_u16(data, at), at + 2
    return read_u32(data, at), at + 4


@hot_loop
def _run_by_steps(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    fde_row: int,
    state: FlatArray,
    remembered: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    row_count: int,
    states: FlatArray,
    state_slots: FlatArray,
    steps: FlatArray,
    first_states: FlatArray,
) -> tuple[int, int]:
    """Append the rows of one FDE and the gap behind it; gives (row count, FRAME_PROBLEM), or (_, _POOL_FULL)."""
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    cie_index = fde[fde_row + FDE_CIE]
    flags = cie[cie_index * CIE_COLUMNS + CIE_FLAGS]
    code_alignment = cie[cie_index * CIE_COLUMNS + CIE_CODE_ALIGNMENT]
    number = first_states[cie_index] - 1
    if number < 0:
        number = _intern_state(initial[cie_index * size : (cie_index + 1) * size], cie_index, size, states, state_slots)
        if number < 0:
            return row_count, _POOL_FULL
        first_states[cie_index] = number + 1
    location = fde[fde_row + FDE_START]
    limit = fde[fde_row + FDE_END]
    end = fde[fde_row + FDE_PROGRAM_END]
    at = fde[fde_row + FDE_PROGRAM]
    depth = 0
    while at < end:
        opcode = read_u8(data, at)
        advanced = location
        if opcode >> 6 == 1 or opcode == 0x00 or 0x02 <= opcode <= 0x04:  # advance_loc, nop
            delta, at = _advance(data, opcode, at + 1, end)
            if at < 0:
                return row_count, FRAME_PROBLEM_BAD_INSTRUCTION
            advanced += delta * code_alignment
        elif opcode == 0x0A:  # remember_state
            if depth >= STATE_STACK_DEPTH:
                return row_count, FRAME_PROBLEM_STATE_STACK
            remembered[depth] = number
            depth += 1
            at += 1
        elif opcode == 0x0B:  # restore_state
            depth -= 1
            if depth < 0:
                return row_count, FRAME_PROBLEM_STATE_STACK
            number = 0 + remembered[depth]
            at += 1
        else:
            operand_end = _operand_end(data, opcode, at + 1, end)
            slot = -1
            key = 0
            if operand_end >= 0:
                slot, key = _find_step(data, number, at, operand_end, steps)
            if slot >= 0 and steps[2 * slot]:
                number = 0 + steps[2 * slot + 1]
                at = operand_end
            else:
                _take_state(number, size, states, state)
                cursor[CURSOR_AT] = at
                cursor[CURSOR_LOCATION] = location
                cursor[CURSOR_ADVANCED] = location
                cursor[CURSOR_DEPTH] = 0
                problem = step(
                    data,
                    end,
                    section,
                    cie,
                    cie_index,
                    initial,
                    state,
                    remembered,
                    cursor,
                    expressions,
                    expression_slots,
                )
                if problem:
                    return row_count, problem
                number = _intern_state(state, cie_index, size, states, state_slots)
                if number < 0:
                    return row_count, _POOL_FULL
                at = 0 + cursor[CURSOR_AT]
                advanced = 0 + cursor[CURSOR_ADVANCED]
                if slot >= 0 and 2 * steps[2 * STEP_SLOTS] < STEP_SLOTS:
                    steps[2 * slot] = key
                    steps[2 * slot + 1] = number
                    steps[2 * STEP_SLOTS] += 1
        if advanced == location:
            continue
        if advanced < location:
            return row_count, FRAME_PROBLEM_BACKWARD
        if advanced >= limit:
            break
        row_addresses[row_count] = location
        row_rules[row_count] = _rule_of(number, flags, section, states, state, rules, rule_slots)
        row_count += 1
        location = advanced
    row_addresses[row_count] = location
    row_rules[row_count] = _rule_of(number, flags, section, states, state, rules, rule_slots)
    row_addresses[row_count + 1] = limit
    row_rules[row_count + 1] = RULE_INVALID
    return row_count + 2, FRAME_PROBLEM_NONE


@hot_loop
def run_fdes(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    fde_count: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    fde_first_row: FlatArray,
    problems: FlatArray,
    states: FlatArray,
    state_slots: FlatArray,
    steps: FlatArray,
    first_states: FlatArray,
) -> tuple[int, int]:
    """Append the rows of every FDE in order; gives (row count, problem count).

    FDE i has rows `fde_first_row[i]` up to `fde_first_row[i + 1]`, none when it is left out with a problem.
    `states`, `state_slots`, `steps` and `first_states` are those of `pools`.
    """
    row_count = 0
    problem_count = 0
    for index in range(fde_count):
        fde_row = index * FDE_COLUMNS
        fde_first_row[index] = row_count
        problem = cie[fde[fde_row + FDE_CIE] * CIE_COLUMNS + CIE_PROBLEM]
        done = row_count
        if problem == 0:
            done, problem = _run_by_steps(
                data, section, cie, initial, fde, fde_row, state, stack, expressions, expression_slots, rules,
                rule_slots, row_addresses, row_rules, row_count, states, state_slots, steps, first_states,
            )  # fmt: skip
            if problem == _POOL_FULL:
                done, problem = run_fde(
                    data, section, cie, initial, fde, fde_row, state, stack, expressions, expression_slots,
                    rules, rule_slots, row_addresses, row_rules, row_count,
                )  # fmt: skip
        if problem:
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[fde_row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = problem
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[fde_row + FDE_START]
            problem_count += 1
        else:
            row_count = done
    fde_first_row[fde_count] = row_count
    return row_count, problem_count


def pools(cie_count: int, size: int) -> tuple[NDArray[np.int64], ...]:
    """What `run_fdes` keeps states (of `size` words) and steps in."""
    sizes = (1 + STATE_LIMIT * (POOLED_WORDS + size), STATE_SLOTS, 2 * STEP_SLOTS + 1, cie_count)
    return tuple(np.zeros(size, dtype=np.int64) for size in sizes)
