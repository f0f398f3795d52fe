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
from cfi_tables.scalars import item, put_item
from cfi_tables.work_memory import WorkMemory
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
# A slot of the hash table of pairs: both rules and the pair's number, counted from 1.
_RULE_BITS = 20
_NUMBER_BITS = 22
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


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
    histogram: NDArray[np.int32]
    """How often each token occurs with each of the first pairs, a line of TOKEN_COUNT each, one behind another."""
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
    `histogram` has a line for each of a number of pairs, and a last one for all others; of those, `counts` tells how
    often each occurs. `slots` (zeros, a power of two, twice as long as `keys`) is a hash table: both rules of a pair
    and its number in one word.
    """
    mask = len(slots) - 1
    width = len(last_of_token)
    last_line = len(histogram) // width - 1
    near = len(token_of_delta)
    count = 0
    for place in range(last_line * width, (last_line + 1) * width):
        histogram[place] = 0
    before = 0 + rules[0]
    address = 0 + addresses[0]
    for row in range(1, len(addresses)):
        rule = 0 + rules[row]
        key = before << _RULE_BITS | rule
        slot = (before * 40503 ^ rule * 10007) & mask
        found = item(slots, slot)
        while found >> _NUMBER_BITS != key and found:
            slot = (slot + 1) & mask
            found = item(slots, slot)
        pair = (found & _NUMBER_MASK) - 1
        if not found:
            if count == len(keys):
                return -1
            keys[count] = before << 32 | rule
            counts[count] = 0
            if count < last_line:
                for place in range(count * width, (count + 1) * width):
                    histogram[place] = 0
            pair = count
            count += 1
            slots[slot] = key << _NUMBER_BITS | count
        delta = addresses[row] - address
        address += delta
        if delta < near:
            token = item(token_of_delta, delta)
            if before == gap and delta <= DELTA_ALIGNMENT and (address + base) & (DELTA_ALIGNMENT - 1) == 0:
                token = ALIGNED_TOKEN
        else:
            token = item(token_of_delta, near - 1)
            while delta > last_of_token[token]:
                token += 1
        steps[row] = pair << PAIR_SHIFT | token
        before = rule
        if pair >= last_line:
            counts[pair] += 1
            pair = last_line
        place = pair * width + token
        put_item(histogram, place, item(histogram, place) + 1)
    return count


@hot_loop
def merge_steps(
    keys: FlatArray,
    counts: FlatArray,
    histogram: FlatArray,
    slots: FlatArray,
    all_keys: FlatArray,
    all_counts: FlatArray,
    all_histogram: FlatArray,
    token_counts: FlatArray,
    count: int,
    numbers: FlatArray,
) -> int:
    """Add a part's pairs, as `count_steps` gives them, to `count` others; gives how many there are then.

    `numbers` gets which of all pairs each is. `all_histogram` has a line for each of the first of them.
    """
    mask = len(slots) - 1
    width = len(token_counts)
    lines = len(histogram) // width - 1
    all_lines = len(all_histogram) // width
    for pair in range(len(keys)):
        key = 0 + keys[pair]
        slot = ((key >> 32) * 40503 ^ (key & 0xFFFFFFFF) * 10007) & mask
        while slots[slot] and all_keys[slots[slot] - 1] != key:
            slot = (slot + 1) & mask
        if slots[slot] == 0:
            all_keys[count] = key
            count += 1
            slots[slot] = count
        number = slots[slot] - 1
        numbers[pair] = number
        if pair >= lines:
            all_counts[number] = all_counts[number] + counts[pair]
            continue
        rows = 0
        line = number * width if number < all_lines else -1
        for token in range(width):
            value = item(histogram, pair * width + token)
            if value:  # few are not 0
                rows += value
                token_counts[token] += value
                if line >= 0:
                    all_histogram[line + token] = item(all_histogram, line + token) + value
        all_counts[number] = all_counts[number] + rows
    for token in range(width):
        token_counts[token] += histogram[lines * width + token]
    return count


def row_steps(
    addresses: NDArray[Any], rules: NDArray[Any], base: int, gap: int, use_compiled: bool, memory: WorkMemory
) -> RowSteps:
    """How rows (at least one) follow one another; `gap` is the id of the INVALID rule.

    What is aligned is the sum of an address and `base`. The steps and the histogram lie in `memory`.
    """
    count = -(-len(addresses) // _PART_ROWS)
    bounds = [len(addresses) * part // count for part in range(count + 1)]
    ends = [min(last + BLOCK_ROWS, len(addresses)) for last in bounds[1:]]
    rows = list(zip(bounds[:-1], ends, strict=True))
    counted = run_parts(
        [
            partial(_count_part, addresses[first:end], rules[first:end], base, gap, memory, use_compiled)
            for first, end in rows
        ],
        use_compiled,
    )
    most = sum(len(part.pairs) for part in counted)
    pairs, counts, slots = (np.zeros(size, dtype=np.int64) for size in (most, most, 2 << most.bit_length()))
    histogram = memory.take(min(most, PAIR_LIMIT) * TOKEN_COUNT, np.int32)
    token_counts = np.zeros(TOKEN_COUNT, dtype=np.int64)
    parts: list[RowPart] = []
    found = 0
    for part, first, last, end in zip(counted, bounds[:-1], bounds[1:], ends, strict=True):
        numbers = np.zeros(len(part.pairs), dtype=np.int64)
        found = run_hot(
            merge_steps, use_compiled, part.pairs, part.counts, part.histogram, slots, pairs, counts, histogram,
            token_counts, found, numbers,
        )  # fmt: skip
        parts.append(RowPart(first, last, end, part.steps, numbers))
    return RowSteps(parts, pairs[:found], counts[:found], histogram, token_counts)


@dataclass(frozen=True, slots=True)
class _CountedPart:
    """What `count_steps` finds; as in RowSteps, with the part's own pairs, and a last line for those without one."""

    steps: NDArray[np.int32]
    pairs: _Integers
    counts: _Integers
    """Of the pairs without a line."""
    histogram: NDArray[np.int32]


class _PartMemory:
    """The arrays that a part is counted in."""

    def __init__(self, memory: WorkMemory, rows: int) -> None:
        self.steps = memory.take(rows, np.int32, cleared=False)
        self._memory = memory
        self.make(min(_PAIR_ROOM, 1 << rows.bit_length()))

    def make(self, room: int) -> None:
        """Make room for so many pairs."""
        self.room = room
        self.keys, self.counts = (self._memory.take(room, np.int64, cleared=False) for _ in range(2))
        self.slots = self._memory.take(2 * room, np.int64)
        self.histogram = self._memory.take((min(room, PAIR_LIMIT) + 1) * TOKEN_COUNT, np.int32, cleared=False)


def _count_part(
    addresses: NDArray[Any], rules: NDArray[Any], base: int, gap: int, memory: WorkMemory, use_compiled: bool
) -> _CountedPart:
    own = _PartMemory(memory, len(addresses))  # made by the thread that counts: what it clears is in its cache
    last = np.array(_LAST_OF_TOKEN, dtype=np.int64)
    near = np.searchsorted(last, np.arange(_NEAR)).astype(np.int64)
    while True:
        count = run_hot(
            count_steps, use_compiled, addresses, rules, base, gap, near, last, own.slots, own.keys, own.counts,
            own.histogram, own.steps,
        )  # fmt: skip
        if count >= 0:
            return _CountedPart(own.steps, own.keys[:count], own.counts[:count], own.histogram)
        own.make(4 * own.room)
