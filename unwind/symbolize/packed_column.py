"""Columns of small integers, packed in LEB128, of which any block of values can be read alone.

A byte or two a value, and still looked up where they lie: NumPy unpacks a block, or all of them, in a few passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.index_layout import BLOCK


@dataclass(frozen=True, slots=True)
class PackedColumn:
    """`count` values in `data` (bytes); `begins` (uint32) has the place of each block, and the end of the last one."""

    data: NDArray[np.uint8]
    begins: NDArray[np.uint32]
    count: int

    def blocks(self, chosen: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The values of the chosen blocks (growing indices, None: all) one after the other.

        Raises ValueError when the column is damaged: a block does not hold as many values as it should.
        """
        if chosen is None or len(chosen) == len(self.begins) - 1:
            values, wanted = unpack(self.data), self.count
        else:
            lows = self.begins[chosen].astype(np.int64)
            sizes = self.begins[chosen + 1].astype(np.int64) - lows
            if len(chosen) and (sizes.min() < 0 or int((lows + sizes).max()) > len(self.data)):
                raise ValueError("a block lies outside of its column")
            places = np.repeat(lows - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
            values = unpack(self.data[places])
            wanted = int(np.minimum(BLOCK, self.count - chosen * BLOCK).sum())
        if len(values) != wanted:
            raise ValueError(f"{len(values)} values instead of {wanted}")
        return values


def unpack(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """All values of a run of whole LEB128 numbers."""
    last = data < 128
    ends = np.flatnonzero(last)
    values = data[ends].astype(np.int64)
    if len(ends) == len(data):
        return values
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    longer = np.flatnonzero(lengths)
    # The bytes in front of the last one, which holds the highest bits.
    values[longer] <<= 7 * np.minimum(lengths[longer], 9)
    for index in range(9):
        if not len(longer):
            break
        values[longer] |= (data[starts[longer] + index].astype(np.int64) & 127) << (7 * index)
        longer = longer[lengths[longer] > index + 1]
    return values


def pack(values: NDArray[np.int64]) -> PackedColumn:
    """A column of `values`, none of which is negative."""
    longer = np.flatnonzero(values > 127)
    places = np.arange(len(values))
    extra = np.zeros(len(longer), dtype=np.int64)
    for bits in range(7, 63, 7):
        more = values[longer] >> bits != 0
        if not more.any():
            break
        extra += more
    if len(longer):
        shifts = np.zeros(len(values), dtype=np.int64)
        shifts[longer] = extra
        # Each value stands behind the further bytes of those before it.
        places += np.cumsum(shifts) - shifts
    size = len(values) + int(extra.sum())
    data = np.empty(size, dtype=np.uint8)
    data[places] = values & 127
    starts, rest = places[longer], values[longer] >> 7
    index = 0
    while len(starts):
        data[starts + index] |= 128
        index += 1
        data[starts + index] = rest & 127
        rest >>= 7
        going = rest > 0
        starts, rest = starts[going], rest[going]
    begins = np.append(places[::BLOCK], size).astype(np.uint32)
    return PackedColumn(data, begins, len(values))
