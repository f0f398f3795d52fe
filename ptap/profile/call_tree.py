"""The tree of calls as text, as `perf report -g` shows it: functions below their callers, with shares of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.profile.function_table import share
from ptap.profile.merged_tree import MergedTree, ShownTree, weighed_stacks
from ptap.profile.sample_columns import added_up
from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
    from ptap.profile.stack_profile import Function, StackProfile


def write_call_tree(
    profile: StackProfile, stream: TextIO, *, callers: bool = False, least_share: float = 0.005
) -> None:
    """Write the tree: from the outermost calls inwards, or with `callers` from the sampled functions outwards.

    What is below `least_share` (a fraction of the whole) is one line, with how much it was.
    """
    merged, weighed = MergedTree(len(profile.parents)), weighed_stacks(profile)
    nodes = merged.add(profile, profile.functions_of(), weighed, callers=callers)
    tree = ShownTree(merged, [added_up(nodes, weighed.weights, len(merged))])
    stream.write(f"{profile.facts}\n\n")
    _write_children(tree, profile.functions, stream, least_share)


def _write_children(tree: ShownTree, functions: list[Function], stream: TextIO, least_share: float) -> None:
    """Depth first, without recursion: stacks may be deeper than Python's own."""
    ((whole,), *_) = tree.totals
    pending = [(0, iter(_shown(tree, 0, functions, least_share)))]
    while pending:
        depth, children = pending[-1]
        found = next(children, None)
        if found is None:
            pending.pop()
            continue
        text, total, node = found
        stream.write(f"{'  ' * depth}{share(total, whole):>7} {total:>8}  {text}\n")
        if node is not None:
            pending.append((depth + 1, iter(_shown(tree, node, functions, least_share))))


def _shown(
    tree: ShownTree, node: int, functions: list[Function], least_share: float
) -> list[tuple[str, int, int | None]]:
    """The lines below a node: its heavy children, what was spent in itself where it has any, and the rest as one."""
    lines: list[tuple[str, int, int | None]] = []
    ((whole,), *_) = tree.totals
    rest, count = 0, 0
    children = [(tree.totals[child][0], functions[tree.keys[child]], child) for child in tree.children(node)]
    for total, function, child in sorted(children, key=lambda each: (-each[0], each[1].name)):
        if total >= whole * least_share:
            module = f"  {printable(function.module)}" if function.module else ""
            lines.append((printable(short_name(function.name)) + module, total, child))
        else:
            rest, count = rest + total, count + 1
    (own,) = tree.own[node]
    if own and children:
        lines.append(("(itself)", own, None))
    if count:
        lines.append((f"({count} more)", rest, None))
    return lines
