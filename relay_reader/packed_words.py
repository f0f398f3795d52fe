"""The packed words of a hit: entries of a code and a lower half → words of 64 bits (relay_reader/record_schema.py).

A record has some hundred of them, and few halves: what lies between two tellings is read in one go.
"""

from __future__ import annotations

import struct

from relay_reader import record_layout as layout

_ENTRIES = layout.GROUP_ENTRIES
_ONES = 0xFFFFFFFF << 32
_TOLD = "".join(f"{code:x}" for code in range(layout.HIGH_TOLD, layout.HIGH_NEWEST))
_NEWEST, _TELLS = f"{layout.HIGH_NEWEST:x}", f"{layout.HIGH_TELLS:x}"


class PackedWordsError(ValueError):
    """The entries are damaged."""


def packed_size(entries: int) -> int:
    """The bytes that so many entries take."""
    return 4 * (entries + -(-entries // _ENTRIES))


def unpack_words(content: memoryview, entries: int) -> list[int]:
    """The words of the `entries` that `content` begins with, in order. Raises PackedWordsError."""
    size = packed_size(entries)
    if size > len(content):
        raise PackedWordsError
    lows = list(struct.unpack_from(f"<{size // 4}I", content))
    codes = _code_digits(lows[:: _ENTRIES + 1])
    del lows[:: _ENTRIES + 1]
    if codes.count("0", entries) != len(codes) - entries:
        raise PackedWordsError
    highs = {"0": 0, "1": _ONES}
    words: list[int] = []
    begin = told = 0
    try:
        while (tells := codes.find(_TELLS, begin, entries)) >= 0:
            words += [highs[code] | low for code, low in zip(codes[begin:tells], lows[begin:tells], strict=True)]
            highs[_NEWEST] = high = lows[tells] << 32
            if told < len(_TOLD):
                highs[_TOLD[told]] = high
            told += 1
            begin = tells + 1
        words += [highs[code] | low for code, low in zip(codes[begin:entries], lows[begin:], strict=True)]
    except KeyError:
        raise PackedWordsError from None
    return words


def _code_digits(groups: list[int]) -> str:
    """The codes of all groups in order, each as its hexadecimal digit."""
    digits = struct.pack(f"<{len(groups)}I", *groups).hex()
    # Of each byte the upper half comes first there.
    ordered = [""] * len(digits)
    ordered[::2], ordered[1::2] = digits[1::2], digits[::2]
    return "".join(ordered)
