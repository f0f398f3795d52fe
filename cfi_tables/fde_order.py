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
from cfi_tables.scalars import item

_LIMIT = 0x7FFFFFFF
"""Rows lie so far from the first one at most, that their addresses are 32-bit integers while a table is built."""


@hot_loop
def _in_file(start: int, end: int, ranges: FlatArray) -> bool:
    """Whether the code from `start` to `end` lies in one of the ranges, which are pairs of bounds."""
    for index in range(0, len(ranges), 2):
        if ranges[index] <= start < ranges[index + 1] and end <= ranges[index + 1]:
            return True
    return False


@hot_loop
def keep_live(
    fde: FlatArray, count: int, ranges: FlatArray, problems: FlatArray, problem_count: int
) -> tuple[int, int]:
    """Move the FDEs whose code is in the file to the front, and note the others; gives (how many, problem count)."""
    lowest = 0
    seen = 0
    for index in range(count):
        start = fde[index * FDE_COLUMNS + FDE_START]
        if (seen == 0 or start < lowest) and _in_file(start, fde[index * FDE_COLUMNS + FDE_END], ranges):
            lowest = 0 + start
            seen = 1
    kept = 0
    for index in range(count):
        row = index * FDE_COLUMNS
        end = fde[row + FDE_END]
        if _in_file(fde[row + FDE_START], end, ranges) and end - lowest < _LIMIT:
            if kept < index:
                for column in range(FDE_COLUMNS):
                    fde[kept * FDE_COLUMNS + column] = fde[row + column]
            kept += 1
        else:
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = FRAME_PROBLEM_DEAD
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[row + FDE_START]
            problem_count += 1
    return kept, problem_count


@hot_loop
def check_order(fde: FlatArray, order: FlatArray) -> tuple[bool, bool]:
    """(whether each FDE in `order` starts behind the start of the one before it, whether before the end of that)."""
    is_sorted = True
    overlap = False
    for index in range(1, len(order)):
        start = item(fde, item(order, index) * FDE_COLUMNS + FDE_START)
        before = item(order, index - 1) * FDE_COLUMNS
        is_sorted &= start > item(fde, before + FDE_START)
        overlap |= start < item(fde, before + FDE_END)
    return is_sorted, overlap


@hot_loop
def as_they_come(fde: FlatArray, order: FlatArray) -> tuple[bool, bool]:
    """Fill `order` with the order of the columns; gives what `check_order` gives for it."""
    for index in range(len(order)):
        order[index] = index
    return check_order(fde, order)
