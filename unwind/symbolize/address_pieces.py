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
    part_low, part_high, part = _gaps(np.flatnonzero(~clear), low, high, following, cover_low, cover_high)
    columns = [np.concatenate(each) for each in ((low[whole], part_low), (high[whole], part_high), (whole, part))]
    order = np.argsort(columns[0], kind="stable")
    return columns[0][order], columns[1][order], columns[2][order]


def _gaps(
    ranges: Int64s, low: Int64s, high: Int64s, following: Int64s, cover_low: Int64s, cover_high: Int64s
) -> tuple[Int64s, Int64s, Int64s]:
    """(low, high, range) of what lies before, between and behind the covers of each of the `ranges` (indices)."""
    first = np.maximum(following[ranges] - 1, 0)
    last = np.maximum(np.searchsorted(cover_low, high[ranges], side="left"), first)
    counts = last - first + 1
    owner = np.repeat(np.arange(len(ranges)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    behind = first[owner] + number
    lowest, highest = low[ranges][owner], high[ranges][owner]
    begin = np.where(number > 0, np.maximum(np.append(cover_high, 0)[behind - 1], lowest), lowest)
    end = np.where(number < counts[owner] - 1, np.minimum(np.append(cover_low, 0)[behind], highest), highest)
    kept = begin < end
    return begin[kept], end[kept], ranges[owner[kept]]
