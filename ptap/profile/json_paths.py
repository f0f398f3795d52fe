"""The calls of stacks as JSON, outermost first: a list of numbers for each stack, written as hot loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, compiled_pays, hot_loop, run_hot
from cfi_tables.scalars import item

_COMMA, _OPEN, _CLOSE, _ZERO = b",[]0"
_SECONDS_A_STACK = 5e-6
"""In plain Python."""


@hot_loop
def measure_texts(callers: FlatArray, calls: FlatArray, sizes: FlatArray) -> None:
    """The bytes (int64) that the calls (int32) of each stack take, with one behind each for what parts it."""
    for stack in range(len(callers)):
        size, rest = 2, item(calls, stack)
        while rest > 9:
            size, rest = size + 1, rest // 10
        caller = item(callers, stack)
        sizes[stack] = size + (item(sizes, caller) if caller >= 0 else 0)


@hot_loop
def put_paths(stacks: FlatArray, callers: FlatArray, calls: FlatArray, sizes: FlatArray, out: FlatArray) -> int:
    """Write a list for each of `stacks` (int32), a comma behind each. The bytes written."""
    at = 0
    for row in range(len(stacks)):
        stack = item(stacks, row)
        begin, at = at, at + 1 + (item(sizes, stack) if stack >= 0 else 1)
        back, behind = at, _CLOSE
        out[begin + 1] = _CLOSE
        while stack >= 0:  # from the last digit to the first
            back -= 1
            out[back] = behind
            rest = item(calls, stack)
            while rest > 9:
                back -= 1
                out[back] = _ZERO + rest % 10
                rest = rest // 10
            back -= 1
            out[back] = _ZERO + rest
            behind = _COMMA
            stack = item(callers, stack)
        out[begin] = _OPEN
        out[at] = _COMMA
        at += 1
    return at


class JsonPaths:
    """Writes the calls of some stacks after the other."""

    def __init__(self, parents: NDArray[np.int32], call_of: NDArray[np.int32]) -> None:
        self._columns = np.ascontiguousarray(parents), np.ascontiguousarray(call_of)
        self._sizes = np.zeros(len(parents) + 1, dtype=np.int64)
        """By stack; the last one is that of none."""
        self._compiled = compiled_pays(put_paths, len(parents) * _SECONDS_A_STACK)
        run_hot(measure_texts, self._compiled, *self._columns, self._sizes)

    def of(self, stacks: NDArray[np.int32]) -> bytes:
        """The list of the lists of `stacks`."""
        out = np.empty(int(self._sizes[stacks].sum()) + 3 * len(stacks) + 1, dtype=np.uint8)
        written = run_hot(put_paths, self._compiled, np.ascontiguousarray(stacks), *self._columns, self._sizes, out)
        return b"[" + out[: max(written - 1, 0)].tobytes() + b"]"
