"""Functions by weight: what was spent in each itself, and in it with all that it called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import numpy as np

from ptap.profile.merged_tree import weighed_stacks
from ptap.profile.sample_columns import added_up, first_met
from ptap.report.short_text import printable, short_name
from unwind.tree_order import TreeOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptap.profile.stack_profile import StackProfile


@dataclass(slots=True)
class FunctionWeight:
    """One function's row."""

    name: str
    module: str | None
    place: str | None
    """`file:line` of the sampled line, where the table was asked for by lines."""
    own: int = 0
    total: int = 0
    """Each sample counts once, however often the function is in it."""


def function_weights(profile: StackProfile, *, lines: bool = False) -> list[FunctionWeight]:
    """All functions, the heaviest by themselves first; with `lines` a row for each line of them."""
    keys, rows = _rows(profile, lines)
    weighed = weighed_stacks(profile)
    stacks, order = weighed.stacks, TreeOrder(profile.parents)
    own = added_up(stacks, weighed.weights, len(keys))
    outermost = order.outermost(keys)
    totals = added_up(keys[outermost], order.totals(own)[outermost], len(rows))
    for row, weight, total in zip(rows, added_up(keys, own, len(rows)).tolist(), totals.tolist(), strict=True):
        row.own, row.total = weight, total
    # Equal ones are in the order of their first samples, and of those of one the innermost is the first.
    firsts = np.full(len(keys), len(stacks), dtype=np.int64)
    firsts[stacks] = np.arange(len(stacks))
    ordered = first_met(keys[np.lexsort((-order.depths, order.least(firsts)))])
    return sorted((rows[row] for row in ordered.tolist()), key=lambda row: (-row.own, -row.total, row.name))


def _rows(profile: StackProfile, lines: bool) -> tuple[NDArray[np.int32], list[FunctionWeight]]:
    """By stack the number of its row, and the rows, which have no weights yet."""
    numbers: list[int] = []
    calls = profile.calls
    index: dict[tuple[str, str | None, str | None], int] = {}
    for number, line in zip(calls.functions.tolist(), calls.lines.tolist(), strict=True):
        function = profile.functions[number]
        place = f"{function.file}:{line}" if lines and function.file and line else None
        key = function.name, function.module, place
        numbers.append(index.setdefault(key, len(index)))
    return np.array(numbers, dtype=np.int32)[profile.call_of], [FunctionWeight(*key) for key in index]


def write_function_table(profile: StackProfile, stream: TextIO, *, lines: bool = False) -> None:
    """Write the table as text."""
    whole = profile.weight
    stream.write(f"{profile.facts}\n\n")
    stream.write(f"{'self':>10} {'':>7} {'total':>10} {'':>7}  function\n")
    for row in function_weights(profile, lines=lines):
        where = row.place or row.module
        place = f"  {printable(where)}" if where else ""
        name = printable(short_name(row.name))
        stream.write(
            f"{row.own:>10} {share(row.own, whole):>7} {row.total:>10} {share(row.total, whole):>7}  {name}{place}\n"
        )


def share(weight: int, whole: int) -> str:
    """A part as a percentage, for people."""
    return f"{100 * weight / whole:.2f}%" if whole else ""
