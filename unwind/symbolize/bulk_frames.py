"""Frames of a large batch of addresses, from the columns of an index unpacked side by side, by hot loops.

They say what the NumPy passes of index_lookup.py say, in a fraction of the time: NumPy sorts the addresses to find
their rows, and goes over all frames a dozen times; here what is told of a row, scope or function lies together, and
several threads share the addresses. What an index holds is not trusted: it is checked once, when it is unpacked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import hot_loop, plain_view, run_hot
from cfi_tables.worker_threads import run_parts, worker_count

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
FrameColumns: TypeAlias = tuple[Int32s, Int32s, Int32s, Int32s, Int32s, NDArray[np.uint8]]
"""Functions, names, files, lines, columns, and 1 for what is inlined, as in AddressFrames."""

# What stands together: of a row,
ROW_SCOPE = 0
ROW_LINE = 1
ROW_COLUMN = 2
ROW_DEPTH = 3
"""How many frames its scope has."""
# of a scope,
SCOPE_OUTER = 0
SCOPE_FUNCTION = 1
SCOPE_LINE = 2
SCOPE_COLUMN = 3
# and of a function.
FUNCTION_NAME = 0
FUNCTION_FILE = 1
FUNCTION_LINE = 2
WIDTH = 4


@hot_loop
def fill_buckets(begins: Any, shift: int, firsts: Any) -> int:
    """Write to `firsts[b]` how many of the sorted `begins` lie below `b << shift`.

    `firsts` has two elements more than the last of `begins` has buckets before it. Returns 0, or -1: they are not
    sorted.
    """
    bucket = 0
    previous = 0
    for row in range(len(begins)):
        begin = 0 + begins[row]
        if begin < previous or (begin >> shift) + 1 >= len(firsts):
            return -1
        previous = begin
        while bucket <= begin >> shift:
            firsts[bucket] = row
            bucket += 1
    while bucket < len(firsts):
        firsts[bucket] = len(begins)
        bucket += 1
    return 0


@hot_loop
def scope_depths(outers: Any, depths: Any) -> int:
    """Write to `depths` how many frames each scope has. Returns 0, or -1: one is inlined into what is no scope."""
    for scope in range(len(outers)):
        distance = 0 + outers[scope]
        if distance > 0 and scope - distance <= 0:
            return -1
        depths[scope] = 1 + depths[scope - distance] if distance > 0 else min(scope, 1)
    return 0


@hot_loop
def find_rows(begins: Any, shift: int, firsts: Any, places: Any, rows: Any, found: Any, offsets: Any) -> int:
    """Write to `found` the last row at or below each of `places`, -1 for none, and to `offsets` where its frames begin.

    Returns how many frames there are.
    """
    last = len(firsts) - 2
    total = 0
    for index in range(len(places)):
        place = 0 + places[index]
        row = -1
        offsets[index] = total
        if place >= 0:
            bucket = min(place >> shift, last)
            low = 0 + firsts[bucket]
            high = 0 + firsts[bucket + 1]
            while low < high:
                middle = (low + high) // 2
                if begins[middle] <= place:
                    low = middle + 1
                else:
                    high = middle
            row = low - 1
            if row >= 0:
                total += rows[row * WIDTH + ROW_DEPTH]
        found[index] = row
    return total


@hot_loop
def write_frames(found: Any, rows: Any, scopes: Any, functions: Any, frames: Any) -> None:
    """Write the frames of each row in `found` to the columns `frames`, one behind the other."""
    numbers, names, files, lines, columns, inlined = frames
    at = 0
    for index in range(len(found)):
        if found[index] < 0:
            continue
        row = found[index] * WIDTH
        scope = 0 + rows[row + ROW_SCOPE]
        line = 0 + rows[row + ROW_LINE]
        column = 0 + rows[row + ROW_COLUMN]
        left = 0 + rows[row + ROW_DEPTH]
        while left > 0:
            left -= 1
            base = scope * WIDTH
            number = 0 + scopes[base + SCOPE_FUNCTION]
            function = number * WIDTH
            numbers[at] = number
            names[at] = functions[function + FUNCTION_NAME]
            files[at] = functions[function + FUNCTION_FILE]
            lines[at] = line - 1 + functions[function + FUNCTION_LINE] if line > 0 else 0
            columns[at] = column
            inlined[at] = 1 if left > 0 else 0
            at += 1
            line = 0 + scopes[base + SCOPE_LINE]
            column = 0 + scopes[base + SCOPE_COLUMN]
            scope -= scopes[base + SCOPE_OUTER]


@dataclass(slots=True)
class BulkIndex:
    """An index unpacked for large batches. Made by `unpacked`."""

    plain: bool
    first: np.uint64
    """The address of the first row, from which all others count."""
    begins: Int64s
    shift: int
    firsts: Int32s
    """What `fill_buckets` makes of the rows' addresses."""
    rows: Int32s
    scopes: Int32s
    functions: Int32s

    def frames(self, addresses: NDArray[np.uint64]) -> tuple[Int64s, FrameColumns]:
        """Where the frames of each address begin, and all frames; of what lies before the first row there are none."""
        count = len(addresses)
        parts = 1 if self.plain else worker_count()
        cuts = [count * part // parts for part in range(parts + 1)]
        places = (addresses - self.first).view(np.int64)
        found, offsets = np.empty(count, dtype=np.int64), np.empty(count + 1, dtype=np.int64)
        pieces = [slice(*pair) for pair in pairwise(cuts)]
        totals = run_parts(
            [partial(self._find, places[each], found[each], offsets[each]) for each in pieces], parts > 1
        )
        ends = np.cumsum([0, *totals]).tolist()
        for piece, before in zip(pieces[1:], ends[1:], strict=False):
            offsets[piece] += before
        offsets[count] = ends[-1]
        functions, names, files, lines, columns = (np.empty(ends[-1], dtype=np.int32) for _ in range(5))
        frames = (functions, names, files, lines, columns, np.empty(ends[-1], dtype=np.uint8))
        tasks = []
        for piece, begin, end in zip(pieces, ends[:-1], ends[1:], strict=True):
            tasks.append(partial(self._write, found[piece], tuple(each[begin:end] for each in frames)))
        run_parts(tasks, parts > 1)
        return offsets, frames

    def _find(self, places: Int64s, found: Int64s, offsets: Int64s) -> int:
        arrays = (self.begins, self.shift, self.firsts, places, self.rows, found, offsets)
        return int(run_hot(find_rows, not self.plain, *arrays))

    def _write(self, found: Int64s, frames: tuple[NDArray[Any], ...]) -> None:
        columns = tuple(plain_view(each) if self.plain else each for each in frames)
        run_hot(write_frames, not self.plain, found, self.rows, self.scopes, self.functions, columns)


def unpacked(
    begins: NDArray[np.uint64],
    rows: tuple[Int32s, ...],
    scopes: tuple[Int32s, ...],
    functions: tuple[Int32s, ...],
    plain: bool,
) -> BulkIndex:
    """The index whose rows begin at `begins` and have `rows` (scope, line, column), and so on, as columns.

    `plain` chooses the form of the hot loops. Raises ValueError where the columns do not agree.
    """
    numbers, outers, function_of = rows[0], scopes[0], scopes[1]
    _check_numbers(numbers, len(outers))
    _check_numbers(function_of, len(functions[0]))
    relative = (begins - begins[0]).view(np.int64)
    shift = max(0, (int(relative[-1]) // len(begins)).bit_length() - 1)
    firsts = np.empty(max(0, int(relative[-1]) >> shift) + 2, dtype=np.int32)
    depths = np.zeros(len(outers), dtype=np.int32)
    if run_hot(fill_buckets, not plain, relative, shift, firsts) or run_hot(scope_depths, not plain, outers, depths):
        raise ValueError("the rows are not sorted, or a scope is inlined into what is none")
    together = (_side_by_side(each) for each in ((*rows, depths[numbers]), scopes, functions))
    return BulkIndex(plain, begins[0], relative, shift, firsts, *together)


def _check_numbers(numbers: Int32s, count: int) -> None:
    if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= count):
        raise ValueError("a number lies outside of its column")


def _side_by_side(columns: tuple[Int32s, ...]) -> Int32s:
    """The columns as one array of WIDTH values a row."""
    found = np.zeros((len(columns[0]), WIDTH), dtype=np.int32)
    for index, column in enumerate(columns):
        found[:, index] = column
    return found.reshape(-1)
