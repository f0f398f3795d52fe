"""Captured memory as hot loops see it: slices of raw bytes, one beside the other, found by address.

The bytes of all slices of a sample lie in one flat byte array. Each slice is described by SLICE_WIDTH int64
values in a second array: its address, where its bytes begin, how many they are, and 1 when the capture's size
limit ended it although the memory goes on.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop, wrap64

SLICE_WIDTH = 4

# What reading a word came to.
READ = 0
NOT_CAPTURED = 1
BEYOND_CUT = 2


@hot_loop
def read_integer(
    content: FlatArray, slices: FlatArray, first: int, last: int, address: int, size: int
) -> tuple[int, int]:
    """The little-endian integer of `size` (1-8) bytes at `address`, from slices `first` to `last` - 1.

    Returns (READ, value), (NOT_CAPTURED, 0), or (BEYOND_CUT, 0) where the address lies past a slice that the
    size limit ended and before any other slice. Eight bytes give a signed value (a bit pattern), fewer an
    unsigned one.
    """
    status = NOT_CAPTURED
    for index in range(first, last):
        at = index * SLICE_WIDTH
        start = slices[at]
        if address < start:
            continue
        # Not by their distance: that of two any addresses may be more than an int64 holds.
        if address <= start + (slices[at + 2] - size):
            begin = slices[at + 1] + (address - start)
            value = 0
            for byte in range(size):
                value |= content[begin + byte] << (8 * byte)
            return READ, wrap64(value)
        if slices[at + 3] != 0:
            status = BEYOND_CUT
    return status, 0
