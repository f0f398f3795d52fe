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
def rate_sizes(
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

    Rule r has the successors `firsts[r]` up to `firsts[r + 1]`; the first `placeable[r]` of them, whose counts fall,
    may have a place. `logs` gets the logarithms of the counts.
    """
    for symbol in range(len(counts)):
        logs[symbol] = _logarithm(0 + counts[symbol], logarithms)
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
            if number << _SPARE_BITS <= size:  # a larger table gains nothing
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
def mark_kept(successors: FlatArray, firsts: FlatArray, kept: FlatArray, marks: FlatArray) -> None:
    """Mark the first successors of each rule, as many as are kept, with 1."""
    for rule in range(len(kept)):
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
    rare = np.arange(len(counts)) >= PAIR_LIMIT
    order = np.argsort((2 * contexts + rare + 1) * _COUNT_LIMIT - counts, kind="stable")
    number = np.bincount(contexts, minlength=rule_count)
    placeable = number if len(counts) <= PAIR_LIMIT else np.bincount(contexts[:PAIR_LIMIT], minlength=rule_count)
    firsts = np.zeros(rule_count + 1, dtype=np.int64)
    np.cumsum(number, out=firsts[1:])
    best_bits, best_kept = np.zeros(rule_count, dtype=np.int64), np.zeros(rule_count, dtype=np.int64)
    run_hot(
        rate_sizes, use_compiled, firsts, placeable, counts[order], np.empty(len(order), dtype=np.int64), rule_bits,
        _logarithms(), best_bits, best_kept,
    )  # fmt: skip
    words = 1 + np.cumsum(RECORD_WORDS + (1 << best_bits))
    beyond = words > MAXIMUM_RULE_WORDS - (RECORD_WORDS + 1) * rule_count
    best_bits[beyond] = best_kept[beyond] = 0
    has_place = np.zeros(len(counts), dtype=np.uint8)
    run_hot(mark_kept, use_compiled, order, firsts, best_kept, has_place)
    return Successors(best_bits, order, firsts, best_kept, has_place.view(np.bool_))
