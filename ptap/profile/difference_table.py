"""Functions by how much their weight has changed from one profile to another, as text and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from os.path import basename
from typing import TYPE_CHECKING, Any, TextIO

from ptap.profile.function_table import function_weights
from ptap.profile.json_text import json_line
from ptap.profile.profile_diff import AFTER, BEFORE, no_weight, state
from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff


@dataclass(slots=True)
class FunctionChange:
    """One function's row; weights are of BEFORE and AFTER."""

    name: str
    module: str | None
    """The path after, or before for what is gone."""
    place: str | None
    """`file:line`, where the table was asked for by lines."""
    own: list[int] = field(default_factory=no_weight)
    total: list[int] = field(default_factory=no_weight)


def function_changes(diff: ProfileDiff, *, lines: bool = False) -> list[FunctionChange]:
    """All functions, those first that changed most by themselves; with `lines` a row for each line of them."""
    rows: dict[object, FunctionChange] = {}
    for side in (AFTER, BEFORE):
        for row in function_weights(diff.profiles[side], lines=lines):
            key = diff.key(row.name, row.module), basename(row.place or "")
            change = rows.setdefault(key, FunctionChange(row.name, row.module, row.place))
            change.own[side] += row.own
            change.total[side] += row.total
    return sorted(rows.values(), key=lambda row: (-abs(diff.change(row.own)), -abs(diff.change(row.total)), row.name))


def write_difference_table(diff: ProfileDiff, stream: TextIO, *, lines: bool = False) -> None:
    """Write the table as text."""
    stream.write(f"{diff.head()}\n")
    heads = ("self before", "after", "change", "total before", "after", "change")
    stream.write("".join(f"{head:>13}" for head in heads) + "        function\n")
    for row in function_changes(diff, lines=lines):
        where = row.place or row.module
        place = f"  {printable(where)}" if where else ""
        weights = "".join(f"{text:>13}" for text in (*diff.texts(row.own), *diff.texts(row.total)))
        stream.write(f"{weights}  {state(row.total):4}  {printable(short_name(row.name))}{place}\n")


def write_difference_json(diff: ProfileDiff, stream: TextIO) -> None:
    """Write the table as one JSON object.

    `{"before": {"samples": int, "weight": int}, "after": {…}, "absolute": bool, "renamed": {str: str}, "functions":
    [{"function": str, "module": str|null, "state": "both"|"new"|"gone", "self": {"before": int, "after": int, "change":
    float}, "total": {…}}]}`; a change is a fraction of the whole, or a weight where `absolute` is true.
    """
    sides = zip(("before", "after"), diff.profiles, diff.wholes, strict=True)
    document: dict[str, Any] = {
        **{side: {"samples": len(profile.samples), "weight": whole} for side, profile, whole in sides},
        "absolute": diff.absolute,
        "renamed": diff.renamed,
        "functions": [
            {
                "function": row.name,
                "module": row.module,
                "state": state(row.total) or "both",
                "self": _weights(diff, row.own),
                "total": _weights(diff, row.total),
            }
            for row in function_changes(diff)
        ],
    }
    stream.write(json_line(document) + "\n")


def _weights(diff: ProfileDiff, weights: list[int]) -> dict[str, float]:
    return {"before": weights[BEFORE], "after": weights[AFTER], "change": diff.change(weights)}
