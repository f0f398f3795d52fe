"""The packed words of a hit: entries of a code and a lower half → words of 64 bits (relay_reader/record_schema.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from relay_reader import record_layout as layout

_GROUP_WORDS = layout.GROUP_ENTRIES + 1
_SHIFTS = np.arange(0, 4 * layout.GROUP_ENTRIES, 4, dtype=np.uint32)
_FIXED_HIGHS = np.array([0, 0xFFFFFFFF], dtype=np.uint32)
"""Those of codes below HIGH_TOLD."""


class PackedWordsError(ValueError):
    """The entries are damaged."""


def packed_size(entries: int) -> int:
    """The bytes that so many entries take."""
    return 4 * (entries + -(-entries // layout.GROUP_ENTRIES))


def unpack_words(content: memoryview, entries: int) -> npt.NDArray[np.uint64]:
    """The words of the `entries` that `content` begins with, in order. Raises PackedWordsError."""
    size = packed_size(entries)
    if size > len(content):
        raise PackedWordsError
    groups = -(-entries // layout.GROUP_ENTRIES)
    # The last group, too, as if it was full.
    filled = bytes(content[:size]).ljust(4 * _GROUP_WORDS * groups, b"\0")
    table = np.frombuffer(filled, dtype="<u4").reshape(groups, _GROUP_WORDS)
    codes = (table[:, :1] >> _SHIFTS & 15).ravel()
    lows = table[:, 1:].ravel()[:entries]
    if codes[entries:].any():
        raise PackedWordsError
    codes = codes[:entries]
    tells = codes == layout.HIGH_TELLS
    highs = np.concatenate((_FIXED_HIGHS, lows[tells]))
    told = np.cumsum(tells)
    is_word = ~tells
    codes, told, lows = codes[is_word], told[is_word], lows[is_word]
    # Where none was told, there is no newest one, and its place is behind those that there are.
    newest = np.maximum(told - 1, 0) + layout.HIGH_TOLD
    place = np.where(codes == layout.HIGH_NEWEST, newest, codes)
    if (place >= told + layout.HIGH_TOLD).any():
        raise PackedWordsError
    words: npt.NDArray[np.uint64] = highs[place].astype(np.uint64) << np.uint64(32) | lows
    return words
