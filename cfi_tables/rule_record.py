"""Distinct rules as values, and their records in a table.

Owns the step from the rule pool's words to the table's rule records and expression pool. A CFA expression of the
forms that compilers use for realigned stacks becomes a DEREF rule, which needs no expression evaluator.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.rule_pool import (
    EXPRESSION_WORDS,
    RULE_WORDS,
    WORD_CFA_KIND,
    WORD_CFA_REGISTER,
    WORD_CFA_VALUE,
    WORD_COUNT,
    WORD_ENTRIES,
    WORD_FLAGS,
)
from cfi_tables.scalars import read_sleb, read_uleb

_EXPRESSION_KINDS = (layout.REGISTER_KIND_EXPRESSION, layout.REGISTER_KIND_VAL_EXPRESSION)
_VALUE_LIMIT = 1 << 22  # of an entry in a register list
_OP_DEREF = 0x06
_OP_PLUS_UCONST = 0x23
_OP_BREG0 = 0x70


@dataclass(frozen=True, slots=True)
class Rule:
    """How to find the caller's registers; equal rules are equal whatever section they come from."""

    cfa_kind: int
    cfa_register: int = 0
    flags: int = 0
    cfa_a: int | bytes = 0
    """The expression's bytes when the kind is EXPRESSION."""
    cfa_b: int = 0
    entries: tuple[tuple[int, int, int | bytes], ...] = ()
    """(register, REGISTER_KIND, value, or the expression's bytes), sorted by register."""


INVALID = Rule(layout.CFA_KIND_INVALID)
OVERFLOW = Rule(layout.CFA_KIND_OVERFLOW)


def pooled_rules(
    words: NDArray[np.int64], expressions: NDArray[np.int64], data: NDArray[np.uint8], registers: int
) -> list[Rule]:
    """The rules of a pool, by id; `data` is the section whose expressions they refer to.

    `registers` is how many the architecture's rules hold.
    """

    def expression(number: int) -> bytes:
        place = 1 + number * EXPRESSION_WORDS
        start, length = int(expressions[place]), int(expressions[place + 1])
        return data[start : start + length].tobytes()

    rules = []
    for number in range(int(words[0])):
        word = words[1 + number * RULE_WORDS : 1 + (number + 1) * RULE_WORDS].tolist()
        pairs = word[WORD_ENTRIES : WORD_ENTRIES + 2 * word[WORD_COUNT]]
        entries: list[tuple[int, int, int | bytes]] = []
        for packed, value in zip(pairs[::2], pairs[1::2], strict=True):
            kind = packed >> 8
            entries.append((packed & 255, kind, expression(value) if kind in _EXPRESSION_KINDS else value))
        kind, a, b = word[WORD_CFA_KIND], word[WORD_CFA_VALUE], 0
        register = word[WORD_CFA_REGISTER]
        if kind == layout.CFA_KIND_EXPRESSION:
            a = expression(a)
            simple = dereference(a, registers)
            if simple is not None:
                kind = layout.CFA_KIND_DEREF
                register, a, b = simple
        rule = Rule(kind, register, word[WORD_FLAGS], a, b, tuple(entries))
        rules.append(rule if _fits(rule) else OVERFLOW)
    return rules


def dereference(expression: bytes, registers: int) -> tuple[int, int, int] | None:
    """(register, a, b) when the expression is *(register + a) + b: breg, deref, and perhaps plus_uconst.

    None also when a number does not fit the 16 bits that it has in a rule: then the expression is kept.
    """
    if not expression or not _OP_BREG0 <= expression[0] < _OP_BREG0 + registers:
        return None
    a, at = read_sleb(expression, 1, len(expression))
    if at < 0 or at >= len(expression) or expression[at] != _OP_DEREF:
        return None
    at += 1
    b = 0
    if at < len(expression):
        if expression[at] != _OP_PLUS_UCONST:
            return None
        b, at = read_uleb(expression, at + 1, len(expression))
    if at != len(expression) or not -(1 << 15) <= a < 1 << 15 or b >= 1 << 15:
        return None
    return expression[0] - _OP_BREG0, a, b


def _fits(rule: Rule) -> bool:
    """Whether every expression's length fits its 16 bits, and every register's value its 23."""
    values = [value for _, _, value in rule.entries]
    return all(len(value) <= 0xFFFF for value in [rule.cfa_a, *values] if isinstance(value, bytes)) and all(
        -_VALUE_LIMIT <= value < _VALUE_LIMIT for value in values if isinstance(value, int)
    )


def encode_rules(rules: list[Rule]) -> tuple[NDArray[np.uint32], NDArray[np.uint32], bytes]:
    """(records, two words a rule; register lists; expression pool).

    A rule for which there is no room in the lists or the pool is written as OVERFLOW.
    """
    pool = bytearray()
    places: dict[bytes, int] = {}
    lists: list[int] = []
    list_places: dict[tuple[int, ...], int] = {}

    def place(value: int | bytes) -> int:
        if isinstance(value, int):
            return value
        if value not in places:
            places[value] = len(pool)
            pool.extend(struct.pack("<H", len(value)) + value + bytes(len(value) & 1))
        return places[value]

    def place_list(rule: Rule) -> int:
        words = [len(rule.entries) | rule.flags << 8]
        words += [register | kind << 6 | (place(value) << 9 & 0xFFFFFFFF) for register, kind, value in rule.entries]
        key = tuple(words)
        if key not in list_places:
            list_places[key] = len(lists)
            lists.extend(words)
        return list_places[key]

    none = place_list(OVERFLOW)
    records = bytearray()
    for rule in rules:
        value = place(rule.cfa_a)
        if rule.cfa_kind == layout.CFA_KIND_DEREF:
            value = value & 0xFFFF | rule.cfa_b << 16
        number = place_list(rule)
        if number >= layout.MAXIMUM_LIST_WORDS or len(pool) > _VALUE_LIMIT:
            rule, value, number = OVERFLOW, 0, none
        records += struct.pack("<BBHi", rule.cfa_kind, rule.cfa_register, number, value)
    return np.frombuffer(bytes(records), dtype="<u4"), np.array(lists, dtype=np.uint32), bytes(pool)
