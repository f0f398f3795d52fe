"""The prefix codes of a table's rows, chosen from the rows themselves.

Owns what is made of the statistics of rows: for each rule a code of the rules that follow it, and for each of a few
classes a code of address deltas. Data comes from `row_steps`; decoding tables in the layout of `schema.py` go to the
table, and the codes to `rows.encode_rows`.

A rule and its predecessor are a pair. Pairs are what counts: there are some thousand of them in hundreds of thousands
of rows, since compilers write few kinds of prologues, and a pair all but tells the delta (a push of rbx takes one
byte). A rule's frequent successors get a place in its code, as many as pay for their place in the file; the others
share an escape, behind which the rule's id follows. Pairs with like deltas share a class, found by clustering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfi_tables.delta_classes import choose_classes
from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.layout import DELTA_EXTRA_U32
from cfi_tables.row_steps import MARK_TOKENS, NEAR, TOKEN_COUNT, TOKENS, RowSteps
from cfi_tables.rows import CODE_SHIFT, PAIR_SHIFT
from cfi_tables.successor_choice import RECORD_WORDS, choose_successors

_Integers = NDArray[np.int64]


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
    mark_words: _Integers
    """Of `rows.encode_rows`, as the pairs' ones."""
    bits: int
    """That all rows take together."""
    longest: int
    """Bits that no row takes more than."""


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


def choose_codes(
    steps: RowSteps, contexts: _Integers, nexts: _Integers, rule_count: int, use_compiled: bool
) -> RowCodes:
    """The codes for rows whose pairs are of the rules `contexts`, before, and `nexts`, all below `rule_count`."""
    counts = steps.counts
    count, rows = len(counts), steps.parts[-1].last
    rule_bits = max(1, (rule_count - 1).bit_length())

    bits, kept = choose_successors(contexts, counts, rule_count, rule_bits, use_compiled)
    records = 1 + np.cumsum(RECORD_WORDS + (1 << bits)) - RECORD_WORDS - (1 << bits)
    states = (records << 12) | (bits << 8)
    classes, class_counts = choose_classes(steps.histogram, steps.token_counts, kept, rows, use_compiled)
    class_count = len(class_counts)
    delta_bits = _delta_bits(class_counts, rows)

    # The symbols of a rule's code: its kept successors, and behind all of those an escape for each rule.
    placed, others = np.flatnonzero(kept), np.flatnonzero(~kept)
    outside = contexts[others]
    escaped = np.bincount(outside, counts[others], minlength=rule_count).astype(np.int64)
    escaping = np.flatnonzero(escaped)
    symbol_group = np.concatenate([contexts[placed], escaping])
    symbol_count = np.concatenate([counts[placed], escaped[escaping]])
    payload = np.concatenate([states[nexts[placed]] | (classes[placed] << 4), np.zeros(len(escaping), np.int64)])
    words, codes, lengths = _codes_of_groups(
        use_compiled, symbol_group, symbol_count, payload, bits, records + RECORD_WORDS
    )
    pair_codes, pair_lengths = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    pair_codes[placed], pair_lengths[placed] = codes[: len(placed)], lengths[: len(placed)]
    escape_codes, escape_lengths = np.zeros(rule_count, dtype=np.int64), np.zeros(rule_count, dtype=np.int64)
    escape_codes[escaping], escape_lengths[escaping] = codes[len(placed) :], lengths[len(placed) :]
    pair_codes[others] = escape_codes[outside] | (nexts[others] << escape_lengths[outside])
    pair_lengths[others] = escape_lengths[outside] + rule_bits

    base = np.array([base for base, _ in TOKENS], dtype=np.int64)
    extra = np.array([extra for _, extra in TOKENS], dtype=np.int64)
    symbol_group, symbol_token = np.nonzero(class_counts)
    payload = (np.minimum(extra, DELTA_EXTRA_U32) << 4 | base << 8)[symbol_token]
    deltas, codes, lengths = _codes_of_groups(
        use_compiled, symbol_group, class_counts[symbol_group, symbol_token], payload,
        np.full(class_count, delta_bits, dtype=np.int64), np.arange(class_count) << delta_bits,
    )  # fmt: skip
    token_codes, token_lengths = (np.zeros((class_count, TOKEN_COUNT), dtype=np.int64) for _ in range(2))
    token_codes[symbol_group, symbol_token] = codes
    token_lengths[symbol_group, symbol_token] = lengths
    all_bits = int((pair_lengths * counts).sum())
    all_bits += int(((lengths + extra[symbol_token]) * class_counts[symbol_group, symbol_token]).sum())
    longest = int(pair_lengths.max(initial=0)) + int((lengths + extra[symbol_token]).max(initial=0))
    return RowCodes(
        words.astype(np.uint32), records, states.astype(np.uint32), rule_bits, deltas.astype(np.uint16), delta_bits,
        class_count, pair_codes << CODE_SHIFT | classes << 16 | pair_lengths,
        _mark_words(token_codes, token_lengths), all_bits, longest,
    )  # fmt: skip


def _mark_words(codes: _Integers, lengths: _Integers) -> _Integers:
    """What `rows.encode_rows` takes of the marks of each class, from the codes of its tokens and their lengths."""
    marks = len(MARK_TOKENS)
    base, extra = np.array(TOKENS, dtype=np.int64)[MARK_TOKENS].T
    said = np.where(np.arange(marks) < NEAR, extra, 0)
    own = lengths[:, MARK_TOKENS]
    code = codes[:, MARK_TOKENS] | (np.arange(marks) - base & (1 << said) - 1) << own
    words = np.zeros((len(codes), 1 << PAIR_SHIFT), dtype=np.int64)
    words[:, :marks] = code << CODE_SHIFT | extra - said << 8 | own + said
    return words.reshape(-1)


def _codes_of_groups(
    use_compiled: bool,
    groups: _Integers,
    counts: _Integers,
    payloads: _Integers,
    bits: _Integers,
    starts: _Integers,
) -> tuple[_Integers, _Integers, _Integers]:
    """(decoding tables, codes, lengths) of symbols in any order, by `make_codes`."""
    order = np.argsort((groups << 32) - counts, kind="stable")
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


def _delta_bits(class_counts: _Integers, rows: int) -> int:
    """As many bits as every token of a class needs, and more where rows are many enough to gain by it."""
    needed = (int(np.count_nonzero(class_counts, axis=1).max()) - 1).bit_length()
    return max(needed, 4 if rows < 1000 else 6 if rows < 20000 else 7 if rows < 200000 else 8)
