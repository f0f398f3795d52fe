"""The distinct values of an array: what `np.unique` gives, without the import of numpy.ma that it begins with.

That import takes a tenth of the time in which a single address is answered.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)

_FEW_HOLES = 8
"""Numbers for each value, up to which a table of them takes less time than to sort."""


def distinct_values(values: NDArray[_Value]) -> NDArray[_Value]:
    """The distinct ones of `values`, one-dimensional and of any order, in growing order."""
    ordered = np.sort(values)
    new: NDArray[Any] = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    found: NDArray[_Value] = ordered[new]
    return found


def first_met(values: NDArray[_Value]) -> NDArray[_Value]:
    """The distinct ones of `values`, one-dimensional, in the order in which they are met first."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    new: NDArray[Any] = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    found: NDArray[_Value] = values[np.sort(order[new])]
    return found


def numbered_as_met(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The distinct ones of `values` in the order in which they are first met, and for each value which one it is."""
    count = len(values)
    if count and values.min() >= 0 and values.max() < _FEW_HOLES * count:
        firsts = np.full(int(values.max()) + 1, count)
        firsts[values[::-1]] = np.arange(count - 1, -1, -1)  # where several are assigned, the last one holds
        distinct = np.flatnonzero(firsts < count)
        distinct = distinct[np.argsort(firsts[distinct])]
        numbers = np.empty(len(firsts), dtype=np.int32)
        numbers[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct, numbers[values]
    distinct, firsts, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    numbers = np.empty(len(order), dtype=np.int32)
    numbers[order] = np.arange(len(order), dtype=np.int32)
    return distinct[order], numbers[which]
