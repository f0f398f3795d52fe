"""The programs of a section's FDEs run into rows by an automaton over their instructions, as hot loops.

Owns the pool of distinct register states and the moves between them. An instruction leads from one state to another;
compilers write the same few steps over and over, so each is interpreted once, by `cfi_program.step`, and from then on
it is a move: a line of a hash table, which has the state before and the bytes of the instruction as its key, and the
state behind it.

A pooled state is one without the CFA's offset, which most instructions change and none but the row's rule depends on:
offsets are carried beside it. What depends on more than the state needs no move: what advances the location, and
remember_state and restore_state, whose stack holds states and offsets. What is rare (expressions, set_loc, long
operands) is interpreted each time. FDEs that come when the pool is full are run by `cfi_program.run_fde`; both ways
give the same rows.
"""

from __future__ import annotations

from typing import Any

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
from cfi_tables.row_sequence import APART, put_row
from cfi_tables.rule_pool import RULE_INVALID, STATE_CFA_OFFSET, STATE_MAXIMUM_SIZE, intern_rule, state_size
from cfi_tables.scalars import item, read_i64, read_u8, read_u16, read_u32, read_uleb
from cfi_tables.work_memory import WorkMemory

# A state in the pool: its CIE, then its words; the first word of the array is the count.
POOLED_WORDS = 1
_STATE_BITS = 12
_STATE_LIMIT = 1 << _STATE_BITS
_STATE_SLOTS = 2 * _STATE_LIMIT
_POOL_FULL = -1
_HASH_MASK = (1 << 40) - 1

# A move is one word: the state before it, its instruction and what is behind it, a state or a rule; 0 where there is
# none. The count of moves stands behind the table, which is half full at most.
_TARGET_BITS = 16
_TARGET = (1 << _TARGET_BITS) - 1
_MOVE_SLOTS = 1 << 14

# The rules of a state with the CFA's offsets that are small and aligned have a place each, -1 while no row had one.
_OFFSET_BITS = 8
_OFFSETS = 1 << _OFFSET_BITS
_NEAR_OFFSETS = 4 * _OFFSETS

# What an opcode is: instructions of the first three kinds make moves, and have so many LEB128 operands.
_OTHER = 3
_ADVANCE = 4  # DW_CFA_advance_loc
_ADVANCE_1 = 5  # DW_CFA_advance_loc1, _loc2 and _loc4 are one above another
_ADVANCE_4 = 7
_CFA_OFFSET = 8
_REMEMBER = 9
_RESTORE = 10
_NOP = 11


def _opcode_kinds() -> NDArray[np.uint8]:
    """The kind of each opcode."""
    kinds = np.full(256, _OTHER, dtype=np.uint8)
    kinds[0x00] = _NOP
    kinds[[0x02, 0x03, 0x04]] = _ADVANCE_1, _ADVANCE_1 + 1, _ADVANCE_4
    kinds[0x0A], kinds[0x0B] = _REMEMBER, _RESTORE
    kinds[[0x2C, 0x2D]] = 0  # AARCH64_negate_ra_state
    kinds[0x0E] = _CFA_OFFSET
    kinds[[0x06, 0x07, 0x08, 0x0D, 0x2E]] = 1
    kinds[[0x05, 0x09, 0x0C, 0x11, 0x14, 0x15, 0x2B, 0x2F]] = 2
    kinds[0x40:0x80], kinds[0x80:0xC0], kinds[0xC0:] = _ADVANCE, 1, 0
    return kinds


@hot_loop
def _intern_state(
    state: FlatArray, cie_index: int, size: int, states: FlatArray, slots: FlatArray, state_rules: FlatArray
) -> int:
    """The number of a CIE's state of `size` words, a new one when it is new; _POOL_FULL without room."""
    pooled = POOLED_WORDS + size
    value = cie_index
    for index in range(size):
        value = (value * 1000003 ^ state[index]) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    while slots[slot]:
        number: int = slots[slot] - 1
        base = 1 + number * pooled
        if states[base] == cie_index:
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
    states[base] = cie_index
    for index in range(size):
        states[base + POOLED_WORDS + index] = state[index]
    for place in range(count << _OFFSET_BITS, (count + 1) << _OFFSET_BITS):
        state_rules[place] = -1
    return count


@hot_loop
def _take_state(number: int, size: int, states: FlatArray, state: FlatArray) -> None:
    """Copy a state of `size` words out of the pool."""
    base = 1 + number * (POOLED_WORDS + size) + POOLED_WORDS
    for index in range(size):
        state[index] = states[base + index]


@hot_loop
def _move_slot(number: int, instruction: int, moves: FlatArray) -> int:
    """Where the move from a state by an instruction stands, or the free place for it."""
    mask = len(moves) - 2
    key = (number + 1) << 32 | instruction
    slot = ((number * 40503 ^ instruction * 0x9E3779B) >> 12) & mask
    move = item(moves, slot)
    while move and move >> _TARGET_BITS != key:
        slot = (slot + 1) & mask
        move = item(moves, slot)
    return slot


@hot_loop
def _remember_move(number: int, instruction: int, slot: int, target: int, moves: FlatArray) -> None:
    """Have the instruction lead from a state to what is behind it, if there is room."""
    last = len(moves) - 1
    if 2 * moves[last] < last:
        moves[slot] = ((number + 1) << 32 | instruction) << _TARGET_BITS | target
        moves[last] = moves[last] + 1


@hot_loop
def _instruction(data: FlatArray, at: int, operands: int) -> tuple[int, int]:
    """(bytes as one integer, size) of an instruction with so many LEB128 operands; size 0 when it is a long one.

    Three bytes behind its first one are read.
    """
    word = read_u32(data, at)
    if operands == 0:
        return word & 0xFF, 1
    if operands == 1:
        if word & 0x8000 == 0:
            return word & 0xFFFF, 2
        return word & 0xFFFFFF, 0 if word & 0x800000 else 3
    if word & 0x808000 == 0:
        return word & 0xFFFFFF, 3
    ends = word & 0x80808000
    return word, 4 if ends == 0x8000 or ends == 0x800000 else 0


@hot_loop
def _rule_of(
    number: int,
    offset: int,
    flags: int,
    section: FlatArray,
    states: FlatArray,
    state_rules: FlatArray,
    moves: FlatArray,
    state: FlatArray,
    rules: FlatArray,
    slots: FlatArray,
) -> int:
    """The id of the rule of a state and the CFA's offset."""
    place = -1
    slot = -1
    if offset & 3 == 0 and 0 <= offset < _NEAR_OFFSETS:
        place = (number << _OFFSET_BITS) + (offset >> 2)
        rule = item(state_rules, place)
        if rule >= 0:
            return rule
    elif 0 <= offset < 1 << 24:
        slot = _move_slot(number, offset << 8 | 0x0E, moves)
        if moves[slot]:
            found: int = moves[slot] & _TARGET
            return found
    _take_state(number, state_size(section), states, state)
    state[STATE_CFA_OFFSET] = offset
    rule = intern_rule(state, flags, section, rules, slots)
    if place >= 0:
        state_rules[place] = rule
    elif slot >= 0:
        _remember_move(number, offset << 8 | 0x0E, slot, rule, moves)
    return rule


@hot_loop
def _operand(data: FlatArray, at: int, size: int) -> int:
    """An operand of 1, 2 or 4 bytes."""
    if size == 1:
        return read_u8(data, at)
    if size == 2:
        return read_u16(data, at)
    return read_u32(data, at)


@hot_loop
def _interpret(
    data: FlatArray,
    at: int,
    end: int,
    section: FlatArray,
    cie: FlatArray,
    cie_index: int,
    initial: FlatArray,
    number: int,
    offset: int,
    location: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
) -> tuple[int, int, int, int, int]:
    """Run the instruction at `at` by the book.

    Gives the next position, the location, state and CFA's offset behind it, and a FRAME_PROBLEM or _POOL_FULL.
    """
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    _take_state(number, size, states, state)
    state[STATE_CFA_OFFSET] = offset
    cursor[CURSOR_AT] = at
    cursor[CURSOR_LOCATION] = location
    cursor[CURSOR_ADVANCED] = location
    cursor[CURSOR_DEPTH] = 0
    problem = step(data, end, section, cie, cie_index, initial, state, stack, cursor, expressions, expression_slots)
    if problem == FRAME_PROBLEM_NONE:
        offset = 0 + state[STATE_CFA_OFFSET]
        state[STATE_CFA_OFFSET] = 0
        number = _intern_state(state, cie_index, size, states, state_slots, state_rules)
        if number < 0:
            problem = _POOL_FULL
    return 0 + cursor[CURSOR_AT], 0 + cursor[CURSOR_ADVANCED], number, offset, problem


@hot_loop
def _begin(
    cie: FlatArray,
    initial: FlatArray,
    size: int,
    state: FlatArray,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
    first_states: FlatArray,
) -> None:
    """Pool the states (of `size` words) that CIEs' FDEs begin with; -1 stays for what has a problem or no room."""
    for index in range(len(first_states)):
        if cie[index * CIE_COLUMNS + CIE_PROBLEM]:
            continue
        for word in range(size):
            state[word] = initial[index * size + word]
        state[STATE_CFA_OFFSET] = 0
        first_states[index] = _intern_state(state, index, size, states, state_slots, state_rules)


@hot_loop
def _run_by_moves(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    order: FlatArray,
    first: int,
    base: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    fde_first_row: FlatArray,
    row_count: int,
    floor: int,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
    first_states: FlatArray,
    moves: FlatArray,
    kinds: FlatArray,
) -> tuple[int, int, int]:
    """Append the rows of the FDEs in `order` from the `first` on, up to one that has a problem or finds the pool full.

    Gives that one's place in the order, the row count, and the problem or _POOL_FULL. All FDEs are run by one call,
    since a call with so many arrays takes as long as a small FDE.
    """
    size = state_size(section)
    last_whole = len(data) - 4
    for index in range(first, len(order)):
        fde_row = order[index] * FDE_COLUMNS
        cie_index = item(fde, fde_row + FDE_CIE)
        number = item(first_states, cie_index)
        if number < 0:
            return index, row_count, _POOL_FULL
        if floor:
            fde_first_row[index] = row_count
        begun = row_count
        last_address = 0
        last_rule = 0
        if row_count > floor:
            last_address = 0 + row_addresses[row_count - 1]
            last_rule = 0 + row_rules[row_count - 1]
        flags = item(cie, cie_index * CIE_COLUMNS + CIE_FLAGS)
        code_alignment = item(cie, cie_index * CIE_COLUMNS + CIE_CODE_ALIGNMENT)
        offset = item(initial, cie_index * size + STATE_CFA_OFFSET)
        location = item(fde, fde_row + FDE_START)
        limit = item(fde, fde_row + FDE_END)
        end = item(fde, fde_row + FDE_PROGRAM_END)
        at = item(fde, fde_row + FDE_PROGRAM)
        depth = 0
        problem = FRAME_PROBLEM_NONE
        while True:
            advanced = limit
            if at < end:
                opcode = read_u8(data, at)
                kind = read_u8(kinds, opcode)
                if kind == _ADVANCE:
                    advanced = location + (opcode & 0x3F) * code_alignment
                    at += 1
                elif kind == _CFA_OFFSET and at + 1 < end and read_u8(data, at + 1) < 0x80:
                    offset = read_u8(data, at + 1)
                    at += 2
                    continue
                elif kind == _CFA_OFFSET and at + 2 < end and read_u8(data, at + 2) < 0x80:
                    offset = (read_u8(data, at + 1) & 0x7F) | read_u8(data, at + 2) << 7
                    at += 3
                    continue
                elif kind <= _OTHER or kind == _CFA_OFFSET:
                    slot = -1
                    instruction = 0
                    if kind < _OTHER and at <= last_whole:
                        instruction, length = _instruction(data, at, kind)
                        if length and at + length <= end:
                            if opcode == 0x0C:  # DW_CFA_def_cfa: the offset is no part of the move
                                instruction &= 0xFFFF
                            slot = _move_slot(number, instruction, moves)
                            move = item(moves, slot)
                            if move:
                                number = move & _TARGET
                                if opcode == 0x0C:
                                    offset, _ = read_uleb(data, at + 2, end)
                                at += length
                                continue
                    before = number
                    at, advanced, number, offset, problem = _interpret(
                        data, at, end, section, cie, cie_index, initial, number, offset, location, state, stack,
                        expressions, expression_slots, states, state_slots, state_rules,
                    )  # fmt: skip
                    if problem:
                        break
                    if slot >= 0:
                        _remember_move(before, instruction, slot, number, moves)
                elif kind == _NOP:
                    at += 1
                    rest = end - at
                    if rest < 8 and at + 8 <= len(data) and read_i64(data, at) & ((1 << 8 * rest) - 1) == 0:
                        at = end  # what fills up an FDE
                    continue
                elif kind == _REMEMBER:
                    if depth >= STATE_STACK_DEPTH:
                        problem = FRAME_PROBLEM_STATE_STACK
                        break
                    stack[2 * depth] = number
                    stack[2 * depth + 1] = offset
                    depth += 1
                    at += 1
                    continue
                elif kind == _RESTORE:
                    depth -= 1
                    if depth < 0:
                        problem = FRAME_PROBLEM_STATE_STACK
                        break
                    number = 0 + stack[2 * depth]
                    offset = 0 + stack[2 * depth + 1]
                    at += 1
                    continue
                else:
                    width = 1 << (kind - _ADVANCE_1)
                    if at + 1 + width > end:
                        problem = FRAME_PROBLEM_BAD_INSTRUCTION
                        break
                    advanced = location + _operand(data, at + 1, width) * code_alignment
                    at += 1 + width
                if advanced == location:
                    continue
                if advanced < location:
                    problem = FRAME_PROBLEM_BACKWARD
                    break
            rule = -1
            if offset & 3 == 0 and 0 <= offset < _NEAR_OFFSETS:
                rule = item(state_rules, (number << _OFFSET_BITS) + (offset >> 2))
            if rule < 0:
                rule = _rule_of(number, offset, flags, section, states, state_rules, moves, state, rules, rule_slots)
            row_count = put_row(row_addresses, row_rules, row_count, floor, location - base, rule)
            if advanced >= limit:
                break
            location = advanced
        if problem:
            if begun > floor:  # a row at the place where it is the gap behind an FDE took its place
                row_addresses[begun - 1] = last_address
                row_rules[begun - 1] = last_rule
            return index, begun, problem
        row_count = put_row(row_addresses, row_rules, row_count, floor, limit - base, RULE_INVALID)
    return len(order), row_count, FRAME_PROBLEM_NONE


@hot_loop
def run_fdes(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    order: FlatArray,
    base: int,
    separate: int,
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
    state_rules: FlatArray,
    first_states: FlatArray,
    moves: FlatArray,
    kinds: FlatArray,
) -> tuple[int, int]:
    """Append the rows of the FDEs in `order` (indices into the columns); gives (row count, problem count).

    Addresses of rows count from `base`, the lowest of the FDEs.

    `separate` 0 makes one sequence of rows of FDEs that do not overlap. With 1, each FDE has rows of its own, the gap
    behind it the last: the FDE at `order[i]` those from `fde_first_row[i]` up to `fde_first_row[i + 1]`, none when it
    is left out with a problem. The last six arrays are those of `pools`.
    """
    row_count = 0
    problem_count = 0
    floor = APART if separate else 0
    _begin(cie, initial, state_size(section), state, states, state_slots, state_rules, first_states)
    index = 0
    while True:
        index, row_count, problem = _run_by_moves(
            data, section, cie, initial, fde, order, index, base, state, stack, expressions, expression_slots, rules,
            rule_slots, row_addresses, row_rules, fde_first_row, row_count, floor, states, state_slots,
            state_rules, first_states, moves, kinds,
        )  # fmt: skip
        if separate:
            fde_first_row[index] = row_count
        if index == len(order):
            return row_count, problem_count
        fde_row = order[index] * FDE_COLUMNS
        if problem == _POOL_FULL:
            problem = cie[fde[fde_row + FDE_CIE] * CIE_COLUMNS + CIE_PROBLEM]
            if problem == FRAME_PROBLEM_NONE:
                row_count, problem = run_fde(
                    data, section, cie, initial, fde, fde_row, base, state, stack, expressions, expression_slots,
                    rules, rule_slots, row_addresses, row_rules, row_count, floor,
                )  # fmt: skip
        if problem:
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[fde_row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = problem
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[fde_row + FDE_START]
            problem_count += 1
        index += 1


def pools(memory: WorkMemory, cie_count: int, size: int, room: int) -> tuple[NDArray[Any], ...]:
    """What `run_fdes` keeps: states (of `size` words), their rules, CIEs' first ones, moves, and the kinds of opcodes.

    `room`: bytes of all programs at most. Each state and move took one, besides the states that CIEs begin with.
    """
    state_limit = min(_STATE_LIMIT, room + cie_count)
    states = memory.take(1 + state_limit * (POOLED_WORDS + size), np.int64, cleared=False)
    slots = memory.take(min(_STATE_SLOTS, 2 << state_limit.bit_length()), np.int64)
    rules = memory.take(state_limit * _OFFSETS, np.int32, cleared=False)
    moves = memory.take(1 + min(_MOVE_SLOTS, 2 << room.bit_length()), np.int64)
    states[0] = 0
    return states, slots, rules, np.full(cie_count, -1, dtype=np.int32), moves, _opcode_kinds()
