"""The prefix codes of a table's rows, chosen from the rows themselves.

Owns the statistics of rows and what is made of them: for each rule a code of the rules that follow it, and for each of
a few classes a code of address deltas. Data comes as columns of addresses and rule ids; decoding tables in the layout
of `schema.py` go to the table, and the codes to `rows.encode_rows`.

A rule and its predecessor are a pair. Pairs are what counts: there are some thousand of them in hundreds of thousands
of rows, since compilers write few kinds of prologues, and a pair all but tells the delta (a push of rbx takes one
byte). A rule's frequent successors get a place in its code, as many as pay for their place in the file; the others
share an escape, behind which the rule's id follows. Pairs with like deltas share a class, found by clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import (
    BLOCK_ROWS,
    DELTA_ALIGNMENT,
    DELTA_EXTRA_U32,
    MAXIMUM_CLASSES,
    MAXIMUM_RULE_WORDS,
    RULE_SIZE,
)
from cfi_tables.rows import PAIR_SHIFT
from cfi_tables.scalars import item
from cfi_tables.worker_threads import run_parts

_Integers = NDArray[np.int64]

ALIGNED_TOKEN = 0
"""The delta to the next multiple of DELTA_ALIGNMENT, where a function begins behind a gap."""
_TOKENS: tuple[tuple[int, int], ...] = (
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
TOKEN_COUNT = len(_TOKENS)
_LAST_OF_TOKEN = [0, *(base + (1 << extra) - 1 for base, extra in _TOKENS[1:])]
_NEAR = 241
"""Deltas below have a token each by table; those from here on are searched for."""

_PAIR_LIMIT = 1 << 14
"""Pairs whose deltas are counted apart; rarer ones, which appear later, are all escaped."""
_PART_ROWS = 1 << 18
"""Rows that are coded by themselves, on one processor; a fixed number, so that every machine makes the same table."""
_PAIR_ROOM = 1 << 13
"""Pairs that there is room for at first; more are rare."""
_MAXIMUM_BITS = 10
"""Of a rule's successors; the layout has room for 15."""
_SMALL_PRODUCT = 1 << 17
_SPARE_BITS = 3
"""A table of successors is tried up to so many times the size that holds all of them."""
_RECORD_WORDS = RULE_SIZE // 4


@dataclass(frozen=True, slots=True)
class RowCodes:
    """The codes of one table."""

    rule_words: NDArray[np.uint32]
    """The table's rules area; the words of the rule records are still zero."""
    records: _Integers
    """Word index of each rule's record in it."""
    states: NDArray[np.uint32]
    rule_bits: int
    deltas: NDArray[np.uint16]
    delta_bits: int
    class_count: int
    pair_words: _Integers
    """Of `rows.encode_rows`, as the two that follow."""
    token_words: _Integers
    token_base: _Integers
    bits: int
    """That all rows take together."""
    longest: int
    """Bits that no row takes more than."""


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


@hot_loop
def _code_lengths(
    counts: FlatArray, first: int, count: int, limit: int, lengths: FlatArray, scratch: FlatArray
) -> None:
    """Lengths, at most `limit`, of a prefix code of the symbols from `first` on, whose counts fall.

    Huffman's construction with two queues; what is longer than the limit is cut, and the room that this takes is
    made by lengthening the rarest of the others.
    """
    nodes = 2 * count - 1
    parent = 2 * count  # scratch: weights of the nodes, later their depths, then their parents
    for leaf in range(count):
        scratch[leaf] = counts[first + count - 1 - leaf]
    leaf = 0
    inner = count
    for node in range(count, nodes):
        weight = 0
        for _ in range(2):
            if leaf < count and (inner == node or scratch[leaf] <= scratch[inner]):
                child = leaf
                leaf += 1
            else:
                child = inner
                inner += 1
            weight += scratch[child]
            scratch[parent + child] = node
        scratch[node] = weight
    scratch[nodes - 1] = 0
    for back in range(nodes - 1):
        node = nodes - 2 - back
        scratch[node] = scratch[scratch[parent + node]] + 1
    room = 1 << limit
    for leaf in range(count):
        if scratch[leaf] > limit:
            scratch[leaf] = limit
        room -= 1 << (limit - scratch[leaf])
    leaf = 0
    while room < 0:
        while scratch[leaf] == limit:
            leaf += 1
        scratch[leaf] += 1
        room += 1 << (limit - scratch[leaf])
    for leaf in range(count):
        length = 0 + scratch[count - 1 - leaf]
        while length > 1 and 1 << (limit - length) <= room:
            room -= 1 << (limit - length)
            length -= 1
        lengths[first + leaf] = length


@hot_loop
def make_codes(
    firsts: FlatArray,
    counts: FlatArray,
    payloads: FlatArray,
    bits: FlatArray,
    starts: FlatArray,
    codes: FlatArray,
    lengths: FlatArray,
    tables: FlatArray,
    scratch: FlatArray,
) -> None:
    """A prefix code and its decoding table for each group of symbols.

    Group g has the symbols `firsts[g]` up to `firsts[g + 1]`, whose counts fall and are at most 2**`bits[g]`, and its
    table is the 2**`bits[g]` words of `tables` from `starts[g]` on: the payload of the symbol, with its code's
    length in the lowest bits. A single symbol's code has no bits. `scratch` has four words for each symbol of a group.
    """
    for group in range(len(bits)):
        first = 0 + firsts[group]
        count = firsts[group + 1] - first
        limit = 0 + bits[group]
        if count == 0:
            continue
        if count == 1:
            codes[first] = 0
            lengths[first] = 0
        else:
            _code_lengths(counts, first, count, limit, lengths, scratch)
        code = 0
        for length in range(limit + 1):
            code <<= 1
            for symbol in range(first, first + count):
                if lengths[symbol] != length:
                    continue
                reverse = 0
                for bit in range(length):
                    reverse |= ((code >> bit) & 1) << (length - 1 - bit)
                codes[symbol] = reverse
                for place in range(reverse, 1 << limit, 1 << length):
                    tables[starts[group] + place] = payloads[symbol] | length
                code += 1


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
    histogram = np.zeros((min(len(pairs), _PAIR_LIMIT), TOKEN_COUNT), dtype=np.int64)
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
        histogram = np.zeros((min(room, _PAIR_LIMIT) + 1) * TOKEN_COUNT, dtype=np.int64)
        count = run_hot(
            count_steps, use_compiled, addresses, rules, base, gap, near, last, slots, keys, counts, histogram, steps
        )
        if count >= 0:
            lines = histogram.reshape(-1, TOKEN_COUNT)
            own, rest = lines[: min(count, len(lines) - 1)], lines[-1]
            return _CountedPart(steps, keys[:count], counts[:count], own, own.sum(axis=0) + rest)
        room *= 4


def choose_codes(
    steps: RowSteps, contexts: _Integers, nexts: _Integers, rule_count: int, use_compiled: bool
) -> RowCodes:
    """The codes for rows whose pairs are of the rules `contexts`, before, and `nexts`, all below `rule_count`."""
    counts = steps.counts
    count, rows = len(counts), steps.parts[-1].last
    rule_bits = max(1, (rule_count - 1).bit_length())

    bits, kept = _choose_successors(contexts, counts, rule_count, rule_bits)
    records = 1 + np.cumsum(_RECORD_WORDS + (1 << bits)) - _RECORD_WORDS - (1 << bits)
    states = (records << 12) | (bits << 8)
    classes, class_counts = _choose_classes(steps.histogram, steps.token_counts, kept, rows)
    class_count = len(class_counts)
    delta_bits = _delta_bits(class_counts, rows)

    # The symbols of a rule's code: its kept successors, and behind all of those an escape for each rule.
    escaped = np.bincount(contexts[~kept], counts[~kept], minlength=rule_count).astype(np.int64)
    symbol_group = np.concatenate([contexts[kept], np.flatnonzero(escaped)])
    symbol_count = np.concatenate([counts[kept], escaped[escaped > 0]])
    payload = np.concatenate(
        [states[nexts[kept]] | (classes[kept] << 4), np.zeros(np.count_nonzero(escaped), np.int64)]
    )
    words, codes, lengths = _codes_of_groups(
        use_compiled, symbol_group, symbol_count, payload, bits, records + _RECORD_WORDS
    )
    pair_codes, pair_lengths = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    inside = int(np.count_nonzero(kept))
    pair_codes[kept], pair_lengths[kept] = codes[:inside], lengths[:inside]
    escape_codes, escape_lengths = np.zeros(rule_count, dtype=np.int64), np.zeros(rule_count, dtype=np.int64)
    escape_codes[escaped > 0], escape_lengths[escaped > 0] = codes[inside:], lengths[inside:]
    outside = contexts[~kept]
    pair_codes[~kept] = escape_codes[outside] | (nexts[~kept] << escape_lengths[outside])
    pair_lengths[~kept] = escape_lengths[outside] + rule_bits

    base = np.array([base for base, _ in _TOKENS], dtype=np.int64)
    extra = np.array([extra for _, extra in _TOKENS], dtype=np.int64)
    symbol_group, symbol_token = np.nonzero(class_counts)
    payload = (np.minimum(extra, DELTA_EXTRA_U32) << 4 | base << 8)[symbol_token]
    deltas, codes, lengths = _codes_of_groups(
        use_compiled, symbol_group, class_counts[symbol_group, symbol_token], payload,
        np.full(class_count, delta_bits, dtype=np.int64), np.arange(class_count) << delta_bits,
    )  # fmt: skip
    token_words: _Integers = np.zeros(class_count << PAIR_SHIFT, dtype=np.int64)
    token_words[(symbol_group << PAIR_SHIFT) + symbol_token] = codes << 16 | extra[symbol_token] << 8 | lengths
    all_bits = int((pair_lengths * counts).sum())
    all_bits += int(((lengths + extra[symbol_token]) * class_counts[symbol_group, symbol_token]).sum())
    longest = int(pair_lengths.max(initial=0)) + int((lengths + extra[symbol_token]).max(initial=0))
    return RowCodes(
        words.astype(np.uint32), records, states.astype(np.uint32), rule_bits, deltas.astype(np.uint16), delta_bits,
        class_count, pair_codes << 16 | classes << 8 | pair_lengths, token_words, base, all_bits, longest,
    )  # fmt: skip


def _codes_of_groups(
    use_compiled: bool,
    groups: _Integers,
    counts: _Integers,
    payloads: _Integers,
    bits: _Integers,
    starts: _Integers,
) -> tuple[_Integers, _Integers, _Integers]:
    """(decoding tables, codes, lengths) of symbols in any order, by `make_codes`."""
    order = np.lexsort((-counts, groups))
    sizes = np.bincount(groups, minlength=len(bits))
    firsts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]).astype(np.int64)
    sorted_codes, sorted_lengths = (np.zeros(len(groups), dtype=np.int64) for _ in range(2))
    tables = np.zeros(int((starts + (1 << bits)).max()), dtype=np.int64)
    scratch = np.zeros(4 * int(sizes.max()) + 4, dtype=np.int64)
    run_hot(
        make_codes, use_compiled, firsts, counts[order], payloads[order], bits, starts, sorted_codes, sorted_lengths,
        tables, scratch,
    )  # fmt: skip
    codes, lengths = np.empty_like(sorted_codes), np.empty_like(sorted_lengths)
    codes[order], lengths[order] = sorted_codes, sorted_lengths
    return tables, codes, lengths


def _choose_successors(
    contexts: _Integers, counts: _Integers, rule_count: int, rule_bits: int
) -> tuple[_Integers, NDArray[np.bool_]]:
    """(bits of each rule's successors, whether each pair has a place among them).

    For every size the cost in bits, of the table and of the rows with it, is estimated for all rules at once.
    """
    countable = np.arange(len(counts)) < _PAIR_LIMIT
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
    words = 1 + np.cumsum(_RECORD_WORDS + (1 << best_bits))
    beyond = words > MAXIMUM_RULE_WORDS - (_RECORD_WORDS + 1) * rule_count
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


def _choose_classes(
    histogram: _Integers, token_counts: _Integers, kept: NDArray[np.bool_], rows: int
) -> tuple[_Integers, _Integers]:
    """(class of each pair, token counts of each class). Class 0 is that of pairs without a place.

    Clusters are grown from the pairs that the classes so far suit worst, and settled in a few rounds. Costs are whole
    numbers (16ths of a bit), so that every machine finds the same.
    """
    chosen = np.flatnonzero(kept)
    own = histogram[chosen].astype(np.float64)  # whole numbers far below 2**53, multiplied by the fast library
    outside = (token_counts - own.sum(axis=0))[None, :]
    sample = own[np.argsort(-own.sum(axis=1), kind="stable")[:512]]
    wanted = min(MAXIMUM_CLASSES, 1 + rows // 4096, 1 + len(sample))
    centers = outside + sample.sum(axis=0) if wanted == 1 or not outside.any() else outside
    costs = _costs(sample, centers)
    floor = (sample * _lengths(sample)).sum(axis=1)
    while len(centers) < wanted:
        worst = int((costs.min(axis=1) - floor).argmax())
        centers = np.concatenate([centers, sample[worst][None, :]])
        costs = np.concatenate([costs, _costs(sample, centers[-1:])], axis=1)
    for _ in range(5):
        centers = _sums(sample, costs.argmin(axis=1), len(centers))
        centers[0] += outside[0]
        costs = _costs(sample, centers)
    nearest = _costs(own, centers).argmin(axis=1)
    counts = _sums(own, nearest, len(centers))
    counts[0] += outside[0]
    classes = np.zeros(len(kept), dtype=np.int64)
    classes[chosen] = nearest
    return classes, counts.astype(np.int64)


def _sums(lines: NDArray[np.float64], classes: _Integers, count: int) -> NDArray[np.float64]:
    """The sum of the lines of each of `count` classes."""
    members = (np.arange(count)[:, None] == classes[None, :]).astype(np.float64)
    return _product(lines.T, members.T).T


def _lengths(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """16ths of bits of each token in the ideal code of each center."""
    smooth = centers * 64.0 + np.maximum(centers.sum(axis=1, keepdims=True), 1) / TOKEN_COUNT
    least: NDArray[np.float64] = np.maximum(np.rint(-16 * np.log2(smooth / smooth.sum(axis=1, keepdims=True))), 2)
    return least


def _costs(counts: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """16ths of bits that each line of token counts takes by the ideal code of each center."""
    return _product(counts, _lengths(centers).T)


def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """left @ right, in pieces for which OpenBLAS starts no threads: those would go on spinning for a while."""
    height = max(1, _SMALL_PRODUCT // max(right.size, 1))
    return np.concatenate([left[first : first + height] @ right for first in range(0, max(len(left), 1), height)])


def _delta_bits(class_counts: _Integers, rows: int) -> int:
    """As many bits as every token of a class needs, and more where rows are many enough to gain by it."""
    needed = (int(np.count_nonzero(class_counts, axis=1).max()) - 1).bit_length()
    return max(needed, 4 if rows < 1000 else 6 if rows < 20000 else 7 if rows < 200000 else 8)
