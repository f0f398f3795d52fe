"""The rules of a section's pool: as values for those who ask, and straight to a table's records, as hot loops.

Owns the way from the rule pool's words to rule records that makes no value of a rule. It is taken by tables with one
source of rules; `rule_record` has the way by values, which merges rules of several sources, and the rare cases: both
give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.architecture import MAXIMUM_REGISTERS
from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import (
    CFA_KIND_DEREF,
    CFA_KIND_EXPRESSION,
    MAXIMUM_LIST_WORDS,
    REGISTER_KIND_EXPRESSION,
    REGISTER_KIND_VAL_EXPRESSION,
)
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
from cfi_tables.rule_record import EncodedRules, Rule, dereferenced, encode_rules, rules_of_pool
from cfi_tables.scalars import item, read_u8

_VALUE_LIMIT = 1 << 22  # of an entry in a register list
_LENGTH_LIMIT = 0xFFFF  # of an expression
_SHORT_SLEB = 64  # numbers from minus this one up to it take one byte
_HASH_MASK = (1 << 40) - 1


@hot_loop
def _shortest_size(a: int, b: int) -> int:
    """Bytes of the shortest expression *(register + a) + b, with a in 16 bits and b in 15."""
    size = 3
    if a < -_SHORT_SLEB or a >= _SHORT_SLEB:
        size += 1
    if a < -_SHORT_SLEB * 128 or a >= _SHORT_SLEB * 128:
        size += 1
    if b:
        size += 2
        if b >= 1 << 7:
            size += 1
        if b >= 1 << 14:
            size += 1
    return size


@hot_loop
def are_plain(words: FlatArray, expressions: FlatArray, data: FlatArray, registers: int) -> int:
    """1 when every rule of the pool has a record of its own: all fit, and no two are written alike; else 0.

    Two expressions may mean the same dereference, but not two of the shortest form.
    """
    for rule in range(item(words, 0)):
        base = 1 + rule * RULE_WORDS
        if item(words, base + WORD_CFA_KIND) == CFA_KIND_EXPRESSION:
            place = 1 + item(words, base + WORD_CFA_VALUE) * EXPRESSION_WORDS
            length = item(expressions, place + 1)
            at = item(expressions, place)
            register, a, b = dereferenced(data, at, at + length, registers)
            if length > _LENGTH_LIMIT or (register >= 0 and length != _shortest_size(a, b)):
                return 0
        for entry in range(item(words, base + WORD_COUNT)):
            how = item(words, base + WORD_ENTRIES + 2 * entry) >> 8
            value = item(words, base + WORD_ENTRIES + 2 * entry + 1)
            if how == REGISTER_KIND_EXPRESSION or how == REGISTER_KIND_VAL_EXPRESSION:
                if item(expressions, 2 + value * EXPRESSION_WORDS) > _LENGTH_LIMIT:
                    return 0
            elif value < -_VALUE_LIMIT or value >= _VALUE_LIMIT:
                return 0
    return 1


@hot_loop
def _place_expression(
    number: int, expressions: FlatArray, data: FlatArray, pool: FlatArray, pool_size: int, places: FlatArray
) -> tuple[int, int]:
    """(where an expression lies in the table's pool, the pool's size then)."""
    if places[number] >= 0:
        return 0 + places[number], pool_size
    at = item(expressions, 1 + number * EXPRESSION_WORDS)
    length = item(expressions, 2 + number * EXPRESSION_WORDS)
    places[number] = pool_size
    pool[pool_size] = length & 255
    pool[pool_size + 1] = length >> 8
    for index in range(length):
        pool[pool_size + 2 + index] = read_u8(data, at + index)
    if length & 1:
        pool[pool_size + 2 + length] = 0
    return pool_size, pool_size + 2 + length + (length & 1)


@hot_loop
def _intern_list(lists: FlatArray, used: int, end: int, slots: FlatArray) -> int:
    """Where the register list that lies in `lists` from `used` to `end` lies; `used` when it is new."""
    value = 0
    for place in range(used, end):
        value = (value * 1000003 ^ item(lists, place)) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    while slots[slot]:
        other: int = slots[slot] - 1
        index = 0
        while used + index < end and lists[other + index] == lists[used + index]:
            index += 1
        if used + index == end:
            return other
        slot = (slot + 1) & mask
    slots[slot] = used + 1
    return used


@hot_loop
def write_records(
    words: FlatArray,
    expressions: FlatArray,
    data: FlatArray,
    registers: int,
    order: FlatArray,
    records: FlatArray,
    lists: FlatArray,
    slots: FlatArray,
    pool: FlatArray,
    places: FlatArray,
) -> tuple[int, int]:
    """Write what `encode_rules` gives for the rules in `order`; gives (words of lists, bytes of the pool).

    The rules are such as `are_plain` finds. (-1, 0) when the lists may have too many words, which `lists` has room
    for, as `pool` has for all expressions. `slots` (zeros, a power of two) is a hash table with room for the rules;
    `places` has -1 for each expression.
    """
    lists[0] = 0  # what rules without registers have in common comes first
    _intern_list(lists, 0, 1, slots)
    used = 1
    pool_size = 0
    for index in range(len(order)):
        base = 1 + item(order, index) * RULE_WORDS
        kind = item(words, base + WORD_CFA_KIND)
        register = item(words, base + WORD_CFA_REGISTER)
        value = item(words, base + WORD_CFA_VALUE)
        if kind == CFA_KIND_EXPRESSION:
            at = item(expressions, 1 + value * EXPRESSION_WORDS)
            length = item(expressions, 2 + value * EXPRESSION_WORDS)
            through, a, b = dereferenced(data, at, at + length, registers)
            if through >= 0:
                kind = CFA_KIND_DEREF
                register = through
                value = (a & 0xFFFF) | b << 16
            else:
                value, pool_size = _place_expression(value, expressions, data, pool, pool_size, places)
        count = item(words, base + WORD_COUNT)
        if used + 1 + count > MAXIMUM_LIST_WORDS:
            return -1, 0
        lists[used] = count | item(words, base + WORD_FLAGS) << 8
        for entry in range(count):
            packed = item(words, base + WORD_ENTRIES + 2 * entry)
            held = item(words, base + WORD_ENTRIES + 2 * entry + 1)
            how = packed >> 8
            if how == REGISTER_KIND_EXPRESSION or how == REGISTER_KIND_VAL_EXPRESSION:
                held, pool_size = _place_expression(held, expressions, data, pool, pool_size, places)
            lists[used + 1 + entry] = (packed & 255) | how << 6 | (held << 9 & 0xFFFFFFFF)
        number = _intern_list(lists, used, used + 1 + count, slots)
        if number == used:
            used += 1 + count
        records[2 * index] = kind | register << 8 | number << 16
        records[2 * index + 1] = value & 0xFFFFFFFF
    return used, pool_size


class PooledRules(Sequence[Rule]):
    """The rules of a pool by id. Their values are made when one is asked for; the pool must still be there then."""

    def __init__(
        self,
        words: NDArray[np.int64],
        expressions: NDArray[np.int64],
        data: NDArray[np.uint8],
        registers: int,
        use_compiled: bool,
    ) -> None:
        """`data` is the section that expressions lie in, `registers` how many the architecture's rules hold."""
        self._pool = (words, expressions, data, registers)
        self._use_compiled = use_compiled
        self._count = int(words[0])
        self._values: list[Rule] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Rule: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Rule]: ...
    def __getitem__(self, index: int | slice) -> Rule | Sequence[Rule]:
        return self.values[index]

    @property
    def values(self) -> list[Rule]:
        """All of them as values."""
        if self._values is None:
            self._values = rules_of_pool(*self._pool)
        return self._values

    @property
    def are_plain(self) -> bool:
        """Whether they are distinct, and `encode` writes them without making values of them."""
        return bool(run_hot(are_plain, self._use_compiled, *self._pool))

    def encode(self, order: NDArray[np.int64]) -> EncodedRules:
        """What `encode_rules` gives for the rules in `order`, all of which are plain."""
        words, expressions, data, registers = self._pool
        lengths = expressions[2 : 1 + int(expressions[0]) * EXPRESSION_WORDS : EXPRESSION_WORDS]
        room = int(lengths.sum()) + 3 * len(lengths)
        if room <= _VALUE_LIMIT:
            records = np.empty(2 * len(order), dtype=np.int64)
            lists = np.empty(min((1 + MAXIMUM_REGISTERS) * len(order), layout.MAXIMUM_LIST_WORDS) + 1, dtype=np.int64)
            pool = np.empty(room, dtype=np.uint8)
            used, pool_size = run_hot(
                write_records, self._use_compiled, words, expressions, data, registers, order, records, lists,
                np.zeros(2 << (len(order) + 1).bit_length(), dtype=np.int64), pool,
                np.full(len(lengths), -1, dtype=np.int64),
            )  # fmt: skip
            if used >= 0:
                return records.astype(np.uint32), lists[:used].astype(np.uint32), pool[:pool_size].tobytes()
        return encode_rules([self.values[number] for number in order.tolist()])
