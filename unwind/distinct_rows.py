"""Distinct rows of integers, numbered as they come: what is the same as a row before has the number of that.

Rows are found by a hash of 64 bits and compared. Where hashes of rows that differ are equal, a row may have more than
one number: whoever numbers rows to do things once does them twice then, and nothing is wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


class DistinctRows:
    """Rows of `width` columns."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._rows: Int64s = np.empty((width, 1 << 10), dtype=np.int64)
        self._hashes = np.zeros(0, dtype=np.uint64)
        """Sorted,"""
        self._numbers = np.zeros(0, dtype=np.int64)
        """and the numbers of the rows that they are of."""

    @property
    def columns(self) -> Int64s:
        """The columns of all rows, by their numbers; a view."""
        found: Int64s = self._rows[:, : self.count]
        return found

    def numbers(self, rows: Int64s) -> Int64s:
        """The numbers of rows, given as an array of columns."""
        hashes = _hashes(rows)
        distinct, firsts, places = np.unique(hashes, return_index=True, return_inverse=True)
        at = np.searchsorted(self._hashes, distinct)
        is_known = at < len(self._hashes)
        is_known[is_known] = self._hashes[at[is_known]] == distinct[is_known]
        found = np.empty(len(distinct), dtype=np.int64)
        found[is_known] = self._numbers[at[is_known]]
        new = np.flatnonzero(~is_known)
        new = new[np.argsort(firsts[new])]  # as they come
        found[new] = self._append(rows[:, firsts[new]])
        self._enter(distinct[new], found[new])
        numbers = found[places.reshape(-1)]
        others = np.flatnonzero((self.columns[:, numbers] != rows).any(axis=0))
        numbers[others] = self._append(rows[:, others])
        return numbers

    def _append(self, rows: Int64s) -> Int64s:
        begin, end = self.count, self.count + rows.shape[1]
        if end > self._rows.shape[1]:
            more = np.empty((len(self._rows), 2 * end - begin), dtype=np.int64)
            self._rows = np.concatenate((self._rows[:, :begin], more), axis=1)
        self._rows[:, begin:end] = rows
        self.count = end
        return np.arange(begin, end)

    def _enter(self, hashes: NDArray[np.uint64], numbers: Int64s) -> None:
        merged = np.concatenate((self._hashes, hashes))
        order = np.argsort(merged, kind="stable")
        self._hashes, self._numbers = merged[order], np.concatenate((self._numbers, numbers))[order]


def _hashes(rows: Int64s) -> NDArray[np.uint64]:
    found = np.zeros(rows.shape[1], dtype=np.uint64)
    for column in rows:
        found = (found ^ column.view(np.uint64)) * _FACTOR
        found ^= found >> _SHIFT
    return found
