"""LEB128 and fixed-size integers of all 64 bits, for the hot loops that read DWARF in bulk (DWARF 5 §7.6).

Single entries are read with integer.py. CFI has readers of its own (cfi_tables/scalars.py), where no larger number than
2**55 is sound; the machine loads of that file serve here too.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.hot_loop import hot_loop, wrap64
from cfi_tables.scalars import read_i64, read_u16, read_u32


@hot_loop
def skip_leb128(data: Any, position: int, end: int) -> int:
    """Position after the LEB128 at `position`, -1 when it does not end before `end`."""
    while position < end:
        if data[position] < 128:
            return position + 1
        position += 1
    return -1


@hot_loop
def leb128_value(data: Any, position: int, signed: int) -> int:
    """The LEB128 at `position`, which `skip_leb128` has accepted, as a signed 64-bit pattern."""
    value = 0
    shift = 0
    while True:
        byte = 0 + data[position]
        if shift < 64:
            value = wrap64(value | wrap64((byte & 127) << shift))
        shift += 7
        position += 1
        if byte < 128:
            if signed and byte & 64 and shift < 64:
                value = wrap64(value - (1 << shift)) if shift < 63 else wrap64(value | wrap64(-1 << 63))
            return value


@hot_loop
def fixed_value(data: Any, position: int, size: int) -> int:
    """The little-endian integer of `size` bytes at `position`, as a signed 64-bit pattern; all lie inside of `data`."""
    if size == 4:
        return read_u32(data, position)
    if size == 2:
        return read_u16(data, position)
    if size == 8:
        return read_i64(data, position)
    value: int = 0 + data[position]
    for index in range(1, size):
        value = wrap64(value | wrap64((0 + data[position + index]) << (8 * index)))
    return value
