"""Distinct unwind rules and DWARF expressions, found once each while rows are made, as hot loops.

Owns the register state's layout and the two hash tables. Data comes from `cfi_program`; ids go back to it, and
`rule_record` writes each distinct rule into the table. Ids are in the order of first appearance, so the plain
and the compiled form give the same.
"""

from __future__ import annotations

from cfi_tables.architecture import MAXIMUM_REGISTERS
from cfi_tables.frame_section import (
    SECTION_REGISTERS,
    SECTION_RETURN_COLUMN,
    SECTION_SAME_MASK,
    SECTION_STACK_POINTER,
)
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_END,
    CFA_KIND_EXPRESSION,
    CFA_KIND_INVALID,
    CFA_KIND_OVERFLOW,
    REGISTER_KIND_EXPRESSION,
    REGISTER_KIND_IN_REGISTER,
    REGISTER_KIND_SAME,
    REGISTER_KIND_UNDEFINED,
    REGISTER_KIND_VAL_EXPRESSION,
    RULE_FLAG_RETURN_ADDRESS_SIGNED,
    RULE_FLAG_SIGNED_WITH_KEY_B,
)
from cfi_tables.scalars import fetch_ahead, item, put_item

UNSPECIFIED = 255
"""Register kind in the state only: the CFI says nothing, the ABI's default holds."""

# The state of a call frame program, an int64 array.
STATE_CFA_KIND = 0
STATE_CFA_REGISTER = 1
STATE_CFA_OFFSET = 2
STATE_CFA_EXPRESSION = 3
STATE_SIGNED = 4  # 1: the return address is signed (aarch64's RA_SIGN_STATE)
STATE_RETURN_COLUMN = 5  # the CIE's; hand-written code may return through another register than the ABI's
STATE_REGISTERS = 6  # a pair for each register: kind, value
STATE_MAXIMUM_SIZE = STATE_REGISTERS + 2 * MAXIMUM_REGISTERS

# A rule in the pool: RULE_WORDS int64 words a rule, the first word of the array is the count.
WORD_CFA_KIND = 0
WORD_CFA_REGISTER = 1
WORD_FLAGS = 2
WORD_CFA_VALUE = 3  # offset, or expression
WORD_COUNT = 4
WORD_ENTRIES = 5  # pairs: register | kind << 8, value
RULE_WORDS = WORD_ENTRIES + 2 * MAXIMUM_REGISTERS

RULE_INVALID = 0
RULE_END = 1
RULE_OVERFLOW = 2
FIRST_RULE = 3

# An expression in the pool: offset in its section, length; the first word of the array is the count.
EXPRESSION_WORDS = 2

_HASH_MASK = (1 << 40) - 1
_INT32 = 1 << 31

_AHEAD = 4
"""Rules before its turn that another pool's rule, which another processor wrote, is fetched."""
_FETCHED_WORDS = 24
_LINE_WORDS = 8
"""Words of a rule that are fetched, which nearly all have enough of, and those of a cache line."""


@hot_loop
def intern_expression(data: FlatArray, at: int, length: int, expressions: FlatArray, slots: FlatArray) -> int:
    """The number of the expression `data[at : at + length]`, a new one when its bytes are new; -1 when full."""
    value = length
    for index in range(length):
        value = (value * 1000003 ^ (0 + data[at + index])) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    count: int = expressions[0]
    while slots[slot]:
        number: int = slots[slot] - 1
        place = 1 + number * EXPRESSION_WORDS
        if expressions[place + 1] == length:
            other = expressions[place]
            index = 0
            while index < length and data[other + index] == data[at + index]:
                index += 1
            if index == length:
                return number
        slot = (slot + 1) & mask
    if 2 * count >= mask or (count + 1) * EXPRESSION_WORDS >= len(expressions):
        return -1
    slots[slot] = count + 1
    expressions[1 + count * EXPRESSION_WORDS] = at
    expressions[2 + count * EXPRESSION_WORDS] = length
    expressions[0] = count + 1
    return count


@hot_loop
def state_size(section: FlatArray) -> int:
    """Words of a state of the section's architecture."""
    registers: int = section[SECTION_REGISTERS]
    return STATE_REGISTERS + 2 * registers


@hot_loop
def _flags(state: FlatArray, flags: int) -> int:
    """The RULE_FLAGs of a row of a CIE with `flags`; which key signed says nothing where nothing is signed."""
    if state[STATE_SIGNED] == 0:
        return flags & ~RULE_FLAG_SIGNED_WITH_KEY_B
    return flags | RULE_FLAG_RETURN_ADDRESS_SIGNED


@hot_loop
def _fill_words(state: FlatArray, flags: int, section: FlatArray, rules: FlatArray, base: int) -> int:
    """Write the canonical words of the state's rule at `base`; gives RULE_INVALID, _END, _OVERFLOW or FIRST_RULE."""
    kind = state[STATE_CFA_KIND]
    registers = section[SECTION_REGISTERS]
    return_column = section[SECTION_RETURN_COLUMN]
    stack_pointer = section[SECTION_STACK_POINTER]
    same_mask = section[SECTION_SAME_MASK]
    returns_by = state[STATE_RETURN_COLUMN]
    if state[STATE_REGISTERS + 2 * returns_by] == REGISTER_KIND_UNDEFINED:
        return RULE_END
    if kind == CFA_KIND_INVALID:
        return RULE_INVALID
    register = state[STATE_CFA_REGISTER]
    value = state[STATE_CFA_OFFSET]
    if kind == CFA_KIND_EXPRESSION:
        register = 0
        value = state[STATE_CFA_EXPRESSION]
        if value < 0:
            return RULE_OVERFLOW
    if register >= registers or value < -_INT32 or value >= _INT32:
        return RULE_OVERFLOW
    rules[base + WORD_CFA_KIND] = kind
    rules[base + WORD_CFA_REGISTER] = register
    rules[base + WORD_FLAGS] = _flags(state, flags)
    rules[base + WORD_CFA_VALUE] = value
    count = 0
    for number in range(registers):
        how = state[STATE_REGISTERS + 2 * number]
        value = state[STATE_REGISTERS + 2 * number + 1]
        if number == return_column and returns_by != number:
            how = state[STATE_REGISTERS + 2 * returns_by]
            value = state[STATE_REGISTERS + 2 * returns_by + 1]
            if how == UNSPECIFIED or how == REGISTER_KIND_SAME:
                how = REGISTER_KIND_IN_REGISTER
                value = returns_by
        if how == UNSPECIFIED or (how == REGISTER_KIND_SAME and (same_mask >> number) & 1):
            continue
        if how == REGISTER_KIND_UNDEFINED and not (same_mask >> number) & 1 and number != stack_pointer:
            continue  # unknown is the default of the others, but not of the stack pointer
        if value < -_INT32 or value >= _INT32:
            return RULE_OVERFLOW
        if how == REGISTER_KIND_IN_REGISTER and value >= registers:
            if number == return_column:
                return RULE_OVERFLOW
            how = REGISTER_KIND_UNDEFINED  # kept in a register that no capture has
            value = 0
        if (how == REGISTER_KIND_EXPRESSION or how == REGISTER_KIND_VAL_EXPRESSION) and value < 0:
            return RULE_OVERFLOW
        rules[base + WORD_ENTRIES + 2 * count] = number | (how << 8)
        rules[base + WORD_ENTRIES + 2 * count + 1] = value
        count += 1
    rules[base + WORD_COUNT] = count
    return FIRST_RULE


@hot_loop
def _intern_words(rules: FlatArray, slots: FlatArray) -> int:
    """The id of the rule whose words lie behind the pool's, which takes them when it is new."""
    count: int = rules[0]
    base = 1 + count * RULE_WORDS
    size = WORD_ENTRIES + 2 * rules[base + WORD_COUNT]
    value = 0
    for index in range(size):
        value = (value * 1000003 ^ item(rules, base + index)) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    while slots[slot]:
        other = 1 + (slots[slot] - 1) * RULE_WORDS
        index = 0
        while index < size and item(rules, other + index) == item(rules, base + index):
            index += 1
        if index == size:
            found: int = slots[slot] - 1
            return found
        slot = (slot + 1) & mask
    slots[slot] = count + 1
    rules[0] = count + 1
    return count


@hot_loop
def intern_rule(state: FlatArray, flags: int, section: FlatArray, rules: FlatArray, slots: FlatArray) -> int:
    """The id of the rule that the state holds, a new one when it is new; RULE_OVERFLOW when the pool is full."""
    base = 1 + rules[0] * RULE_WORDS
    if base + RULE_WORDS > len(rules):
        return RULE_OVERFLOW
    special = _fill_words(state, flags, section, rules, base)
    if special < FIRST_RULE:
        return special
    return _intern_words(rules, slots)


@hot_loop
def _take_expression(
    data: FlatArray, number: int, other: FlatArray, expressions: FlatArray, expression_slots: FlatArray
) -> int:
    """The number of another pool's expression in this one; -1 when this one is full."""
    place = 1 + number * EXPRESSION_WORDS
    return intern_expression(data, 0 + other[place], 0 + other[place + 1], expressions, expression_slots)


@hot_loop
def merge_rules(
    data: FlatArray,
    other_rules: FlatArray,
    other_expressions: FlatArray,
    rules: FlatArray,
    slots: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    numbers: FlatArray,
) -> None:
    """Take another pool's rules into this one; `numbers` gets the id that each has here.

    Both are of the section `data`. What there is no room for becomes RULE_OVERFLOW.
    """
    for rule in range(FIRST_RULE):
        numbers[rule] = rule
    for rule in range(FIRST_RULE, other_rules[0]):
        source = 1 + rule * RULE_WORDS
        base = 1 + rules[0] * RULE_WORDS
        numbers[rule] = RULE_OVERFLOW
        if base + RULE_WORDS > len(rules):
            continue
        for word in range(0, _FETCHED_WORDS, _LINE_WORDS):
            fetch_ahead(other_rules, source + _AHEAD * RULE_WORDS + word)
        for index in range(WORD_ENTRIES + 2 * other_rules[source + WORD_COUNT]):
            put_item(rules, base + index, item(other_rules, source + index))
        full = 0
        if rules[base + WORD_CFA_KIND] == CFA_KIND_EXPRESSION:
            number = _take_expression(
                data, 0 + rules[base + WORD_CFA_VALUE], other_expressions, expressions, expression_slots
            )
            rules[base + WORD_CFA_VALUE] = number
            full |= number < 0
        for entry in range(rules[base + WORD_COUNT]):
            place = base + WORD_ENTRIES + 2 * entry
            how = rules[place] >> 8
            if how == REGISTER_KIND_EXPRESSION or how == REGISTER_KIND_VAL_EXPRESSION:
                number = _take_expression(data, 0 + rules[place + 1], other_expressions, expressions, expression_slots)
                rules[place + 1] = number
                full |= number < 0
        if not full:
            numbers[rule] = _intern_words(rules, slots)


def prepare_rules(rules: FlatArray) -> None:
    """Put the three rules that have no registers at their fixed ids."""
    rules[1 : 1 + FIRST_RULE * RULE_WORDS] = 0
    for number, kind in (
        (RULE_INVALID, CFA_KIND_INVALID),
        (RULE_END, CFA_KIND_END),
        (RULE_OVERFLOW, CFA_KIND_OVERFLOW),
    ):
        rules[1 + number * RULE_WORDS + WORD_CFA_KIND] = kind
    rules[0] = FIRST_RULE
