"""Which of a rule's successors get a place in its code.

Owns the estimate of what a code costs, its table and the rows with it. Data comes from the counts of `row_steps`; it
goes to `row_codes`. Costs are whole numbers (65536ths of a bit), so that every machine makes the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import MAXIMUM_RULE_WORDS, RULE_SIZE
from cfi_tables.row_steps import PAIR_LIMIT
from cfi_tables.scalars import item

_Integers = NDArray[np.int64]

_MAXIMUM_BITS = 10
"""Of a rule's successors; the layout has room for 15."""
_SPARE_BITS = 3
"""A table of successors is tried up to so many times the size that holds all of them."""
RECORD_WORDS = RULE_SIZE // 4

_FRACTION = 16
"""Bits behind the point of a cost."""
_LOGARITHMS = 1 << 12
_COUNT_LIMIT = 1 << 32
_MOVES = 32
"""Steps for each pair after which sorting by steps is given up: those that come early are frequent."""


@cache
def _logarithms() -> _Integers:
    """Of the numbers below _LOGARITHMS, to base 2, with _FRACTION bits; 0 for 0."""
    values = np.arange(_LOGARITHMS, dtype=np.float64)
    values[0] = 1
    logarithms: _Integers = np.rint(np.log2(values) * (1 << _FRACTION)).astype(np.int64)
    return logarithms


@hot_loop
def _logarithm(value: int, logarithms: FlatArray) -> int:
    """The logarithm of `value`, at least 1, of a large one within a thousandth of a bit."""
    whole = 0
    while value >= _LOGARITHMS:
        value >>= 1
        whole += 1 << _FRACTION
    return whole + item(logarithms, value)


@hot_loop
def _frequent(counts: FlatArray, first: int, end: int, room: int, weight: int) -> int:
    """The end of those of the falling counts whose share of `room` places is more than one, of `weight` in all."""
    while first < end and item(counts, first) * room > weight:
        first += 1
    return first


@hot_loop
def _code_cost(
    counts: FlatArray,
    logs: FlatArray,
    first: int,
    end: int,
    escaped: int,
    total: int,
    bits: int,
    logarithms: FlatArray,
) -> int:
    """About what the best code takes of the symbols from `first` to `end`, and an escape, with lengths up to `bits`.

    The counts fall, `escaped` (0: no escape) is that of the escape. Symbols that are too rare for the limit take more
    room than is theirs, and the others share what is left.
    """
    symbols = end - first + (1 if escaped else 0)
    if symbols < 2:
        return 0
    room = 1 << bits
    weight = total
    middle = first
    shares = 0
    for _ in range(2):
        shares = 1 if escaped * room > weight else 0
        middle = _frequent(counts, first, end, room, weight)
        weight = escaped * shares
        for symbol in range(first, middle):
            weight += item(counts, symbol)
        least = total >> bits
        if weight <= least:
            weight = least + 1
        room = (1 << bits) - (symbols - shares - (middle - first))
        if room < 1:
            room = 1
    longest = bits << _FRACTION
    full = longest + _logarithm(weight, logarithms) - _logarithm(room, logarithms)
    one = 1 << _FRACTION
    cost = 0
    covered = 0
    for symbol in range(first, middle):
        length = full - item(logs, symbol)
        if length > longest:
            length = longest
        if length < one:
            length = one
        cost += item(counts, symbol) * length
        covered += item(counts, symbol)
    if shares:
        length = full - _logarithm(escaped, logarithms)
        if length > longest:
            length = longest
        if length < one:
            length = one
        cost += escaped * length
        covered += escaped
    return cost + (total - covered) * (longest if bits else one)


@hot_loop
def group_successors(
    contexts: FlatArray, counts: FlatArray, firsts: FlatArray, placeable: FlatArray, ends: FlatArray, order: FlatArray
) -> bool:
    """Fill `order` with the pairs of each rule behind one another; False when this would take too long.

    Rule r, the first one of these pairs, has those from `firsts[r]` up to `firsts[r + 1]`; the first `placeable[r]` of
    them, by falling counts, are among the first PAIR_LIMIT pairs. `firsts`, with one more item than there are rules,
    and `placeable` are zeros; `ends` is scratch.
    """
    for pair in range(len(contexts)):
        rule = item(contexts, pair)
        firsts[rule + 1] = item(firsts, rule + 1) + 1
        if pair < PAIR_LIMIT:
            placeable[rule] = item(placeable, rule) + 1
    for rule in range(len(placeable)):
        ends[rule] = item(firsts, rule)
        firsts[rule + 1] = item(firsts, rule + 1) + item(firsts, rule)
    moves = _MOVES * len(contexts)
    for pair in range(len(contexts)):
        rule = item(contexts, pair)
        count = item(counts, pair)
        place = item(ends, rule)
        ends[rule] = place + 1
        first = item(firsts, rule)
        if pair >= PAIR_LIMIT:
            first += item(placeable, rule)
        while place > first and item(counts, item(order, place - 1)) < count:
            order[place] = item(order, place - 1)
            place -= 1
            moves -= 1
            if moves < 0:
                return False
        order[place] = pair
    return True


@hot_loop
def rate_sizes(
    order: FlatArray,
    pair_counts: FlatArray,
    firsts: FlatArray,
    placeable: FlatArray,
    counts: FlatArray,
    logs: FlatArray,
    rule_bits: int,
    logarithms: FlatArray,
    best_bits: FlatArray,
    best_kept: FlatArray,
) -> None:
    """For each rule the best size of its code, in bits, and how many of its successors are kept.

    Rule r has the successors `firsts[r]` up to `firsts[r + 1]` of `order`; the first `placeable[r]` of them, whose
    counts fall, may have a place. `counts` gets the counts in that order, `logs` their logarithms.
    """
    for symbol in range(len(counts)):
        count = item(pair_counts, item(order, symbol))
        counts[symbol] = count
        logs[symbol] = _logarithm(count, logarithms)
    for rule in range(len(placeable)):
        first = 0 + firsts[rule]
        number = firsts[rule + 1] - first
        limit = 0 + placeable[rule]
        total = 0
        for symbol in range(first, first + number):
            total += counts[symbol]
        best = (total * rule_bits + 32) << _FRACTION
        for bits in range(_MAXIMUM_BITS + 1):
            size = 1 << bits
            # A larger table gains nothing, or takes more by itself.
            if number << _SPARE_BITS <= size or (32 * size) << _FRACTION >= best:
                break
            all_fit = number <= size and number == limit
            tried = 0
            for way in range(2):
                if all_fit and way == 0:
                    kept = number
                elif way == 0:
                    kept = size - 1
                else:
                    kept = 0  # the likely ones
                    while kept < number and 10 * counts[first + kept] * size >= 7 * total:
                        kept += 1
                if not (all_fit and kept >= number):
                    kept = min(kept, size - 1, limit)
                if kept == 0 or kept == tried:
                    continue
                tried = kept
                escaped = total
                for symbol in range(first, first + kept):
                    escaped -= counts[symbol]
                cost = _code_cost(counts, logs, first, first + kept, escaped, total, bits, logarithms)
                cost += (escaped * rule_bits + 32 * size) << _FRACTION
                if cost < best:
                    best = cost
                    best_bits[rule] = bits
                    best_kept[rule] = kept


@hot_loop
def mark_kept(successors: FlatArray, firsts: FlatArray, bits: FlatArray, kept: FlatArray, marks: FlatArray) -> None:
    """Mark the first successors of each rule, as many as are kept, with 1.

    None are kept of the rules whose codes the table has no room for.
    """
    words = 1
    for rule in range(len(kept)):
        words += RECORD_WORDS + (1 << item(bits, rule))
        if words > MAXIMUM_RULE_WORDS - (RECORD_WORDS + 1) * len(kept):
            bits[rule] = 0
            kept[rule] = 0
        first = item(firsts, rule)
        for place in range(first, first + item(kept, rule)):
            marks[item(successors, place)] = 1


@dataclass(frozen=True, slots=True)
class Successors:
    """Which pairs (of a rule and a successor) have a place in the first one's code."""

    bits: _Integers
    """Of each rule's code."""
    pairs: _Integers
    """Those of each rule behind one another, the ones with a place first and those by falling counts."""
    firsts: _Integers
    """Where those of each rule begin, and their number."""
    kept: _Integers
    """How many of each rule have a place."""
    has_place: NDArray[np.bool_]
    """Of each pair."""


def choose_successors(
    contexts: _Integers, counts: _Integers, rule_count: int, rule_bits: int, use_compiled: bool
) -> Successors:
    """Which of the successors of each rule have a place, those of the rules `contexts` that occur so often."""
    firsts, order = np.zeros(rule_count + 1, dtype=np.int64), np.empty(len(counts), dtype=np.int64)
    placeable, ends, best_bits, best_kept = np.zeros((4, rule_count), dtype=np.int64)
    if not run_hot(group_successors, use_compiled, contexts, counts, firsts, placeable, ends, order):
        rare = np.arange(len(counts)) >= PAIR_LIMIT
        order = np.argsort((2 * contexts + rare + 1) * _COUNT_LIMIT - counts, kind="stable")
    run_hot(
        rate_sizes, use_compiled, order, counts, firsts, placeable, *(np.empty_like(order) for _ in range(2)),
        rule_bits, _logarithms(), best_bits, best_kept,
    )  # fmt: skip
    has_place = np.zeros(len(counts), dtype=np.uint8)
    run_hot(mark_kept, use_compiled, order, firsts, best_bits, best_kept, has_place)
    return Successors(best_bits, order, firsts, best_kept, has_place.view(np.bool_))
