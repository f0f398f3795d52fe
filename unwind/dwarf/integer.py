"""Integers and strings of the DWARF byte stream (DWARF 5 §7.6), read from bytes at a position.

Every reader raises IndexError when the data ends early (never a short value); callers turn it into a
DwarfError that names the section. For one entry at a time: bulk passes have hot loops of their own, the line program
and the scan of functions for all 64 bits (line_program.py), and CFI, where no larger number than 2**55 is sound, with
a check that comes for nothing (cfi_tables/scalars.py).
"""

from __future__ import annotations

from typing import TypeAlias

SectionData: TypeAlias = "bytes | memoryview"
"""The contents of a section: mostly a view of the mapped file, which is never copied as a whole."""

_STRING_STEP = 256


def read_unsigned(data: SectionData, position: int, size: int) -> int:
    """The little-endian unsigned integer of `size` bytes at `position`."""
    end = position + size
    if position < 0 or end > len(data):
        raise IndexError(position)
    return int.from_bytes(data[position:end], "little")


def read_uleb128(data: SectionData, position: int) -> tuple[int, int]:
    """The unsigned LEB128 at `position`, and the position after it."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value = byte & 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 140:  # Padding beyond any sane producer's: damaged data.
            raise IndexError(position)


def read_sleb128(data: SectionData, position: int) -> tuple[int, int]:
    """The signed LEB128 at `position`, and the position after it."""
    value = 0
    shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if byte & 0x40:
                value -= 1 << shift
            return value, position
        if shift > 140:
            raise IndexError(position)


def read_string(data: SectionData, position: int) -> tuple[str, int]:
    """The NUL-terminated string at `position`, and the position after its NUL.

    Bytes that are not UTF-8 are shown as escapes, so that every string can be printed.
    """
    if position < 0 or position >= len(data):
        raise IndexError(position)
    text = string_bytes(data, position)
    return text.decode("utf-8", "backslashreplace"), position + len(text) + 1


def string_bytes(data: SectionData, position: int) -> bytes:
    """The bytes of the NUL-terminated string at `position`, which lies in `data`."""
    step = _STRING_STEP
    while True:
        text = bytes(data[position : position + step])
        end = text.find(b"\0")
        if end >= 0:
            return text[:end]
        if position + step >= len(data):
            raise IndexError(position)
        step *= 8
