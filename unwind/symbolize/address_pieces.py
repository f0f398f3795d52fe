"""Ranges of addresses made disjoint: which of several overlapping ones counts where, and what none covers.

Addresses are int64 columns. Sound files have next to no overlaps, so whole columns are looked at by NumPy and only what
does overlap is gone through.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


def disjoint_pieces(low: Int64s, high: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """(low, high, index of the range) of pieces that cover what the ranges cover, sorted.

    Where several ranges cover an address, the one that begins last counts; of those the one that ends last.
    """
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    if len(low) < 2:
        return low, high, order
    reach = np.maximum.accumulate(high)
    apart = np.append(True, low[1:] >= reach[:-1])
    begins = np.flatnonzero(apart)
    sizes = np.diff(np.append(begins, len(low)))
    single = begins[sizes == 1]
    found = [(low[single], high[single], order[single])]
    for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        part = slice(begin, begin + size)
        pieces = np.array(_sweep(low[part].tolist(), high[part].tolist()), dtype=np.int64).reshape(-1, 3)
        found.append((pieces[:, 0], pieces[:, 1], order[part][pieces[:, 2]]))
    columns = [np.concatenate(each) for each in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return columns[0][order], columns[1][order], columns[2][order]


def _sweep(lows: list[int], highs: list[int]) -> list[tuple[int, int, int]]:
    pieces: list[tuple[int, int, int]] = []
    open_ranges: list[tuple[int, int]] = []
    position = lows[0]

    def advance(limit: int) -> int:
        at = position
        while open_ranges and at < limit:
            index, high = -open_ranges[0][0], open_ranges[0][1]
            if high <= at:
                heappop(open_ranges)
                continue
            pieces.append((at, min(high, limit), index))
            at = min(high, limit)
        return limit

    for index, low in enumerate(lows):
        position = advance(low)
        heappush(open_ranges, (-index, highs[index]))
    advance(max(highs))
    return pieces


def uncovered(low: Int64s, high: Int64s, cover_low: Int64s, cover_high: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """(low, high, index of the range) of the parts of ranges that none of the sorted, disjoint covers covers."""
    following = np.searchsorted(cover_low, low, side="right")
    before = np.append(cover_high, np.iinfo(np.int64).min)[following - 1]
    after = np.append(cover_low, np.iinfo(np.int64).max)[following]
    clear = (before <= low) & (after >= high) if len(cover_low) else np.ones(len(low), dtype=bool)
    whole = np.flatnonzero(clear)
    parts: list[tuple[int, int, int]] = []
    for index in np.flatnonzero(~clear).tolist():
        position, end = int(low[index]), int(high[index])
        first = max(0, int(following[index]) - 1)
        last = int(np.searchsorted(cover_low, end, side="left"))
        covers = zip(cover_low[first:last].tolist(), cover_high[first:last].tolist(), strict=True)
        for cover_begin, cover_end in covers:
            if cover_begin > position:
                parts.append((position, cover_begin, index))
            position = max(position, cover_end)
        if position < end:
            parts.append((position, end, index))
    pieces = [np.column_stack([low[whole], high[whole], whole]), np.array(parts, dtype=np.int64).reshape(-1, 3)]
    found = np.concatenate(pieces)
    found = found[np.argsort(found[:, 0], kind="stable")]
    return found[:, 0], found[:, 1], found[:, 2]
