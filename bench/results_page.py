"""The page of results: ratios first, then what they were made of."""

from __future__ import annotations

from collections.abc import Sequence

from bench.comparison import Comparison, Result


def results_page(facts: Sequence[tuple[str, str]], results: Sequence[Result], rounds: int) -> str:
    """The text of RESULTS.md."""
    lines = ["# Benchmark results", ""]
    lines += [f"Written by `make bench`. Figures are medians of {rounds} runs, with warm caches.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]
    for result in results:
        lines += ["", f"## {result.name}", "", result.about, ""]
        if result.comparisons:
            lines += ["| what | ratio | ptap | other tool | unit | |", "|---|---:|---:|---:|---|---|"]
            lines += [_row(each) for each in result.comparisons]
        lines += ["", *(f"* {remark}" for remark in result.remarks)] if result.remarks else []
        if result.commands:
            lines += ["", "```sh", *result.commands, "```"]
    lines += ["", "A ratio above 1 means that ptap does better by that factor."]
    return "\n".join(lines) + "\n"


def _row(each: Comparison) -> str:
    ratio = f"**{each.ratio:.3g}**" if each.ratio else "—"
    cells = (each.what, ratio, _number(each.ours), _number(each.theirs), each.unit, each.note)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
