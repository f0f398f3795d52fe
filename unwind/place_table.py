"""Places: the distinct (pc, mappings) that walks meet, each looked up once, as hot loops.

A frame is the number of a place. What is known of it, module, address in the module's file, and what a step from there
does, stands in one row of PLACE_WIDTH int64 values, found again by an open hash of its exact key. What most steps do,
a CFA from a register and callee-saved registers at offsets from it, is unpacked in the row (PLAN_FOLLOW); all else is
left to `unwind.walk` itself, which says what a step is.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_END,
    CFA_KIND_OVERFLOW,
    CFA_KIND_REGISTER_OFFSET,
    REGISTER_KIND_AT_CFA,
    REGISTER_KIND_SAME,
    RULE_CFA_REGISTER,
    RULE_CFA_VALUE,
    RULE_FLAG_SIGNAL_FRAME,
)
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.scalars import item, read_i32
from unwind.walk import (
    CALLEE_SAVED,
    FRAME_EXACT,
    FRAME_SIGNAL,
    MAPPING_BIAS,
    MAPPING_TABLE,
    MAPPING_WIDTH,
    REGISTER_COUNT,
    RETURN_ADDRESS,
    TRAMPOLINE,
)

# Columns of a place (int64).
PLACE_PC = 0
PLACE_KEY = 1
"""Twice the number of its set of mappings, and 1 where the pc was interrupted."""
PLACE_MODULE = 2
"""Index of its module, -1 for memory that is no file's."""
PLACE_LOOKUP = 3
"""Its address in the module's file for symbols, as `WalkedFrame.lookup_address`: of a return address, the byte before
it. A 64-bit pattern."""
PLACE_FLAGS = 4
"""FRAME_EXACT and FRAME_SIGNAL of `unwind.walk`."""
PLACE_PLAN = 5
"""One of the PLAN values."""
PLACE_CFA_REGISTER = 6
PLACE_CFA_OFFSET = 7
PLACE_RETURN_OFFSET = 8
"""Where the return address lies, counted from the CFA."""
PLACE_SAVED = 9
"""How many registers are saved; a word for each follows: the offset from the CFA times 32, and the register."""
PLACE_WORDS = 10
PLACE_WIDTH = 16
_MOST_SAVED = PLACE_WIDTH - PLACE_WORDS

PLAN_FOLLOW = 0
PLAN_STEP = 1
"""A step for `unwind.walk`."""
PLAN_NO_MAPPING = 2
PLAN_TRAMPOLINE = 3
PLAN_NO_TABLE = 4
PLAN_NO_ROW = 5
PLAN_OVERFLOW = 6
PLAN_END = 7

_FACTOR = 0x9E3779B1
_KEPT = 0x7FFFFFFF


@hot_loop
def place_slot(pc: int, key: int, mask: int) -> int:
    """Where the search for a place begins in the hash, whose size is `mask` + 1."""
    # Bits are dropped first, so that the product stays in range.
    return (((pc ^ (pc >> 31) ^ (key << 12)) & _KEPT) * _FACTOR >> 24) & mask


@hot_loop
def find_place(places: FlatArray, slots: FlatArray, pc: int, key: int) -> int:
    """The number of the place of this key, or -1 less the free slot where it belongs.

    `slots` int32, a power of two of them, never full: 1 more than a place's number, 0 where free.
    """
    mask = len(slots) - 1
    slot = place_slot(pc, key, mask)
    while True:
        number = item(slots, slot)
        if number == 0:
            return -1 - slot
        at = (number - 1) * PLACE_WIDTH
        if item(places, at + PLACE_PC) == pc and item(places, at + PLACE_KEY) == key:
            return number - 1
        slot = (slot + 1) & mask


@hot_loop
def refill_slots(places: FlatArray, count: int, slots: FlatArray) -> None:
    """Enter `count` places into `slots`, which are all free."""
    for place in range(count):
        at = place * PLACE_WIDTH
        slots[-1 - find_place(places, slots, item(places, at), item(places, at + PLACE_KEY))] = place + 1


@hot_loop
def _follow_plan(arena: FlatArray, table: int, rule: int, places: FlatArray, at: int) -> int:
    """Unpack a rule into the place at `at`: PLAN_FOLLOW, or PLAN_STEP for a rule that says more than a place holds."""
    if arena[rule] + 0 != CFA_KIND_REGISTER_OFFSET or arena[rule + RULE_CFA_REGISTER] + 0 >= REGISTER_COUNT:
        return PLAN_STEP
    places[at + PLACE_CFA_REGISTER] = arena[rule + RULE_CFA_REGISTER]
    places[at + PLACE_CFA_OFFSET] = read_i32(arena, rule + RULE_CFA_VALUE)
    entries = register_list(arena, table, rule)
    saved = 0
    returns = 0
    for index in range(arena[entries] + 0):
        entry = read_i32(arena, entries + 4 + 4 * index)
        register = entry & 63
        kind = (entry >> 6) & 7
        if register > RETURN_ADDRESS:
            continue
        if register == RETURN_ADDRESS and kind == REGISTER_KIND_AT_CFA:
            places[at + PLACE_RETURN_OFFSET] = entry >> 9
            returns += 1
            continue
        if register == RETURN_ADDRESS or (CALLEE_SAVED >> register) & 1 == 0:
            return PLAN_STEP
        if kind == REGISTER_KIND_SAME:
            continue
        if kind != REGISTER_KIND_AT_CFA or saved == _MOST_SAVED:
            return PLAN_STEP
        places[at + PLACE_WORDS + saved] = (entry >> 9) * 32 + register
        saved += 1
    places[at + PLACE_SAVED] = saved
    return PLAN_FOLLOW if returns == 1 else PLAN_STEP


@hot_loop
def fill_place(
    arena: FlatArray,
    mappings: FlatArray,
    mapping_modules: FlatArray,
    mapping: int,
    pc: int,
    key: int,
    places: FlatArray,
    place: int,
) -> None:
    """Write what is known of `pc`, which lies in `mapping` (-1: in none), to the row of `place`."""
    at = place * PLACE_WIDTH
    exact = key & 1
    for column in range(at, at + PLACE_WIDTH):
        places[column] = 0
    places[at + PLACE_PC] = pc
    places[at + PLACE_KEY] = key
    places[at + PLACE_FLAGS] = FRAME_EXACT if exact else 0
    places[at + PLACE_MODULE] = -1
    bias = 0
    behind = 1 - exact
    plan = PLAN_NO_MAPPING
    if mapping >= 0:
        places[at + PLACE_MODULE] = mapping_modules[mapping]
        bias = mappings[mapping * MAPPING_WIDTH + MAPPING_BIAS] + 0
        table = mappings[mapping * MAPPING_WIDTH + MAPPING_TABLE] + 0
        if table < 0:
            plan = PLAN_TRAMPOLINE if table == TRAMPOLINE else PLAN_NO_TABLE
        else:
            rule = find_rule(arena, table, pc - bias - behind)
            if rule < 0:
                plan = PLAN_NO_ROW
            else:
                signal = arena[register_list(arena, table, rule) + 1] & RULE_FLAG_SIGNAL_FRAME
                if signal:
                    places[at + PLACE_FLAGS] |= FRAME_SIGNAL
                    behind = 0
                kind = arena[rule] + 0
                if kind == CFA_KIND_OVERFLOW:
                    plan = PLAN_OVERFLOW
                elif kind == CFA_KIND_END:
                    plan = PLAN_END
                else:
                    plan = PLAN_STEP if signal else _follow_plan(arena, table, rule, places, at)
    places[at + PLACE_LOOKUP] = pc - bias - behind
    places[at + PLACE_PLAN] = plan
