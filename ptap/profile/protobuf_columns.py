"""Numbers of protocol buffers written to arrays of bytes, as hot loops (protobuf.dev, "Encoding").

A number is int64 bits; a writer gives the position behind what it wrote, and the caller has made room.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop

VARINT = 0
LENGTH = 2
"""Wire types: of numbers, and of what begins with its length."""
LONGEST = 10
"""Bytes of a number, at most."""

_REST = (1 << 57) - 1
"""What is left of 64 bits behind the first seven, whatever the sign is."""


@hot_loop
def number_size(value: int) -> int:
    """How many bytes a number takes."""
    size, rest = 1, (value >> 7) & _REST
    while rest:
        size, rest = size + 1, rest >> 7
    return size


@hot_loop
def put_number(out: FlatArray, at: int, value: int) -> int:
    """Write a number."""
    low, rest = value & 127, (value >> 7) & _REST
    while rest:
        out[at] = low | 128
        at += 1
        low, rest = rest & 127, rest >> 7
    out[at] = low
    return at + 1


@hot_loop
def field_size(value: int) -> int:
    """How many bytes a field takes whose tag is one byte; none for 0, which is what an absent one is read as."""
    return 1 + number_size(value) if value else 0


@hot_loop
def put_field(out: FlatArray, at: int, tag: int, value: int) -> int:
    """Write a field that is a number."""
    if value:
        out[at] = tag
        at = put_number(out, at + 1, value)
    return at
