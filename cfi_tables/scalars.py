"""Fixed-size and LEB128 integers read from little-endian bytes, as hot loops (DWARF 5 §7.6).

Reads that end behind `end` give position -1, which every later read passes on, so a decoder checks once. A sum
of bytes, not shifts of them, keeps numba on signed 64-bit integers.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop, machine_load

_LEB_LIMIT = 1 << 55  # a larger value is no offset, length or register of any real program


@machine_load
def item(array: FlatArray, at: int) -> int:
    """The item at `at` of an array of signed integers; the caller has checked the bounds."""
    value: int = 0 + array[at]
    return value


@machine_load
def put_item(array: FlatArray, at: int, value: int) -> None:
    """Write the item at `at` of an array of signed integers; the caller has checked the bounds."""
    array[at] = value


@machine_load
def fetch_ahead(data: FlatArray, at: int) -> None:
    """Have the processor fetch the item at `at`, which is read soon; nothing else happens, wherever that is."""


@machine_load
def read_u8(data: FlatArray, at: int) -> int:
    """The byte at `at`; the caller has checked the bounds."""
    value: int = 0 + data[at]
    return value


@machine_load
def read_u16(data: FlatArray, at: int) -> int:
    """The unsigned 16-bit integer at `at`; the caller has checked the bounds."""
    value: int = 0 + data[at] + data[at + 1] * 256
    return value


@machine_load
def read_i16(data: FlatArray, at: int) -> int:
    """The signed 16-bit integer at `at`; the caller has checked the bounds."""
    value = read_u16(data, at)
    return value - ((value & 0x8000) << 1)


@machine_load
def read_u32(data: FlatArray, at: int) -> int:
    """The unsigned 32-bit integer at `at`; the caller has checked the bounds."""
    value: int = 0 + data[at] + data[at + 1] * 256 + data[at + 2] * 65536 + data[at + 3] * 16777216
    return value


@machine_load
def read_i32(data: FlatArray, at: int) -> int:
    """The signed 32-bit integer at `at`; the caller has checked the bounds."""
    value = read_u32(data, at)
    return value - ((value & 0x80000000) << 1)


@machine_load
def read_i64(data: FlatArray, at: int) -> int:
    """The 64-bit integer at `at` as an int64 bit pattern; the caller has checked the bounds."""
    return read_u32(data, at) + read_i32(data, at + 4) * 4294967296


@machine_load
def write_i64(data: FlatArray, at: int, value: int) -> None:
    """Write a 64-bit integer at `at`; the caller has checked the bounds, and the value is not negative."""
    for place in range(at, at + 8):
        data[place] = value & 255
        value >>= 8


@hot_loop
def read_uleb(data: FlatArray, at: int, end: int) -> tuple[int, int]:
    """(value, next position) of the unsigned LEB128 at `at`; position -1 when it is cut or above 2**55."""
    value = 0
    shift = 0
    while 0 <= at < end:
        byte = 0 + data[at]
        at += 1
        if shift < 56:
            value |= (byte & 127) << shift
        elif byte & 127:
            return 0, -1
        shift += 7
        if byte < 128:
            if value > _LEB_LIMIT:
                return 0, -1
            return value, at
    return 0, -1


@hot_loop
def read_sleb(data: FlatArray, at: int, end: int) -> tuple[int, int]:
    """(value, next position) of the signed LEB128 at `at`; position -1 when it is cut or outside of ±2**55."""
    value = 0
    shift = 0
    while 0 <= at < end:
        byte = 0 + data[at]
        at += 1
        if shift < 56:
            value |= (byte & 127) << shift
        elif (byte & 127) != (127 if value & (1 << 55) else 0):
            return 0, -1
        shift += 7
        if byte < 128:
            sign = 56 if shift > 56 else shift
            if value & (1 << (sign - 1)):
                value -= 1 << sign
            return value, at
    return 0, -1
