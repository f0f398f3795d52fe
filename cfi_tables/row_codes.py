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
from cfi_tables.row_steps import MARK_TOKENS, NEAR, TOKENS, RowSteps
from cfi_tables.rows import CODE_SHIFT, PAIR_SHIFT
from cfi_tables.scalars import item
from cfi_tables.successor_choice import RECORD_WORDS, Successors, choose_successors

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


@hot_loop
def place_symbols(
    pairs: FlatArray,
    firsts: FlatArray,
    kept: FlatArray,
    counts: FlatArray,
    nexts: FlatArray,
    classes: FlatArray,
    states: FlatArray,
    symbol_firsts: FlatArray,
    symbol_counts: FlatArray,
    payloads: FlatArray,
    symbols: FlatArray,
    escapes: FlatArray,
) -> None:
    """Lay out the symbols of each rule's code, as `make_codes` takes them.

    They are its successors with a place (see `Successors`) and, behind those that are as frequent, an escape for all
    of its others. `symbols` gets the symbol of each pair with a place, `escapes` that of each rule, -1 where there is
    none.
    """
    count = 0
    for rule in range(len(kept)):
        symbol_firsts[rule] = count
        first = 0 + firsts[rule]
        middle = first + kept[rule]
        escaped = 0
        for place in range(middle, firsts[rule + 1]):
            escaped += counts[pairs[place]]
        escapes[rule] = -1
        for place in range(first, middle + 1):
            rows = 0
            pair = 0
            if place < middle:
                pair = 0 + pairs[place]
                rows = 0 + counts[pair]
            if escaped > rows:
                symbol_counts[count] = escaped
                payloads[count] = 0
                escapes[rule] = count
                escaped = 0
                count += 1
            if place < middle:
                symbol_counts[count] = rows
                payloads[count] = states[nexts[pair]] | classes[pair] << 4
                symbols[pair] = count
                count += 1
    symbol_firsts[len(kept)] = count


@hot_loop
def write_pair_words(
    contexts: FlatArray,
    nexts: FlatArray,
    counts: FlatArray,
    classes: FlatArray,
    symbols: FlatArray,
    escapes: FlatArray,
    codes: FlatArray,
    lengths: FlatArray,
    rule_bits: int,
    words: FlatArray,
) -> tuple[int, int]:
    """What `rows.encode_rows` takes of pairs; gives (bits of all rows' pairs, bits of the longest one)."""
    bits = 0
    longest = 0
    for pair in range(len(words)):
        symbol = item(symbols, pair)
        rest = 0
        if symbol < 0:
            symbol = item(escapes, item(contexts, pair))
            rest = rule_bits
        length = item(lengths, symbol)
        code = item(codes, symbol)
        if rest:
            code |= item(nexts, pair) << length
            length += rest
        words[pair] = code << CODE_SHIFT | item(classes, pair) << 16 | length
        bits += length * item(counts, pair)
        longest = max(longest, length)
    return bits, longest


def choose_codes(
    steps: RowSteps, contexts: _Integers, nexts: _Integers, rule_count: int, use_compiled: bool
) -> RowCodes:
    """The codes for rows whose pairs are of the rules `contexts`, before, and `nexts`, all below `rule_count`."""
    rows = steps.parts[-1].last
    rule_bits = max(1, (rule_count - 1).bit_length())
    successors = choose_successors(contexts, steps.counts, rule_count, rule_bits, use_compiled)
    classes, class_counts = choose_classes(
        steps.histogram, steps.token_counts, successors.has_place, rows, use_compiled
    )
    sizes = RECORD_WORDS + (1 << successors.bits)
    records = 1 + np.cumsum(sizes) - sizes
    states = records << 12 | successors.bits << 8
    words, pair_words, pair_bits, longest_pair = _successor_codes(
        successors, steps.counts, contexts, nexts, classes, records, states, rule_bits, use_compiled
    )
    delta_bits = _delta_bits(class_counts, rows)
    deltas, mark_words, token_bits, longest_token = _delta_codes(class_counts, delta_bits, use_compiled)
    return RowCodes(
        words.astype(np.uint32), records, states.astype(np.uint32), rule_bits, deltas.astype(np.uint16), delta_bits,
        len(class_counts), pair_words, mark_words, pair_bits + token_bits, longest_pair + longest_token,
    )  # fmt: skip


def _successor_codes(
    successors: Successors,
    counts: _Integers,
    contexts: _Integers,
    nexts: _Integers,
    classes: _Integers,
    records: _Integers,
    states: _Integers,
    rule_bits: int,
    use_compiled: bool,
) -> tuple[_Integers, _Integers, int, int]:
    """(decoding tables of all rules' codes, the pairs' words, bits of all rows' pairs, of the longest one)."""
    kept = successors.kept
    most = int(kept.sum()) + len(kept)
    firsts = np.empty(len(kept) + 1, dtype=np.int64)
    symbol_counts, payloads, codes, lengths = np.empty((4, most), dtype=np.int64)
    symbols, escapes = np.full(len(counts), -1, dtype=np.int64), np.empty(len(kept), dtype=np.int64)
    run_hot(
        place_symbols, use_compiled, successors.pairs, successors.firsts, kept, counts, nexts, classes, states, firsts,
        symbol_counts, payloads, symbols, escapes,
    )  # fmt: skip
    starts = records + RECORD_WORDS
    tables = np.zeros(int(starts[-1]) + (1 << int(successors.bits[-1])), dtype=np.int64)
    run_hot(
        make_codes, use_compiled, firsts, symbol_counts, payloads, successors.bits, starts, codes, lengths, tables,
        np.empty(4 * int(kept.max()) + 8, dtype=np.int64),
    )  # fmt: skip
    words = np.empty(len(counts), dtype=np.int64)
    bits, longest = run_hot(
        write_pair_words, use_compiled, contexts, nexts, counts, classes, symbols, escapes, codes, lengths, rule_bits,
        words,
    )  # fmt: skip
    return tables, words, bits, longest


_BASES, _EXTRAS = np.array(TOKENS, dtype=np.int64).T
_EXTRAS_SAID = np.where(np.arange(len(MARK_TOKENS)) < NEAR, _EXTRAS[MARK_TOKENS], 0)
_SAID = np.arange(len(MARK_TOKENS)) - _BASES[MARK_TOKENS] & (1 << _EXTRAS_SAID) - 1
_MARK_LENGTHS = _EXTRAS[MARK_TOKENS] - _EXTRAS_SAID << 8 | _EXTRAS_SAID
"""Of each token, its base and how many further bits it has; of each mark, how many of them it says, these bits, and
the rest of its word."""


def _delta_codes(class_counts: _Integers, delta_bits: int, use_compiled: bool) -> tuple[_Integers, _Integers, int, int]:
    """(decoding tables of all classes' codes, the marks' words, bits of all rows' deltas, of the longest one)."""
    group, token = np.nonzero(class_counts)
    payload = np.minimum(_EXTRAS, DELTA_EXTRA_U32) << 4 | _BASES << 8
    counts = class_counts[group, token]
    tables, codes, lengths = _codes_of_groups(
        use_compiled, group, counts, payload[token], np.full(len(class_counts), delta_bits, dtype=np.int64),
        np.arange(len(class_counts)) << delta_bits,
    )  # fmt: skip
    token_codes, token_lengths = np.zeros((2, *class_counts.shape), dtype=np.int64)
    token_codes[group, token], token_lengths[group, token] = codes, lengths
    own = token_lengths[:, MARK_TOKENS]
    words = np.zeros((len(class_counts), 1 << PAIR_SHIFT), dtype=np.int64)
    words[:, : len(MARK_TOKENS)] = (token_codes[:, MARK_TOKENS] | _SAID << own) << CODE_SHIFT | own + _MARK_LENGTHS
    lengths += _EXTRAS[token]
    return tables, words.reshape(-1), int((lengths * counts).sum()), int(lengths.max(initial=0))


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
