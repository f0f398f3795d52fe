"""How rows follow one another: counted, before codes are chosen.

Owns the tokens of address deltas, and the statistics of pairs, which are a rule and its predecessor. Data comes as
columns of addresses and rule ids, in parts at once; it goes to `row_codes`, and the steps to `rows.encode_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import BLOCK_ROWS, DELTA_ALIGNMENT
from cfi_tables.rows import PAIR_SHIFT
from cfi_tables.scalars import item
from cfi_tables.worker_threads import run_parts

_Integers = NDArray[np.int64]

ALIGNED_TOKEN = 0
"""The delta to the next multiple of DELTA_ALIGNMENT, where a function begins behind a gap."""
TOKENS: tuple[tuple[int, int], ...] = (
    (0, 0),
    *((base, 0) for base in range(1, 17)),
    *((base, 1) for base in range(17, 25, 2)),
    *((base, 2) for base in range(25, 49, 4)),
    *((base, 3) for base in range(49, 81, 8)),
    *((base, 4) for base in range(81, 145, 16)),
    *((base, 5) for base in range(145, 241, 32)),
    (0, 9), (0, 10), (0, 12), (0, 14), (0, 32),
)  # fmt: skip
"""(base, further bits) of each delta token, growing; a base has 8 bits."""
TOKEN_COUNT = len(TOKENS)
_LAST_OF_TOKEN = [0, *(base + (1 << extra) - 1 for base, extra in TOKENS[1:])]
_NEAR = 241
"""Deltas below have a token each by table; those from here on are searched for."""

PAIR_LIMIT = 1 << 14
"""Pairs whose deltas are counted apart; rarer ones, which appear later, are all escaped."""
_PART_ROWS = 1 << 18
"""Rows that are coded by themselves, on one processor; a fixed number, so that every machine makes the same table."""
_PAIR_ROOM = 1 << 13
"""Pairs that there is room for at first; more are rare."""


@dataclass(frozen=True, slots=True)
class RowPart:
    """Rows that are counted and coded by themselves: they begin with a block of their own.

    They end with the rows behind `last` that their last block may need.
    """

    first: int
    last: int
    end: int
    steps: NDArray[np.int32]
    """Of each of these rows but the first: its pair's number above its delta's token, as `rows` takes them."""
    pairs: _Integers
    """Which of the table's pairs each of the part's own is."""


@dataclass(frozen=True, slots=True)
class RowSteps:
    """How rows follow one another: pairs of rules, and tokens of address deltas."""

    parts: list[RowPart]
    pairs: _Integers
    """rule << 32 | next rule of each pair, in the order of first appearance."""
    counts: _Integers
    """How often each pair occurs."""
    histogram: _Integers
    """How often each token occurs with each of the first pairs, a line each."""
    token_counts: _Integers
    """How often each token occurs in all."""


@hot_loop
def count_steps(
    addresses: FlatArray,
    rules: FlatArray,
    base: int,
    gap: int,
    token_of_delta: FlatArray,
    last_of_token: FlatArray,
    slots: FlatArray,
    keys: FlatArray,
    counts: FlatArray,
    histogram: FlatArray,
    steps: FlatArray,
) -> int:
    """Count the steps of a part's rows; gives how many pairs there are, -1 when `keys` is too short for them.

    What is aligned is the sum of an address and `base`.
    `histogram` has a line for each of a number of pairs, and a last one for all others.
    `slots` (zeros, a power of two, twice as long as `keys`) is a hash table.
    """
    mask = len(slots) - 1
    width = len(last_of_token)
    last_line = len(histogram) // width - 1
    near = len(token_of_delta)
    count = 0
    before = 0 + rules[0]
    address = 0 + addresses[0]
    for row in range(1, len(addresses)):
        rule = item(rules, row)
        key = (before << 32) | rule
        slot = (before * 40503 ^ rule * 10007) & mask
        number = item(slots, slot)
        while number and item(keys, number - 1) != key:
            slot = (slot + 1) & mask
            number = item(slots, slot)
        if not number:
            if count == len(keys):
                return -1
            keys[count] = key
            count += 1
            slots[slot] = count
            number = count
        pair = number - 1
        counts[pair] += 1
        delta = item(addresses, row) - address
        address += delta
        if delta < near:
            token = item(token_of_delta, delta)
            if before == gap and delta <= DELTA_ALIGNMENT and (address + base) & (DELTA_ALIGNMENT - 1) == 0:
                token = ALIGNED_TOKEN
        else:
            token = item(token_of_delta, near - 1)
            while delta > last_of_token[token]:
                token += 1
        steps[row] = (pair << PAIR_SHIFT) | token
        histogram[(pair if pair < last_line else last_line) * width + token] += 1
        before = rule
    return count


def row_steps(addresses: NDArray[Any], rules: NDArray[Any], base: int, gap: int, use_compiled: bool) -> RowSteps:
    """How rows (at least one) follow one another; `gap` is the id of the INVALID rule.

    What is aligned is the sum of an address and `base`.
    """
    count = -(-len(addresses) // _PART_ROWS)
    bounds = [len(addresses) * part // count for part in range(count + 1)]
    ends = [min(last + BLOCK_ROWS, len(addresses)) for last in bounds[1:]]
    counted = run_parts(
        [
            partial(_count_part, addresses[first:end], rules[first:end], base, gap, use_compiled)
            for first, end in zip(bounds[:-1], ends, strict=True)
        ],
        use_compiled,
    )
    pairs, places, numbers = np.unique(
        np.concatenate([part.pairs for part in counted]), return_index=True, return_inverse=True
    )
    order = np.argsort(places)  # as they come first, whatever the parts
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    numbers = rank[numbers.reshape(-1)]
    counts = np.bincount(numbers, np.concatenate([part.counts for part in counted]), len(pairs)).astype(np.int64)
    histogram = np.zeros((min(len(pairs), PAIR_LIMIT), TOKEN_COUNT), dtype=np.int64)
    parts: list[RowPart] = []
    own = np.split(numbers, np.cumsum([len(part.pairs) for part in counted])[:-1])
    token_counts = np.zeros(TOKEN_COUNT, dtype=np.int64)
    for part, mine, first, last, end in zip(counted, own, bounds[:-1], bounds[1:], ends, strict=True):
        lines = mine[: len(part.histogram)]
        inside = lines < len(histogram)
        histogram[lines[inside]] += part.histogram[inside]
        token_counts += part.token_counts
        parts.append(RowPart(first, last, end, part.steps, mine))
    return RowSteps(parts, pairs[order], counts, histogram, token_counts)


@dataclass(frozen=True, slots=True)
class _CountedPart:
    """What `count_steps` finds; as in RowSteps, with the part's own pairs."""

    steps: NDArray[np.int32]
    pairs: _Integers
    counts: _Integers
    histogram: _Integers
    token_counts: _Integers


def _count_part(addresses: NDArray[Any], rules: NDArray[Any], base: int, gap: int, use_compiled: bool) -> _CountedPart:
    rows = len(addresses)
    last = np.array(_LAST_OF_TOKEN, dtype=np.int64)
    near = np.searchsorted(last, np.arange(_NEAR)).astype(np.int64)
    steps = np.empty(rows, dtype=np.int32)
    room = min(_PAIR_ROOM, 1 << rows.bit_length())
    while True:
        keys, counts, slots = (np.zeros(size, dtype=np.int64) for size in (room, room, 2 * room))
        histogram = np.zeros((min(room, PAIR_LIMIT) + 1) * TOKEN_COUNT, dtype=np.int64)
        count = run_hot(
            count_steps, use_compiled, addresses, rules, base, gap, near, last, slots, keys, counts, histogram, steps
        )
        if count >= 0:
            lines = histogram.reshape(-1, TOKEN_COUNT)
            own, rest = lines[: min(count, len(lines) - 1)], lines[-1]
            return _CountedPart(steps, keys[:count], counts[:count], own, own.sum(axis=0) + rest)
        room *= 4
