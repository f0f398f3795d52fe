"""The memory that values on the stacks lead to, copied page by page while the process stands still.

Followed breadth first from the words of the stacks and registers, until a budget is spent: what was not copied is
unknown afterwards, never read from a later moment. Only memory that can be written is copied; the rest is as in files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from ptap.backend.ptrace.memory_map import MapRow
from ptap.snapshot.memory_copy import CopiedMemory, copy_memory

_PAGE_BITS = 12
_PAGE = 1 << _PAGE_BITS
_BUDGET = 8 << 20
"""Bytes that are copied at most."""
_ROUNDS = 4

Words = NDArray[np.uint64]


def copy_pointed_memory(
    pid: int,
    rows: Sequence[MapRow],
    words: Sequence[int],
    stacks: Sequence[tuple[int, memoryview]],
    copied: CopiedMemory,
) -> None:
    """Add to `copied` the pages that `words` (registers) and the words of `stacks` lead to."""
    writable = [row for row in rows if row.writable]
    if not writable:
        return
    starts = np.array([row.start for row in writable], dtype=np.uint64)
    ends = np.array([row.end for row in writable], dtype=np.uint64)
    known = _stack_pages(stacks)
    fresh = np.concatenate([np.array(words, dtype=np.uint64), *(_words(data) for _, data in stacks)])
    budget = _BUDGET >> _PAGE_BITS
    for _ in range(_ROUNDS):
        pages = _pages(fresh, starts, ends)
        pages = pages[~_among(pages, known)][:budget]
        if not len(pages):
            return
        budget -= len(pages)
        known = np.sort(np.concatenate([known, pages]))
        found = copy_memory(pid, _runs(pages))
        copied.add(found)
        fresh = np.concatenate([_words(data) for _, data in found])


def _among(pages: Words, known: Words) -> NDArray[np.bool_]:
    """Which of `pages` are among the sorted `known` ones."""
    place = np.minimum(np.searchsorted(known, pages), len(known) - 1)
    found: NDArray[np.bool_] = known[place] == pages if len(known) else np.zeros(len(pages), dtype=bool)
    return found


def _words(data: memoryview) -> Words:
    return np.frombuffer(data[: len(data) & ~7], dtype=np.uint64)


def _stack_pages(stacks: Sequence[tuple[int, memoryview]]) -> Words:
    """The pages that are copied already; the first of a stack, of which a part was copied, counts as all."""
    pages = [np.arange(at >> _PAGE_BITS, (at + len(data) + _PAGE - 1) >> _PAGE_BITS) for at, data in stacks]
    return distinct_values(np.concatenate([np.zeros(0, dtype=np.int64), *pages])).astype(np.uint64)


def _pages(words: Words, starts: Words, ends: Words) -> Words:
    """The distinct pages (numbers) in [starts, ends) that `words` point into, and those right behind, sorted."""
    # Most words are no pointers, and distinct values are costly to find.
    words = words[(words >= starts[0]) & (words < ends[-1])]
    pages = distinct_values(words[_inside(words, starts, ends)] >> np.uint64(_PAGE_BITS))
    behind = pages + np.uint64(1)
    behind = behind[_inside(behind << np.uint64(_PAGE_BITS), starts, ends)]
    return distinct_values(np.concatenate([pages, behind]))


def _inside(addresses: Words, starts: Words, ends: Words) -> NDArray[np.bool_]:
    row = np.searchsorted(starts, addresses, side="right").astype(np.int64) - 1
    found: NDArray[np.bool_] = (row >= 0) & (addresses < ends[np.maximum(row, 0)])
    return found


def _runs(pages: Words) -> list[tuple[int, int]]:
    """Sorted pages as (address, size) of each run of adjacent ones."""
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    firsts = pages[np.concatenate([[0], breaks])]
    lasts = pages[np.concatenate([breaks - 1, [len(pages) - 1]])]
    return [
        (first << _PAGE_BITS, (last - first + 1) << _PAGE_BITS)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]
