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
from cfi_tables.scalars import item, put_item, read_u8
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
_FAR_TOKENS = 5
"""The last ones, of which a row says all further bits."""

_NEAR_TOKENS = [token for token, (_, extra) in enumerate(TOKENS[:-_FAR_TOKENS]) for _ in range(1 << extra)]
MARK_TOKENS = np.array([*_NEAR_TOKENS, *range(TOKEN_COUNT - _FAR_TOKENS, TOKEN_COUNT)], dtype=np.uint8)
"""The token of each mark. A near delta is its own mark, and behind those come the far tokens; 0 is the mark of what is
aligned, since no two rows lie at one address."""
NEAR = len(_NEAR_TOKENS)
"""Deltas below have a mark each."""
_FAR_LASTS = np.array([(1 << extra) - 1 for _, extra in TOKENS[-_FAR_TOKENS:]], dtype=np.int64)

PAIR_LIMIT = 1 << 14
"""Pairs whose deltas are counted apart; rarer ones, which appear later, are all escaped."""
_PART_ROWS = 1 << 18
"""Rows that are coded by themselves, on one processor; a fixed number, so that every machine makes the same table."""
_PAIR_ROOM = 1 << 13
"""Pairs that there is room for at first; more are rare."""
# A slot of the hash table of pairs: the first rule, counted from 1, the second, and the pair's number.
_RULE_BITS = 20
_NUMBER_BITS = 22
_ALIGNMENT_BITS = DELTA_ALIGNMENT.bit_length() - 1


@dataclass(frozen=True, slots=True)
class RowPart:
    """Rows that are counted and coded by themselves: they begin with a block of their own.

    They end with the rows behind `last` that their last block may need.
    """

    first: int
    last: int
    end: int
    steps: NDArray[np.int32]
    """Of each of these rows but the first: its pair's number above its delta's mark, as `rows` takes them."""
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
    mark_tokens: FlatArray,
    far_lasts: FlatArray,
    slots: FlatArray,
    keys: FlatArray,
    counts: FlatArray,
    histogram: FlatArray,
    steps: FlatArray,
) -> int:
    """Count the steps of a part's rows; gives how many pairs there are, -1 when `keys` is too short for them.

    What is aligned is the sum of an address and `base`. `mark_tokens` has the token of each mark, `far_lasts` the last
    delta of each far token. `histogram` has a line for each of a number of pairs, and a last one for all others; of
    those, `counts` tells how often each occurs. `slots` (zeros, a power of two, twice as long as `keys`) is a hash
    table: both rules of a pair and its number in one word.
    """
    mask = len(slots) - 1
    last_line = len(histogram) // TOKEN_COUNT - 1
    count = 0
    for token in range(TOKEN_COUNT):
        put_item(histogram, last_line * TOKEN_COUNT + token, 0)
    before = 0 + rules[0]
    last = 0 + addresses[0]
    for row in range(1, len(addresses)):
        rule = 0 + rules[row]
        key = before + 1 << _NUMBER_BITS + _RULE_BITS | rule << _NUMBER_BITS
        slot = (before * 40503 ^ rule * 10007) & mask
        pair = item(slots, slot) - key
        while not 0 <= pair < 1 << _NUMBER_BITS:
            if pair + key == 0:
                if count == len(keys):
                    return -1
                keys[count] = before << 32 | rule
                counts[count] = 0
                if count < last_line:
                    for token in range(TOKEN_COUNT):
                        put_item(histogram, count * TOKEN_COUNT + token, 0)
                pair = count
                put_item(slots, slot, key + pair)
                count += 1
            else:
                slot = (slot + 1) & mask
                pair = item(slots, slot) - key
        address = 0 + addresses[row]
        delta = address - last
        last = address
        mark = delta
        if before == gap:  # one condition of the others, since each branch could be foreseen as little
            mark = delta if delta - 1 >> _ALIGNMENT_BITS | address + base & DELTA_ALIGNMENT - 1 else 0
        if delta >= NEAR:
            mark = NEAR
            while delta > far_lasts[mark - NEAR]:
                mark += 1
        steps[row] = pair << PAIR_SHIFT | mark
        before = rule
        if pair >= last_line:
            counts[pair] += 1
            pair = last_line
        place = pair * TOKEN_COUNT + read_u8(mark_tokens, mark)
        put_item(histogram, place, item(histogram, place) + 1)
    return count


@hot_loop
def merge_steps(
    keys: FlatArray,
    counts: FlatArray,
    histogram: FlatArray,
    count: int,
    all_slots: FlatArray,
    all_keys: FlatArray,
    all_counts: FlatArray,
    all_histogram: FlatArray,
    all_count: int,
    numbers: FlatArray,
) -> int:
    """Add a part's `count` pairs, as `count_steps` gives them, to `all_count` others; gives how many there are then.

    `numbers` gets which of all pairs each is. There is room for them all.
    """
    mask = len(all_slots) - 1
    last_line = len(histogram) // TOKEN_COUNT - 1
    all_last_line = len(all_histogram) // TOKEN_COUNT - 1
    for pair in range(count):
        before = keys[pair] >> 32
        rule = keys[pair] & 0xFFFFFFFF
        key = before + 1 << _NUMBER_BITS + _RULE_BITS | rule << _NUMBER_BITS
        slot = (before * 40503 ^ rule * 10007) & mask
        number = item(all_slots, slot) - key
        while not 0 <= number < 1 << _NUMBER_BITS:
            if number + key == 0:
                number = all_count
                put_item(all_slots, slot, key + number)
                all_keys[number] = keys[pair]
                all_counts[number] = 0
                if number < all_last_line:
                    for token in range(TOKEN_COUNT):
                        put_item(all_histogram, number * TOKEN_COUNT + token, 0)
                all_count += 1
            else:
                slot = (slot + 1) & mask
                number = item(all_slots, slot) - key
        numbers[pair] = number
        if pair >= last_line:
            all_counts[number] += counts[pair]
            continue
        if number >= all_last_line:
            for token in range(TOKEN_COUNT):
                all_counts[number] += item(histogram, pair * TOKEN_COUNT + token)
            number = all_last_line
        _add_line(histogram, pair, all_histogram, number)
    _add_line(histogram, last_line, all_histogram, all_last_line)
    return all_count


@hot_loop
def _add_line(histogram: FlatArray, line: int, sums: FlatArray, into: int) -> None:
    for token in range(TOKEN_COUNT):
        place = into * TOKEN_COUNT + token
        put_item(sums, place, item(sums, place) + item(histogram, line * TOKEN_COUNT + token))


@hot_loop
def sum_lines(histogram: FlatArray, counts: FlatArray, token_counts: FlatArray) -> None:
    """Add the lines of pairs to their counts, and these lines and the last one to `token_counts`."""
    last_line = len(histogram) // TOKEN_COUNT - 1
    for line in range(min(len(counts), last_line)):
        rows = 0
        for token in range(TOKEN_COUNT):
            rows += item(histogram, line * TOKEN_COUNT + token)
        put_item(counts, line, item(counts, line) + rows)
        _add_line(histogram, line, token_counts, 0)
    _add_line(histogram, last_line, token_counts, 0)


def row_steps(
    addresses: NDArray[Any], rules: NDArray[Any], base: int, gap: int, use_compiled: bool, memory: WorkMemory
) -> RowSteps:
    """How rows (at least one) follow one another; `gap` is the id of the INVALID rule.

    What is aligned is the sum of an address and `base`. The steps, the pairs and what is counted lie in `memory`.
    """
    count = -(-len(addresses) // _PART_ROWS)
    bounds = [len(addresses) * part // count for part in range(count + 1)]
    ends = [min(last + BLOCK_ROWS, len(addresses)) for last in bounds[1:]]
    room = min(_PAIR_ROOM, 1 << len(addresses).bit_length())
    rooms = [room * (1 + count // 3), *(room for _ in bounds[2:])]  # the first part takes the pairs of the others
    tasks = [
        partial(_count_part, addresses[first:end], rules[first:end], base, gap, room, memory, use_compiled)
        for first, end, room in zip(bounds[:-1], ends, rooms, strict=True)
    ]
    counted = run_parts(tasks, use_compiled)
    whole = counted[0]
    numbers = [np.arange(whole.count, dtype=np.int64)]
    most = sum(part.count for part in counted)
    if most > whole.room:
        whole = _count_part(addresses[: ends[0]], rules[: ends[0]], base, gap, most, memory, use_compiled)
    found = whole.count
    for part in counted[1:]:
        numbers.append(np.empty(part.count, dtype=np.int64))
        found = run_hot(
            merge_steps, use_compiled, part.keys, part.counts, part.histogram, part.count, whole.slots, whole.keys,
            whole.counts, whole.histogram, found, numbers[-1],
        )  # fmt: skip
    parts = [
        RowPart(*each)
        for each in zip(bounds[:-1], bounds[1:], ends, (part.steps for part in counted), numbers, strict=True)
    ]
    counts = whole.counts[:found]
    return RowSteps(parts, whole.keys[:found], counts, whole.histogram, _sums(whole.histogram, counts, use_compiled))


def _sums(histogram: NDArray[np.int32], counts: _Integers, use_compiled: bool) -> _Integers:
    """How often each token occurs in all; `counts` gets the sums of its pairs' lines."""
    if use_compiled:
        token_counts = np.zeros(TOKEN_COUNT, dtype=np.int64)
        run_hot(sum_lines, True, histogram, counts, token_counts)
        return token_counts
    lines = histogram.reshape(-1, TOKEN_COUNT)
    own = lines[: min(len(counts), len(lines) - 1)]
    counts[: len(own)] += own.sum(axis=1)
    sums: _Integers = own.sum(axis=0) + lines[-1]
    return sums


class _CountedPart:
    """The arrays that a part is counted in: what `count_steps` takes and fills."""

    def __init__(self, memory: WorkMemory, rows: int, room: int) -> None:
        """There is `room` for so many pairs."""
        self.room = room
        self.count = 0
        self.steps = memory.take(rows, np.int32, cleared=False)
        self.keys, self.counts = (memory.take(room, np.int64, cleared=False) for _ in range(2))
        self.slots = memory.take(2 << (room - 1).bit_length(), np.int64)
        self.histogram = memory.take((min(room, PAIR_LIMIT) + 1) * TOKEN_COUNT, np.int32, cleared=False)


def _count_part(
    addresses: NDArray[Any],
    rules: NDArray[Any],
    base: int,
    gap: int,
    room: int,
    memory: WorkMemory,
    use_compiled: bool,
) -> _CountedPart:
    """A part's pairs, for `room` of which there is room at first."""
    while True:
        part = _CountedPart(memory, len(addresses), room)  # by the thread that counts: what it clears is in its cache
        part.count = run_hot(
            count_steps, use_compiled, addresses, rules, base, gap, MARK_TOKENS, _FAR_LASTS, part.slots, part.keys,
            part.counts, part.histogram, part.steps,
        )  # fmt: skip
        if part.count >= 0:
            return part
        room *= 4
