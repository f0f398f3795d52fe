"""Distinct rules as values, and their records in a table.

Owns the step from the rule pool's words to the table's rule records and expression pool. A CFA expression of the
forms that compilers use for realigned stacks becomes a DEREF rule, which needs no expression evaluator.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.rule_pool import (
    EXPRESSION_WORDS,
    RULE_WORDS,
    WORD_COUNT,
    WORD_ENTRIES,
)
from cfi_tables.scalars import read_sleb, read_uleb

_EXPRESSION_KINDS = (layout.REGISTER_KIND_EXPRESSION, layout.REGISTER_KIND_VAL_EXPRESSION)
_VALUE_LIMIT = 1 << 22  # of an entry in a register list
_OP_DEREF = 0x06
_OP_PLUS_UCONST = 0x23
_OP_BREG0 = 0x70


class Rule(NamedTuple):
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

    count = int(words[0])
    table = words[1 : 1 + count * RULE_WORDS].reshape(count, RULE_WORDS)
    used = WORD_ENTRIES + 2 * int(table[:, WORD_COUNT].max(initial=0))
    width = 8 * (used - WORD_ENTRIES)
    lists = table[:, WORD_ENTRIES:used].tobytes()
    kinds, bases, flags, values, numbers = table[:, :WORD_ENTRIES].T.tolist()
    keys = [lists[index * width : index * width + 16 * number] for index, number in enumerate(numbers)]
    # Far fewer ways to find registers than rules: most rules differ only in the CFA.
    known: dict[bytes, tuple[tuple[int, int, int | bytes], ...] | None] = {}
    for key in set(keys):
        entries = tuple(
            (packed & 255, packed >> 8, expression(value) if packed >> 8 in _EXPRESSION_KINDS else value)
            for packed, value in np.frombuffer(key, dtype=np.int64).reshape(-1, 2).tolist()
        )
        known[key] = entries if _fit(value for _, _, value in entries) else None
    rules = list(map(Rule, kinds, bases, flags, values, repeat(0), [known[key] or () for key in keys]))
    for index, kind in enumerate(kinds):
        if kind == layout.CFA_KIND_EXPRESSION:
            rules[index] = _expression_rule(rules[index], expression(values[index]), registers)
        if known[keys[index]] is None:
            rules[index] = OVERFLOW
    return rules


def _expression_rule(rule: Rule, expression: bytes, registers: int) -> Rule:
    """`rule` with the CFA that an expression gives."""
    simple = dereference(expression, registers)
    if simple is not None:
        register, a, b = simple
        return rule._replace(cfa_kind=layout.CFA_KIND_DEREF, cfa_register=register, cfa_a=a, cfa_b=b)
    return rule._replace(cfa_a=expression) if _fit((expression,)) else OVERFLOW


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


def _fit(values: Iterable[int | bytes]) -> bool:
    """Whether every expression's length fits its 16 bits, and every register's value its 23."""
    return all(
        len(value) <= 0xFFFF if isinstance(value, bytes) else -_VALUE_LIMIT <= value < _VALUE_LIMIT for value in values
    )


def encode_rules(rules: list[Rule]) -> tuple[NDArray[np.uint32], NDArray[np.uint32], bytes]:
    """(records, two words a rule; register lists; expression pool).

    A rule for which there is no room in the lists or the pool is written as OVERFLOW.
    """
    pool = bytearray()
    places: dict[bytes, int] = {}
    lists: list[int] = []
    list_places: dict[tuple[Any, ...], int] = {}

    def place(value: int | bytes) -> int:
        if isinstance(value, int):
            return value
        if value not in places:
            places[value] = len(pool)
            pool.extend(struct.pack("<H", len(value)) + value + bytes(len(value) & 1))
        return places[value]

    def place_list(rule: Rule) -> int:
        key = (rule.flags, rule.entries)
        number = list_places.get(key)
        if number is None:
            number = list_places[key] = len(lists)
            lists.append(len(rule.entries) | rule.flags << 8)
            lists.extend(
                register | kind << 6 | (place(value) << 9 & 0xFFFFFFFF) for register, kind, value in rule.entries
            )
        return number

    none = place_list(OVERFLOW)
    records: list[int] = []
    known: dict[tuple[int, int], int] = {}  # most rules share the very tuple of entries with others
    for rule in rules:
        kind, register, flags, a, b, entries = rule
        value = a if isinstance(a, int) else place(a)
        if kind == layout.CFA_KIND_DEREF:
            value = value & 0xFFFF | b << 16
        key = (id(entries), flags)
        number = known.get(key, -1)
        if number < 0:
            number = known[key] = place_list(rule)
        if number >= layout.MAXIMUM_LIST_WORDS or len(pool) > _VALUE_LIMIT:
            kind, register, value, number = OVERFLOW.cfa_kind, 0, 0, none
        records += (kind | register << 8 | number << 16, value & 0xFFFFFFFF)
    return np.array(records, dtype=np.uint32), np.array(lists, dtype=np.uint32), bytes(pool)
