"""The packed words of a hit: entries of a code and a lower half → words of 64 bits (relay_reader/record_schema.py).

A record has some hundred of them, and hardly one of a half that has no code: all are read in one go.
"""

from __future__ import annotations

import struct

from relay_reader import record_layout as layout

_ENTRIES = layout.GROUP_ENTRIES
_ONES = 0xFFFFFFFF << 32
_TOLD = "".join(f"{code:x}" for code in range(layout.HIGH_TOLD, layout.HIGH_OTHER))
_OTHER = f"{layout.HIGH_OTHER:x}"


class PackedWordsError(ValueError):
    """The words are damaged."""


def packed_size(count: int, highs: int) -> int:
    """The bytes that so many words take, with the upper halves that are told."""
    return 4 * (count + -(-count // _ENTRIES) + highs)


def unpack_words(content: memoryview, count: int, highs: int) -> list[int]:
    """The `count` words that `content` begins with, of which `highs` halves are told. Raises PackedWordsError."""
    size = packed_size(count, highs)
    if size > len(content):
        raise PackedWordsError
    lows = list(struct.unpack_from(f"<{size // 4}I", content))
    told = [high << 32 for high in lows[len(lows) - highs :]]
    del lows[len(lows) - highs :]
    codes = _code_digits(lows[:: _ENTRIES + 1])
    del lows[:: _ENTRIES + 1]
    if codes.count("0", count) != len(codes) - count:
        raise PackedWordsError
    halves = {"0": 0, "1": _ONES, **dict(zip(_TOLD, told, strict=False))}
    others = iter(told[len(_TOLD) :])
    if codes.count(_OTHER) != max(highs - len(_TOLD), 0):
        raise PackedWordsError
    try:
        if highs <= len(_TOLD):
            return [halves[code] | low for code, low in zip(codes, lows, strict=False)]
        pairs = zip(codes, lows, strict=False)
        return [(next(others) if code == _OTHER else halves[code]) | low for code, low in pairs]
    except KeyError:
        raise PackedWordsError from None


def _code_digits(groups: list[int]) -> str:
    """The codes of all groups in order, each as its hexadecimal digit."""
    digits = struct.pack(f"<{len(groups)}I", *groups).hex()
    # Of each byte the upper half comes first there.
    ordered = [""] * len(digits)
    ordered[::2], ordered[1::2] = digits[1::2], digits[::2]
    return "".join(ordered)
