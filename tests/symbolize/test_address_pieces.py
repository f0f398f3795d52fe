"""Disjoint pieces and uncovered parts, against asking every single address."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unwind.symbolize.address_pieces import disjoint_pieces, uncovered
from unwind.symbolize.index_encoding import pack_columns
from unwind.symbolize.index_layout import BLOCK
from unwind.symbolize.packed_column import pack

Ranges = list[tuple[int, int]]

RANGES = st.lists(st.tuples(st.integers(-40, 40), st.integers(1, 20)), max_size=12).map(
    lambda pairs: [(low, low + size) for low, size in pairs]
)


def columns(ranges: Ranges) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    return table[:, 0].copy(), table[:, 1].copy()


@given(RANGES)
def test_the_range_that_begins_last_counts(ranges: Ranges) -> None:
    low, high, index = disjoint_pieces(*columns(ranges))
    assert np.all(low < high) and np.all(high[:-1] <= low[1:])
    for address in range(-45, 65):
        covering = [each for each in ranges if each[0] <= address < each[1]]
        inside = np.flatnonzero((low <= address) & (address < high))
        assert len(inside) == bool(covering)
        if covering:
            assert ranges[int(index[inside[0]])] == max(covering)


@given(RANGES, RANGES)
def test_parts_that_nothing_covers(ranges: Ranges, covers: Ranges) -> None:
    cover_low, cover_high, _ = disjoint_pieces(*columns(covers))
    low, high, index = uncovered(*columns(ranges), cover_low, cover_high)
    assert np.all(low < high) and np.all(low[:-1] <= low[1:])
    for address in range(-45, 65):
        covered = any(begin <= address < end for begin, end in covers)
        wanted = [] if covered else [at for at, (begin, end) in enumerate(ranges) if begin <= address < end]
        assert sorted(index[(low <= address) & (address < high)].tolist()) == wanted


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**62)), max_size=700), st.data())
def test_packed_values_come_back(values: list[int], data: st.DataObject) -> None:
    column = pack(np.array(values, dtype=np.int64))
    assert column.blocks().tolist() == values
    blocks = -(-len(values) // BLOCK)
    chosen = data.draw(st.lists(st.integers(0, max(0, blocks - 1)), unique=True, max_size=blocks).map(sorted))
    wanted = [value for block in chosen for value in values[block * BLOCK : (block + 1) * BLOCK]]
    assert column.blocks(np.array(chosen, dtype=np.int64)).tolist() == wanted


@given(st.lists(st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**62)), max_size=600), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)  # the first run compiles
def test_both_ways_of_packing_give_the_same(values: list[list[int]]) -> None:
    columns = {str(number): np.array(each, dtype=np.int64) for number, each in enumerate(values)}
    for name, column in pack_columns(columns, plain=False).items():
        same = pack(columns[name])
        assert (column.data.tobytes(), column.begins.tolist()) == (same.data.tobytes(), same.begins.tolist())
