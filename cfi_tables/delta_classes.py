"""Classes of pairs with like address deltas, each of which shares a code.

Owns the clustering. Data comes from the histogram of `row_steps`; it goes to `row_codes`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import MAXIMUM_CLASSES
from cfi_tables.row_steps import TOKEN_COUNT
from cfi_tables.scalars import item, put_item

_Integers = NDArray[np.int64]

_SAMPLE = 512
"""Pairs, the most frequent ones, that classes are found with."""
_ROUNDS = 5
_MANY_ROWS = 1 << 18
_SAMPLE_OF_MANY = 160
_ROUNDS_OF_MANY = 3
"""With so many rows, fewer pairs and rounds do: the table grows by less than a five hundredth."""
_COST_STEPS = 16
"""A cost is a whole number of these parts of a bit."""
_LEAST_LENGTH = 2
_WEIGHT = 64
"""A token that a class has not seen counts as one of so many times TOKEN_COUNT of its tokens."""
_MANTISSA = 31
_QUOTIENT_LIMIT = 1 << 61
_COST_LIMIT = 1 << 62


@cache
def _boundaries() -> _Integers:
    """Where the number of _COST_STEPS of a logarithm to base 2 changes by rounding, of numbers from 2**_MANTISSA."""
    steps = (np.arange(_COST_STEPS) + 0.5) / _COST_STEPS
    boundaries: _Integers = np.rint(np.exp2(_MANTISSA + steps)).astype(np.int64)
    return boundaries


@hot_loop
def gather_lines(
    histogram: FlatArray,
    chosen: FlatArray,
    starts: FlatArray,
    tokens: FlatArray,
    counts: FlatArray,
    weights: FlatArray,
    outside: FlatArray,
) -> None:
    """Take the tokens that occur out of the lines `chosen`: line i's are at `starts[i]` up to `starts[i + 1]`.

    `weights` gets their sums, and what all lines have of a token is taken off `outside`.
    """
    found = 0
    starts[0] = 0
    for line in range(len(chosen)):
        first = item(chosen, line) * TOKEN_COUNT
        weight = 0
        for token in range(TOKEN_COUNT):
            value = item(histogram, first + token)  # no condition: nobody foresees which tokens a pair has
            put_item(tokens, found, token)
            put_item(counts, found, value)
            put_item(outside, token, item(outside, token) - value)
            found += 1 if value else 0
            weight += value
        weights[line] = weight
        starts[line + 1] = found


@hot_loop
def _length(count: int, total: int, shift: int, boundaries: FlatArray) -> int:
    """Parts of a bit that a token takes of which `count` of `total` are, by the ideal code."""
    quotient = (total << shift) // count
    bits = _MANTISSA - shift
    if quotient >= 1 << (_MANTISSA + 16):
        quotient >>= 16
        bits += 16
    if quotient >= 1 << (_MANTISSA + 8):
        quotient >>= 8
        bits += 8
    if quotient >= 1 << (_MANTISSA + 4):
        quotient >>= 4
        bits += 4
    while quotient >= 1 << (_MANTISSA + 1):
        quotient >>= 1
        bits += 1
    while quotient < 1 << _MANTISSA:
        quotient <<= 1
        bits -= 1
    length = bits * _COST_STEPS
    for step in range(_COST_STEPS):
        length += 1 if quotient >= item(boundaries, step) else 0
    return length if length > _LEAST_LENGTH else _LEAST_LENGTH


@hot_loop
def _total(weight: int) -> tuple[int, int, int]:
    """(what each token counts besides its own, what all tokens count, bits to shift that by) of so many tokens."""
    each = weight if weight > 1 else 1
    total = TOKEN_COUNT * (_WEIGHT * weight + each)
    shift = 0
    while total << (shift + 1) < _QUOTIENT_LIMIT:
        shift += 1
    return each, total, shift


@hot_loop
def _set_lengths(centers: FlatArray, center: int, lengths: FlatArray, boundaries: FlatArray) -> None:
    """The lengths of all tokens in the ideal code of a center, from `lengths[center * TOKEN_COUNT]` on."""
    first = center * TOKEN_COUNT
    weight = 0
    for place in range(first, first + TOKEN_COUNT):
        weight += item(centers, place)
    each, total, shift = _total(weight)
    unseen = _length(each, total, shift, boundaries)
    for place in range(first, first + TOKEN_COUNT):
        count = item(centers, place)
        if count:
            lengths[place] = _length(TOKEN_COUNT * _WEIGHT * count + each, total, shift, boundaries)
        else:
            lengths[place] = unseen


@hot_loop
def _cost(tokens: FlatArray, counts: FlatArray, first: int, end: int, lengths: FlatArray, center: int) -> int:
    """What the tokens of a line, those from `first` to `end`, take by the code of a center."""
    cost = 0
    base = center * TOKEN_COUNT
    for entry in range(first, end):
        cost += item(counts, entry) * item(lengths, base + item(tokens, entry))
    return cost


@hot_loop
def _nearest(tokens: FlatArray, counts: FlatArray, first: int, end: int, lengths: FlatArray, centers: int) -> int:
    """The first of the centers by whose code a line takes least.

    Four are tried at once: lines are short, and half of the time would go to reading them.
    """
    best = 0
    least = _COST_LIMIT
    center = 0
    while center + 3 < centers:
        base = center * TOKEN_COUNT
        one = 0
        two = 0
        three = 0
        four = 0
        for entry in range(first, end):
            place = base + item(tokens, entry)
            count = item(counts, entry)
            one += count * item(lengths, place)
            two += count * item(lengths, place + TOKEN_COUNT)
            three += count * item(lengths, place + 2 * TOKEN_COUNT)
            four += count * item(lengths, place + 3 * TOKEN_COUNT)
        if one < least:
            least = one
            best = center
        if two < least:
            least = two
            best = center + 1
        if three < least:
            least = three
            best = center + 2
        if four < least:
            least = four
            best = center + 3
        center += 4
    while center < centers:
        cost = _cost(tokens, counts, first, end, lengths, center)
        if cost < least:
            least = cost
            best = center
        center += 1
    return best


@hot_loop
def grow_centers(
    starts: FlatArray,
    tokens: FlatArray,
    counts: FlatArray,
    sample: FlatArray,
    wanted: int,
    boundaries: FlatArray,
    centers: FlatArray,
    lengths: FlatArray,
    floor: FlatArray,
    excess: FlatArray,
) -> None:
    """Make `wanted` centers: behind the first one, which is there, the line of `sample` that those so far suit worst.

    `floor` gets what each line takes by a code of its own, `excess` how much more by the best of the centers.
    """
    _set_lengths(centers, 0, lengths, boundaries)
    for place in range(len(sample)):
        first = item(starts, item(sample, place))
        end = item(starts, item(sample, place) + 1)
        weight = 0
        for entry in range(first, end):
            weight += item(counts, entry)
        each, total, shift = _total(weight)
        own = 0
        for entry in range(first, end):
            count = item(counts, entry)
            own += count * _length(TOKEN_COUNT * _WEIGHT * count + each, total, shift, boundaries)
        floor[place] = own
        excess[place] = _cost(tokens, counts, first, end, lengths, 0) - own
    for center in range(1, wanted):
        worst = 0
        for place in range(1, len(sample)):
            if item(excess, place) > item(excess, worst):
                worst = place
        line = item(sample, worst)
        for entry in range(item(starts, line), item(starts, line + 1)):
            centers[center * TOKEN_COUNT + item(tokens, entry)] = item(counts, entry)
        _set_lengths(centers, center, lengths, boundaries)
        for place in range(len(sample)):
            first = item(starts, item(sample, place))
            end = item(starts, item(sample, place) + 1)
            more = _cost(tokens, counts, first, end, lengths, center) - item(floor, place)
            if more < item(excess, place):
                excess[place] = more


@hot_loop
def _assign(
    starts: FlatArray,
    tokens: FlatArray,
    counts: FlatArray,
    lines: FlatArray,
    outside: FlatArray,
    classes: FlatArray,
    centers: FlatArray,
    lengths: FlatArray,
) -> int:
    """Give each of the lines to the nearest center, and sum up what each has then; gives how many changed."""
    number = len(centers) // TOKEN_COUNT
    changed = 0
    for place in range(len(lines)):
        line = item(lines, place)
        nearest = _nearest(tokens, counts, item(starts, line), item(starts, line + 1), lengths, number)
        if nearest != item(classes, line):
            changed += 1
        classes[line] = nearest
    for place in range(len(centers)):
        centers[place] = 0
    for token in range(TOKEN_COUNT):
        centers[token] = outside[token]
    for place in range(len(lines)):
        line = item(lines, place)
        base = item(classes, line) * TOKEN_COUNT
        for entry in range(item(starts, line), item(starts, line + 1)):
            centers[base + item(tokens, entry)] += item(counts, entry)
    return changed


@hot_loop
def settle_classes(
    starts: FlatArray,
    tokens: FlatArray,
    counts: FlatArray,
    sample: FlatArray,
    lines: FlatArray,
    outside: FlatArray,
    rounds: int,
    boundaries: FlatArray,
    classes: FlatArray,
    centers: FlatArray,
    lengths: FlatArray,
) -> None:
    """Settle the centers in so many rounds by the lines of `sample`; then `classes` and `centers` are those of `lines`.

    `outside` is what the first class has besides. `classes` begins with -1 for each line.
    """
    number = len(centers) // TOKEN_COUNT
    for _ in range(rounds):
        changed = _assign(starts, tokens, counts, sample, outside, classes, centers, lengths)
        if changed == 0:
            break
        for center in range(number):
            _set_lengths(centers, center, lengths, boundaries)
    _assign(starts, tokens, counts, lines, outside, classes, centers, lengths)


def choose_classes(
    histogram: NDArray[np.int32], token_counts: _Integers, kept: NDArray[np.bool_], rows: int, use_compiled: bool
) -> tuple[_Integers, _Integers]:
    """(class of each pair, token counts of each class). Class 0 is that of pairs without a place.

    Clusters are grown from the pairs that the classes so far suit worst, and settled in a few rounds. Costs are whole
    numbers (16ths of a bit), so that every machine finds the same.
    """
    chosen = np.flatnonzero(kept)
    starts, weights = np.zeros(len(chosen) + 1, dtype=np.int64), np.zeros(len(chosen), dtype=np.int64)
    tokens, counts = (np.empty(len(chosen) * TOKEN_COUNT, dtype=np.int32) for _ in range(2))
    outside = token_counts.copy()
    run_hot(gather_lines, use_compiled, histogram, chosen, starts, tokens, counts, weights, outside)
    size, rounds = (_SAMPLE, _ROUNDS) if rows < _MANY_ROWS else (_SAMPLE_OF_MANY, _ROUNDS_OF_MANY)
    sample = np.argsort(-weights, kind="stable")[:size]
    wanted = min(MAXIMUM_CLASSES, 1 + rows // 4096, 1 + len(sample))
    lines = starts, tokens, counts
    centers, lengths = (np.zeros(wanted * TOKEN_COUNT, dtype=np.int64) for _ in range(2))
    centers[:TOKEN_COUNT] = outside
    if wanted == 1 or not outside.any():
        sampled = np.zeros(len(chosen), dtype=np.bool_)
        sampled[sample] = True
        entries = np.flatnonzero(np.repeat(sampled, np.diff(starts)))
        centers[:TOKEN_COUNT] += np.bincount(tokens[entries], counts[entries], TOKEN_COUNT).astype(np.int64)
    run_hot(
        grow_centers, use_compiled, *lines, sample, wanted, _boundaries(), centers, lengths,
        *(np.zeros(len(sample), dtype=np.int64) for _ in range(2)),
    )  # fmt: skip
    found = np.full(len(chosen), -1, dtype=np.int64)
    run_hot(
        settle_classes, use_compiled, *lines, sample, np.arange(len(chosen)), outside, rounds, _boundaries(), found,
        centers, lengths,
    )  # fmt: skip
    classes = np.zeros(len(kept), dtype=np.int64)
    classes[chosen] = found
    return classes, centers.reshape(-1, TOKEN_COUNT)
