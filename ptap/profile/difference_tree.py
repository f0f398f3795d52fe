"""The calls of two profiles as one tree of text: before, after and change of each call, below its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.profile.profile_diff import no_weight, state
from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff


class _Node:
    """A function at one place in the tree; weights are of both sides."""

    __slots__ = ("children", "own", "total")

    def __init__(self) -> None:
        self.own, self.total = no_weight(), no_weight()
        self.children: dict[int, _Node] = {}


def write_difference_tree(
    diff: ProfileDiff, stream: TextIO, *, callers: bool = False, least_share: float = 0.005
) -> None:
    """Write the tree: from the outermost calls inwards, or with `callers` from the sampled functions outwards.

    What is below `least_share` of the whole on both sides is one line.
    """
    root = _Node()
    for side, profile in enumerate(diff.profiles):
        numbers = diff.numbers[side]
        functions = profile.functions_of().tolist()
        for stack, weight in zip(*profile.stack_weights(), strict=True):
            path = [numbers[functions[each]] for each in profile.path(stack)]
            node = root
            node.total[side] += weight
            for function in path if callers else reversed(path):
                node = node.children.setdefault(function, _Node())
                node.total[side] += weight
            node.own[side] += weight
    stream.write(f"{diff.head()}\n{'before':>9} {'after':>9} {'change':>9}\n")
    pending = [(0, iter(_shown(diff, root, least_share)))]
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
            pending.append((depth + 1, iter(_shown(diff, child, least_share))))


def _shown(diff: ProfileDiff, node: _Node, least_share: float) -> list[tuple[str, list[int], _Node | None]]:
    """The lines below a node: its heavy children, what was spent in itself where it has any, and the rest as one."""
    lines: list[tuple[str, list[int], _Node | None]] = []
    rest, count = no_weight(), 0
    heaviest = sorted(
        node.children.items(), key=lambda item: (-diff.largest_part(item[1].total), diff.functions[item[0]].name)
    )
    for number, child in heaviest:
        if diff.largest_part(child.total) >= least_share:
            function = diff.functions[number]
            module = f"  {printable(function.module)}" if function.module else ""
            lines.append((printable(short_name(function.name)) + module, child.total, child))
        else:
            rest, count = [sum(each) for each in zip(rest, child.total, strict=True)], count + 1
    if any(node.own) and node.children:
        lines.append(("(itself)", node.own, None))
    if count:
        lines.append((f"({count} more)", rest, None))
    return lines
