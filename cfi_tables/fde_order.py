"""Which FDEs of a section count, and in which order their rows come, as hot loops.

Owns the dropping of discarded code. Data comes from the columns of `frame_section`; `program_automaton` runs the FDEs
that are left.
"""

from __future__ import annotations

from cfi_tables.frame_section import (
    FDE_COLUMNS,
    FDE_END,
    FDE_OFFSET,
    FDE_START,
    PROBLEM_COLUMNS,
    PROBLEM_OFFSET,
    PROBLEM_REASON,
    PROBLEM_START,
)
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import FRAME_PROBLEM_DEAD
from cfi_tables.scalars import item, put_item

_LIMIT = 0x7FFFFFFF
"""Rows lie so far from the first one at most, that their addresses are 32-bit integers while a table is built."""
_MOVES = 8
"""Steps for each FDE after which sorting by steps is given up."""


@hot_loop
def _in_file(start: int, end: int, ranges: FlatArray) -> bool:
    """Whether the code from `start` to `end` lies in one of the ranges, which are pairs of bounds."""
    for index in range(0, len(ranges), 2):
        if item(ranges, index) <= start < item(ranges, index + 1) and end <= item(ranges, index + 1):
            return True
    return False


@hot_loop
def keep_live(
    fde: FlatArray, count: int, ranges: FlatArray, problems: FlatArray, problem_count: int, starts: FlatArray
) -> tuple[int, int, bool, bool]:
    """Move the FDEs whose code is in the file to the front, and note the others.

    Gives (how many are left, problem count), and what `check_order` gives for them as they come; `starts` gets where
    each of them starts.
    """
    lowest = 0
    seen = 0
    for index in range(count):
        start = item(fde, index * FDE_COLUMNS + FDE_START)
        if (seen == 0 or start < lowest) and _in_file(start, fde[index * FDE_COLUMNS + FDE_END], ranges):
            lowest = 0 + start
            seen = 1
    kept = 0
    is_sorted = True
    overlap = False
    before = 0
    before_end = 0
    for index in range(count):
        row = index * FDE_COLUMNS
        start = item(fde, row + FDE_START)
        end = item(fde, row + FDE_END)
        if _in_file(start, end, ranges) and end - lowest < _LIMIT:
            if kept:
                is_sorted &= start > before
                overlap |= start < before_end
            before = start
            before_end = end
            put_item(starts, kept, start)
            if kept < index:
                for column in range(FDE_COLUMNS):
                    fde[kept * FDE_COLUMNS + column] = fde[row + column]
            kept += 1
        else:
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = FRAME_PROBLEM_DEAD
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[row + FDE_START]
            problem_count += 1
    return kept, problem_count, is_sorted, overlap


@hot_loop
def order_by_start(starts: FlatArray, lowest: int, shift: int, heads: FlatArray, order: FlatArray) -> bool:
    """Fill `order` with the indices of `starts`, sorted; False when this would take too long.

    Starts that are equal above their lowest `shift` bits share a bucket, and in a bucket each moves to its place by
    steps: the FDEs of a file lie close to their order. `heads` (zeros) has one more item than there are buckets.
    """
    for index in range(len(starts)):
        bucket = (item(starts, index) - lowest >> shift) + 1
        put_item(heads, bucket, item(heads, bucket) + 1)
    before = 0
    for bucket in range(len(heads)):
        before += item(heads, bucket)
        put_item(heads, bucket, before)
    for index in range(len(starts)):
        bucket = item(starts, index) - lowest >> shift
        place = item(heads, bucket)
        put_item(order, place, index)
        put_item(heads, bucket, place + 1)
    moves = _MOVES * len(order)
    for last in range(1, len(order)):
        index = item(order, last)
        start = item(starts, index)
        place = last
        while place > 0 and item(starts, item(order, place - 1)) > start:
            put_item(order, place, item(order, place - 1))
            place -= 1
            moves -= 1
            if moves < 0:
                return False
        put_item(order, place, index)
    return True


@hot_loop
def check_order(fde: FlatArray, order: FlatArray) -> tuple[bool, bool]:
    """(whether each FDE in `order` starts behind the start of the one before it, whether before the end of that)."""
    is_sorted = True
    overlap = False
    before = 0
    before_end = 0
    for index in range(len(order)):
        row = item(order, index) * FDE_COLUMNS
        start = item(fde, row + FDE_START)
        if index:
            is_sorted &= start > before
            overlap |= start < before_end
        before = start
        before_end = item(fde, row + FDE_END)
    return is_sorted, overlap
