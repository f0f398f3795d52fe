"""Distinct register states and the moves between them, as hot loops.

Owns the two hash tables of `program_automaton`, and what each opcode is to it. A pooled state is one without the CFA's
offset; a move leads from one by the bytes of an instruction to another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.frame_section import CIE_COLUMNS, CIE_PROBLEM
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.rule_pool import STATE_CFA_OFFSET
from cfi_tables.scalars import item, put_item, read_u32
from cfi_tables.work_memory import WorkMemory

# A state in the pool: its CIE, then its words; the first word of the array is the count.
POOLED_WORDS = 1
_STATE_BITS = 12
_STATE_LIMIT = 1 << _STATE_BITS
_STATE_SLOTS = 2 * _STATE_LIMIT
POOL_FULL = -1
_HASH_MASK = (1 << 40) - 1

# A move is one word: the state before it, its instruction and what is behind it, a state or a rule; 0 where there is
# none. The count of moves stands behind the table, which is half full at most.
_TARGET_BITS = 16
MOVE_TARGET = (1 << _TARGET_BITS) - 1
_MOVE_SLOTS = 1 << 14

# The rules of a state with the CFA's offsets that are small and aligned have a place each, -1 while no row had one.
_OFFSETS = 1 << 8
NEAR_OFFSETS = 4 * _OFFSETS
RULES_STRIDE = _OFFSETS + 16
"""Places from one state's to the next one's: were it a power of two, all small offsets would share a few cache sets."""

# What an opcode is: instructions of the first three kinds make moves, and have so many LEB128 operands.
KIND_OTHER = 3
KIND_ADVANCE = 4  # DW_CFA_advance_loc
KIND_ADVANCE_1 = 5  # DW_CFA_advance_loc1, _loc2 and _loc4 are one above another
KIND_ADVANCE_4 = 7
KIND_CFA_OFFSET = 8
KIND_REMEMBER = 9
KIND_RESTORE = 10
KIND_NOP = 11
KIND_CFA_OFFSET_SF = 12


@cache
def _opcode_kinds() -> NDArray[np.uint8]:
    """The kind of each opcode."""
    kinds = np.full(256, KIND_OTHER, dtype=np.uint8)
    kinds[0x00] = KIND_NOP
    kinds[[0x02, 0x03, 0x04]] = KIND_ADVANCE_1, KIND_ADVANCE_1 + 1, KIND_ADVANCE_4
    kinds[0x0A], kinds[0x0B] = KIND_REMEMBER, KIND_RESTORE
    kinds[[0x2C, 0x2D]] = 0  # AARCH64_negate_ra_state
    kinds[0x0E], kinds[0x13] = KIND_CFA_OFFSET, KIND_CFA_OFFSET_SF
    kinds[[0x06, 0x07, 0x08, 0x0D, 0x2E]] = 1
    kinds[[0x05, 0x09, 0x0C, 0x11, 0x14, 0x15, 0x2B, 0x2F]] = 2
    kinds[0x40:0x80], kinds[0x80:0xC0], kinds[0xC0:] = KIND_ADVANCE, 1, 0
    return kinds


@hot_loop
def intern_state(
    state: FlatArray, cie_index: int, size: int, states: FlatArray, slots: FlatArray, state_rules: FlatArray
) -> int:
    """The number of a CIE's state of `size` words, a new one when it is new; POOL_FULL without room."""
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
        return POOL_FULL
    slots[slot] = count + 1
    states[0] = count + 1
    states[base] = cie_index
    for index in range(size):
        states[base + POOLED_WORDS + index] = state[index]
    for place in range(count * RULES_STRIDE, count * RULES_STRIDE + _OFFSETS):
        put_item(state_rules, place, -1)
    return count


@hot_loop
def take_state(number: int, size: int, states: FlatArray, state: FlatArray) -> None:
    """Copy a state of `size` words out of the pool."""
    base = 1 + number * (POOLED_WORDS + size) + POOLED_WORDS
    for index in range(size):
        state[index] = states[base + index]


@hot_loop
def move_slot(number: int, instruction: int, moves: FlatArray) -> int:
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
def remember_move(number: int, instruction: int, slot: int, target: int, moves: FlatArray) -> None:
    """Have the instruction lead from a state to what is behind it, if there is room."""
    last = len(moves) - 1
    if 2 * moves[last] < last:
        moves[slot] = ((number + 1) << 32 | instruction) << _TARGET_BITS | target
        moves[last] = moves[last] + 1


@hot_loop
def short_instruction(data: FlatArray, at: int, operands: int) -> tuple[int, int]:
    """(bytes as one integer, size) of an instruction with so many LEB128 operands; size 0 when it is a long one.

    Three bytes behind its first one are read. The offset of DW_CFA_def_cfa, which is no part of a move, is left out.
    """
    word = read_u32(data, at)
    if operands == 0:
        return word & 0xFF, 1
    if operands == 1:
        if word & 0x8000 == 0:
            return word & 0xFFFF, 2
        return word & 0xFFFFFF, 0 if word & 0x800000 else 3
    if word & 0xFF == 0x0C:
        if word & 0x8000:
            return word, 0
        return word & 0xFFFF, 0 if word & 0x80800000 == 0x80800000 else 3 + (word >> 23 & 1)
    if word & 0x808000 == 0:
        return word & 0xFFFFFF, 3
    ends = word & 0x80808000
    return word, 4 if ends == 0x8000 or ends == 0x800000 else 0


@hot_loop
def begin_states(
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
        first_states[index] = intern_state(state, index, size, states, state_slots, state_rules)


def pools(memory: WorkMemory, cie_count: int, size: int, room: int) -> tuple[NDArray[Any], ...]:
    """What `run_fdes` keeps: states (of `size` words), their rules, CIEs' first ones, moves, and the kinds of opcodes.

    `room`: bytes of all programs at most. Each state and move took one, besides the states that CIEs begin with.
    """
    state_limit = min(_STATE_LIMIT, room + cie_count)
    states = memory.take(1 + state_limit * (POOLED_WORDS + size), np.int64, cleared=False)
    slots = memory.take(min(_STATE_SLOTS, 2 << state_limit.bit_length()), np.int64)
    rules = memory.take(state_limit * RULES_STRIDE, np.int32, cleared=False)
    moves = memory.take(1 + min(_MOVE_SLOTS, 2 << room.bit_length()), np.int64)
    states[0] = 0
    return states, slots, rules, np.full(cie_count, -1, dtype=np.int32), moves, _opcode_kinds()
