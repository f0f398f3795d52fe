"""The calls of two profiles as one tree of text: before, after and change of each call, below its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import numpy as np

from ptap.profile.merged_tree import MergedTree, ShownTree, weighed_stacks
from ptap.profile.profile_diff import no_weight, state
from ptap.profile.sample_columns import added_up
from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff


def write_difference_tree(
    diff: ProfileDiff, stream: TextIO, *, callers: bool = False, least_share: float = 0.005
) -> None:
    """Write the tree: from the outermost calls inwards, or with `callers` from the sampled functions outwards.

    What is below `least_share` of the whole on both sides is one line.
    """
    merged = MergedTree(sum(len(profile.parents) for profile in diff.profiles))
    added = []
    for profile, numbers in zip(diff.profiles, diff.numbers, strict=True):
        weighed = weighed_stacks(profile)
        keys = np.array(numbers, dtype=np.int32)[profile.functions_of()]
        added.append((merged.add(profile, keys, weighed, callers=callers), weighed.weights))
    tree = ShownTree(merged, [added_up(nodes, weights, len(merged)) for nodes, weights in added])
    stream.write(f"{diff.head()}\n{'before':>9} {'after':>9} {'change':>9}\n")
    pending = [(0, iter(_shown(diff, tree, 0, least_share)))]
    while pending:  # without recursion: stacks may be deeper than Python's own
        depth, children = pending[-1]
        found = next(children, None)
        if found is None:
            pending.pop()
            continue
        text, weights, child = found
        columns = " ".join(f"{each:>9}" for each in diff.texts(weights))
        stream.write(f"{columns} {state(weights):4}  {'  ' * depth}{text}\n")
        if child is not None:
            pending.append((depth + 1, iter(_shown(diff, tree, child, least_share))))


def _shown(
    diff: ProfileDiff, tree: ShownTree, node: int, least_share: float
) -> list[tuple[str, list[int], int | None]]:
    """The lines below a node: its heavy children, what was spent in itself where it has any, and the rest as one."""
    lines: list[tuple[str, list[int], int | None]] = []
    rest, count = no_weight(), 0
    children = [(tree.totals[child], diff.functions[tree.keys[child]], child) for child in tree.children(node)]
    for total, function, child in sorted(children, key=lambda each: (-diff.largest_part(each[0]), each[1].name)):
        if diff.largest_part(total) >= least_share:
            module = f"  {printable(function.module)}" if function.module else ""
            lines.append((printable(short_name(function.name)) + module, total, child))
        else:
            rest, count = [sum(each) for each in zip(rest, total, strict=True)], count + 1
    if any(tree.own[node]) and children:
        lines.append(("(itself)", tree.own[node], None))
    if count:
        lines.append((f"({count} more)", rest, None))
    return lines
