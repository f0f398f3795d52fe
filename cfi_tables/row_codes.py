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
from cfi_tables.scalars import item, read_u8
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


@hot_loop
def place_tokens(
    class_counts: FlatArray,
    token_payloads: FlatArray,
    firsts: FlatArray,
    counts: FlatArray,
    payloads: FlatArray,
    tokens: FlatArray,
) -> int:
    """Lay out the tokens that each class has, as `make_codes` takes them; gives how many one of them has at most."""
    count = 0
    most = 0
    for group in range(len(firsts) - 1):
        firsts[group] = count
        first = count
        for token in range(TOKEN_COUNT):
            rows = item(class_counts, group * TOKEN_COUNT + token)
            if rows == 0:
                continue
            place = count
            while place > first and item(counts, place - 1) < rows:
                counts[place] = item(counts, place - 1)
                tokens[place] = item(tokens, place - 1)
                place -= 1
            counts[place] = rows
            tokens[place] = token
            count += 1
        for place in range(first, count):
            payloads[place] = token_payloads[tokens[place]]
        most = max(most, count - first)
    firsts[len(firsts) - 1] = count
    return most


@hot_loop
def write_mark_words(
    firsts: FlatArray,
    tokens: FlatArray,
    counts: FlatArray,
    codes: FlatArray,
    lengths: FlatArray,
    extras: FlatArray,
    mark_tokens: FlatArray,
    said: FlatArray,
    mark_lengths: FlatArray,
    own: FlatArray,
    words: FlatArray,
) -> tuple[int, int]:
    """What `rows.encode_rows` takes of marks; gives (bits of all rows' deltas, bits of the longest one).

    `own`: scratch, the code and its length of each token of a class.
    """
    bits = 0
    longest = 0
    for group in range(len(firsts) - 1):
        for token in range(2 * TOKEN_COUNT):
            own[token] = 0
        for place in range(firsts[group], firsts[group + 1]):
            token = item(tokens, place)
            length = item(lengths, place)
            own[2 * token] = item(codes, place)
            own[2 * token + 1] = length
            length += item(extras, token)
            bits += length * item(counts, place)
            longest = max(longest, length)
        for mark in range(len(mark_tokens)):
            token = read_u8(mark_tokens, mark)
            length = item(own, 2 * token + 1)
            code = item(own, 2 * token) | item(said, mark) << length
            words[(group << PAIR_SHIFT) + mark] = code << CODE_SHIFT | length + item(mark_lengths, mark)
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
    deltas, delta_bits, mark_words, token_bits, longest_token = _delta_codes(class_counts, rows, use_compiled)
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


_BASES, _EXTRAS = (np.array(column, dtype=np.int64) for column in zip(*TOKENS, strict=True))
_PAYLOADS = np.minimum(_EXTRAS, DELTA_EXTRA_U32) << 4 | _BASES << 8
_EXTRAS_SAID = np.where(np.arange(len(MARK_TOKENS)) < NEAR, _EXTRAS[MARK_TOKENS], 0)
_SAID = np.arange(len(MARK_TOKENS)) - _BASES[MARK_TOKENS] & (1 << _EXTRAS_SAID) - 1
_MARK_LENGTHS = _EXTRAS[MARK_TOKENS] - _EXTRAS_SAID << 8 | _EXTRAS_SAID
"""Of each token, its base, how many further bits it has and its payload; of each mark, how many of them it says, these
bits, and the rest of its word."""


def _delta_codes(class_counts: _Integers, rows: int, use_compiled: bool) -> tuple[_Integers, int, _Integers, int, int]:
    """(decoding tables of all classes' codes, bits of each, the marks' words, bits of all rows' deltas, of the longest
    one).
    """
    classes = len(class_counts)
    firsts = np.empty(classes + 1, dtype=np.int64)
    counts, payloads, tokens, codes, lengths = np.zeros((5, class_counts.size), dtype=np.int64)
    most = run_hot(place_tokens, use_compiled, class_counts.reshape(-1), _PAYLOADS, firsts, counts, payloads, tokens)
    delta_bits = _delta_bits(most, rows)
    tables = np.zeros(classes << delta_bits, dtype=np.int64)
    run_hot(
        make_codes, use_compiled, firsts, counts, payloads, np.full(classes, delta_bits, dtype=np.int64),
        np.arange(classes) << delta_bits, codes, lengths, tables, np.empty(4 * most + 8, dtype=np.int64),
    )  # fmt: skip
    words = np.zeros(classes << PAIR_SHIFT, dtype=np.int64)
    bits, longest = run_hot(
        write_mark_words, use_compiled, firsts, tokens, counts, codes, lengths, _EXTRAS, MARK_TOKENS, _SAID,
        _MARK_LENGTHS, np.zeros(2 * TOKEN_COUNT, dtype=np.int64), words,
    )  # fmt: skip
    return tables, delta_bits, words, bits, longest


def _delta_bits(most: int, rows: int) -> int:
    """As many bits as the tokens of each class need, `most` at most, and more where many rows gain by it."""
    return max((most - 1).bit_length(), 4 if rows < 1000 else 6 if rows < 20000 else 7 if rows < 200000 else 8)
