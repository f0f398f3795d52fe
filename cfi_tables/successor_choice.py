"""Which of a rule's successors get a place in its code.

Owns the estimate of what a code costs, its table and the rows with it. Data comes from the counts of `row_steps`; it
goes to `row_codes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.layout import MAXIMUM_RULE_WORDS, RULE_SIZE
from cfi_tables.row_steps import PAIR_LIMIT

_Integers = NDArray[np.int64]

_MAXIMUM_BITS = 10
"""Of a rule's successors; the layout has room for 15."""
_SPARE_BITS = 3
"""A table of successors is tried up to so many times the size that holds all of them."""
RECORD_WORDS = RULE_SIZE // 4


def choose_successors(
    contexts: _Integers, counts: _Integers, rule_count: int, rule_bits: int
) -> tuple[_Integers, NDArray[np.bool_]]:
    """(bits of each rule's successors, whether each pair has a place among them).

    For every size the cost in bits, of the table and of the rows with it, is estimated for all rules at once.
    """
    countable = np.arange(len(counts)) < PAIR_LIMIT
    order = np.lexsort((-counts, ~countable, contexts))
    group, sorted_counts = contexts[order], counts[order]
    number = np.bincount(contexts, minlength=rule_count)
    placeable = np.bincount(contexts[countable], minlength=rule_count)
    total = np.bincount(contexts, counts, minlength=rule_count).astype(np.int64)
    rank = np.arange(len(order)) - (np.cumsum(number) - number)[group]
    share = sorted_counts / total[group]

    best_cost = total * float(rule_bits) + 32
    best_bits, best_kept = np.zeros(rule_count, dtype=np.int64), np.zeros(rule_count, dtype=np.int64)
    for bits in range(_MAXIMUM_BITS + 1):
        size = 1 << bits
        is_tried = number << _SPARE_BITS > size  # a larger table gains the others nothing
        tried = np.flatnonzero(is_tried)
        inside, place = is_tried[group], np.cumsum(is_tried) - 1
        cost, kept = _cost_of_size(
            bits, rule_bits, place[group[inside]], rank[inside], sorted_counts[inside], share[inside],
            number[tried], placeable[tried], total[tried],
        )  # fmt: skip
        better = cost < best_cost[tried]
        best_cost[tried] = np.where(better, cost, best_cost[tried])
        best_bits[tried] = np.where(better, bits, best_bits[tried])
        best_kept[tried] = np.where(better, kept, best_kept[tried])
    words = 1 + np.cumsum(RECORD_WORDS + (1 << best_bits))
    beyond = words > MAXIMUM_RULE_WORDS - (RECORD_WORDS + 1) * rule_count
    best_bits[beyond] = best_kept[beyond] = 0
    keep = np.zeros(len(counts), dtype=np.bool_)
    keep[order] = rank < best_kept[group]
    return best_bits, keep


def _cost_of_size(
    bits: int,
    rule_bits: int,
    group: _Integers,
    rank: _Integers,
    counts: _Integers,
    share: NDArray[np.float64],
    number: _Integers,
    placeable: _Integers,
    total: _Integers,
) -> tuple[NDArray[np.float64], _Integers]:
    """(cost, how many successors are kept) of each rule, with 2**`bits` places for successors.

    The first four arrays tell the pairs, with falling counts in each rule (`group`); the others the rules.
    """
    size = 1 << bits
    rules = len(number)
    groups = np.concatenate([group, np.arange(rules)])  # of the pairs, and of an escape for each rule
    all_fit = (number <= size) & (number == placeable)
    likely = np.bincount(group, share * size >= 0.7, minlength=rules).astype(np.int64)
    best_cost = np.full(rules, np.inf)
    best_kept = np.zeros(rules, dtype=np.int64)
    for kept in (np.where(all_fit, number, size - 1), np.where(likely >= number, number, likely)):
        kept = np.where(all_fit & (kept >= number), number, np.minimum(np.minimum(kept, size - 1), placeable))
        inside = counts * (rank < kept[group])
        rest = total - np.bincount(group, inside, minlength=rules)
        cost = _code_cost(np.concatenate([inside, rest]), groups, total, bits) + rest * rule_bits + 32.0 * size
        better = (cost < best_cost) & (kept > 0)
        best_cost = np.where(better, cost, best_cost)
        best_kept = np.where(better, kept, best_kept)
    return best_cost, best_kept


def _code_cost(symbols: _Integers, groups: _Integers, totals: _Integers, limit: int) -> NDArray[np.float64]:
    """About how many bits the best code of each group's symbols takes, of lengths up to `limit`.

    `symbols` has their counts, zero for what is no symbol. Those that are too rare for the limit take more room than
    is theirs, and the others share what is left.
    """
    size = 1 << limit
    share = symbols / np.maximum(totals, 1)[groups]
    scale = np.ones(len(totals))
    for _ in range(2):
        frequent = share * scale[groups] * size > 1
        rare = np.bincount(groups, (symbols > 0) & ~frequent, minlength=len(totals))
        room = np.maximum(1 - rare / size, 1 / size)
        scale = room / np.maximum(np.bincount(groups, share * frequent, minlength=len(totals)), 1 / size)
    lengths = np.where(frequent, -np.log2(np.maximum(share * scale[groups], 1 / size)), limit)
    several = np.bincount(groups, symbols > 0, minlength=len(totals)) > 1
    costs = np.bincount(groups, symbols * np.maximum(lengths, 1) * several[groups], len(totals))
    return costs.astype(np.float64)
