"""Which stacks of a profile some of its samples reach: those they end in, and all that these were called from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, compiled_pays, hot_loop, run_hot
from cfi_tables.scalars import item

_SECONDS_A_STACK = 1e-6
"""In plain Python."""


@hot_loop
def reach(leaves: FlatArray, callers: FlatArray, reached: FlatArray, found: FlatArray) -> int:
    """Go from each of `leaves` outwards by `callers` (int32, below 0 for none) until where somebody has been.

    `reached` has a byte for each stack, 0 at first; where one is set, the stack is put into `found` (int32). How many.
    """
    count = 0
    for at in range(len(leaves)):
        stack = item(leaves, at)
        while stack >= 0:
            if reached[stack]:
                break
            reached[stack] = 1
            found[count] = stack
            count += 1
            stack = item(callers, stack)
    return count


class ReachedStacks:
    """Finds them for one part of the samples after the other; each time it takes as long as there are such stacks."""

    def __init__(self, callers: NDArray[np.int32]) -> None:
        self._callers = np.ascontiguousarray(callers)
        self._reached = np.zeros(len(callers), dtype=np.uint8)
        self._compiled = compiled_pays(reach, len(callers) * _SECONDS_A_STACK)

    def of(self, leaves: NDArray[np.int32]) -> NDArray[np.int32]:
        """The stacks that those which end in `leaves` consist of, each once, the lowest first: callers come first."""
        found = np.empty(len(self._callers), dtype=np.int32)
        columns = np.ascontiguousarray(leaves), self._callers, self._reached, found
        stacks = np.sort(found[: run_hot(reach, self._compiled, *columns)])
        self._reached[stacks] = 0
        return stacks
