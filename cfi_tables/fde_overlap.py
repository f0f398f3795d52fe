"""Which of overlapping FDEs holds where.

Owns the rule: the one that starts later holds up to its end, and then the earlier one again, since what is nested is
the more specific; of two with the same start the shorter holds, of two with the same range the later. Data comes from
`section_programs`; it goes to `section_rows`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.rule_pool import RULE_INVALID

_Integers = NDArray[np.int64]


def visible_rows(
    addresses: _Integers, rules: _Integers, starts: _Integers, ends: _Integers, first_rows: _Integers
) -> tuple[_Integers, _Integers]:
    """(addresses, rules) of one sequence of rows, made of those of each FDE, in the order of their starts.

    FDE i has the rows `first_rows[i]` up to `first_rows[i + 1]`, the last of them the gap behind it, or none.
    """
    used = np.flatnonzero(np.diff(first_rows))
    found: list[_Integers] = []
    found_rules: list[_Integers] = []
    for low, high, which in _visible(starts[used].tolist(), ends[used].tolist()):
        begin, end = int(first_rows[used[which]]), int(first_rows[used[which] + 1]) - 1
        own = addresses[begin:end]
        left = int(np.searchsorted(own, low, side="right")) - 1
        right = int(np.searchsorted(own, high, side="left"))
        piece = own[left:right].copy()
        piece[0] = low
        found += [piece, np.array([high], dtype=np.int64)]
        found_rules += [rules[begin + left : begin + right], np.array([RULE_INVALID], dtype=np.int64)]
    if not found:
        return addresses, rules
    return np.concatenate(found), np.concatenate(found_rules)


def _visible(starts: list[int], ends: list[int]) -> list[tuple[int, int, int]]:
    """(low, high, index) pieces in which the interval that starts last holds; `starts` is sorted."""
    pieces: list[tuple[int, int, int]] = []
    active: list[int] = []
    position = 0

    def move(to: int | None) -> None:
        nonlocal position
        while active:
            top = active[-1]
            if ends[top] > position:
                stop = ends[top] if to is None else min(ends[top], to)
                if stop > position:
                    pieces.append((position, stop, top))
                    position = stop
                if position == to:
                    return
            active.pop()

    for index, start in enumerate(starts):
        move(start)
        position = start
        active.append(index)
    move(None)
    return pieces
