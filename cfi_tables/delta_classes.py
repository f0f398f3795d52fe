"""Classes of pairs with like address deltas, each of which shares a code.

Owns the clustering. Data comes from the histogram of `row_steps`; it goes to `row_codes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.layout import MAXIMUM_CLASSES
from cfi_tables.row_steps import TOKEN_COUNT

_Integers = NDArray[np.int64]

_SMALL_PRODUCT = 1 << 17


def choose_classes(
    histogram: _Integers, token_counts: _Integers, kept: NDArray[np.bool_], rows: int
) -> tuple[_Integers, _Integers]:
    """(class of each pair, token counts of each class). Class 0 is that of pairs without a place.

    Clusters are grown from the pairs that the classes so far suit worst, and settled in a few rounds. Costs are whole
    numbers (16ths of a bit), so that every machine finds the same.
    """
    chosen = np.flatnonzero(kept)
    own = histogram[chosen].astype(np.float64)  # whole numbers far below 2**53, multiplied by the fast library
    outside = (token_counts - own.sum(axis=0))[None, :]
    sample = own[np.argsort(-own.sum(axis=1), kind="stable")[:512]]
    wanted = min(MAXIMUM_CLASSES, 1 + rows // 4096, 1 + len(sample))
    centers = outside + sample.sum(axis=0) if wanted == 1 or not outside.any() else outside
    lengths = _lengths(sample)
    floor = (sample * lengths).sum(axis=1)
    excess = _costs(sample, centers).min(axis=1) - floor
    grown = [centers]
    for _ in range(len(centers), wanted):
        worst = int(excess.argmax())
        grown.append(sample[worst : worst + 1])
        np.minimum(excess, sample @ lengths[worst] - floor, out=excess)
    centers = np.concatenate(grown)
    costs = _costs(sample, centers)
    for _ in range(5):
        centers = _sums(sample, costs.argmin(axis=1), len(centers))
        centers[0] += outside[0]
        costs = _costs(sample, centers)
    nearest = _costs(own, centers).argmin(axis=1)
    counts = _sums(own, nearest, len(centers))
    counts[0] += outside[0]
    classes = np.zeros(len(kept), dtype=np.int64)
    classes[chosen] = nearest
    return classes, counts.astype(np.int64)


def _sums(lines: NDArray[np.float64], classes: _Integers, count: int) -> NDArray[np.float64]:
    """The sum of the lines of each of `count` classes."""
    members = (np.arange(count)[:, None] == classes[None, :]).astype(np.float64)
    return _product(lines.T, members.T).T


def _lengths(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """16ths of bits of each token in the ideal code of each center."""
    smooth = centers * 64.0 + np.maximum(centers.sum(axis=1, keepdims=True), 1) / TOKEN_COUNT
    least: NDArray[np.float64] = np.maximum(np.rint(-16 * np.log2(smooth / smooth.sum(axis=1, keepdims=True))), 2)
    return least


def _costs(counts: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.float64]:
    """16ths of bits that each line of token counts takes by the ideal code of each center."""
    return _product(counts, _lengths(centers).T)


def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """left @ right, in pieces for which OpenBLAS starts no threads: those would go on spinning for a while."""
    height = max(1, _SMALL_PRODUCT // max(right.size, 1))
    return np.concatenate([left[first : first + height] @ right for first in range(0, max(len(left), 1), height)])
