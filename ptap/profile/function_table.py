"""Functions by weight: what was spent in each itself, and in it with all that it called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
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
    rows: dict[tuple[str, str | None, str | None], FunctionWeight] = {}
    of_stack: dict[int, FunctionWeight] = {}

    functions, function_of = profile.functions, profile.functions_of().tolist()
    line_of = profile.calls.lines[profile.call_of].tolist()

    def row_of(stack: int) -> FunctionWeight:
        row = of_stack.get(stack)
        if row is None:
            function, line = functions[function_of[stack]], line_of[stack]
            place = f"{function.file}:{line}" if lines and function.file and line else None
            key = function.name, function.module, place
            row = of_stack[stack] = rows.setdefault(key, FunctionWeight(*key))
        return row

    for stack, weight in zip(*profile.stack_weights(), strict=True):
        row_of(stack).own += weight
        for row in {id(row): row for row in map(row_of, profile.path(stack))}.values():
            row.total += weight
    return sorted(rows.values(), key=lambda row: (-row.own, -row.total, row.name))


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
