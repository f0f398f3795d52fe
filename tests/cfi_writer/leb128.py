"""LEB128 numbers (DWARF 5 §7.6) as bytes."""

from __future__ import annotations


def uleb(value: int) -> bytes:
    """An unsigned number, as short as it goes."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def sleb(value: int) -> bytes:
    """A signed number, as short as it goes."""
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value & 127])
