"""The tree of calls as text, as `perf report -g` shows it: functions below their callers, with shares of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from ptap.profile.function_table import share
from ptap.profile.stack_profile import ROOT
from ptap.report.short_text import printable, short_name

if TYPE_CHECKING:
    from ptap.profile.stack_profile import Function, StackProfile


class _Node:
    """A function at one place in the tree: addresses within it are added up."""

    __slots__ = ("children", "own", "total")

    def __init__(self) -> None:
        self.own = self.total = 0
        self.children: dict[Function, _Node] = {}


def write_call_tree(
    profile: StackProfile, stream: TextIO, *, callers: bool = False, least_share: float = 0.005
) -> None:
    """Write the tree: from the outermost calls inwards, or with `callers` from the sampled functions outwards.

    What is below `least_share` (a fraction of the whole) is one line, with how much it was.
    """
    root = _Node()
    functions, of_stack, parents = profile.functions, profile.functions_of().tolist(), profile.parents.tolist()
    for stack, weight in zip(*profile.stack_weights(), strict=True):
        path, at = [], stack
        while at != ROOT:
            path.append(functions[of_stack[at]])
            at = parents[at]
        node = root
        node.total += weight
        for function in path if callers else reversed(path):
            node = node.children.setdefault(function, _Node())
            node.total += weight
        node.own += weight
    stream.write(f"{profile.facts}\n\n")
    _write_children(root, stream, root.total, least_share)


def _write_children(root: _Node, stream: TextIO, whole: int, least_share: float) -> None:
    """Depth first, without recursion: stacks may be deeper than Python's own."""
    pending = [(0, iter(_shown(root, whole, least_share)))]
    while pending:
        depth, children = pending[-1]
        found = next(children, None)
        if found is None:
            pending.pop()
            continue
        text, total, node = found
        stream.write(f"{'  ' * depth}{share(total, whole):>7} {total:>8}  {text}\n")
        if node is not None:
            pending.append((depth + 1, iter(_shown(node, whole, least_share))))


def _shown(node: _Node, whole: int, least_share: float) -> list[tuple[str, int, _Node | None]]:
    """The lines below a node: its heavy children, what was spent in itself where it has any, and the rest as one."""
    heavy, rest, count = [], 0, 0
    for function, child in sorted(node.children.items(), key=lambda item: (-item[1].total, item[0].name)):
        if child.total >= whole * least_share:
            module = f"  {printable(function.module)}" if function.module else ""
            heavy.append((printable(short_name(function.name)) + module, child.total, child))
        else:
            rest, count = rest + child.total, count + 1
    lines: list[tuple[str, int, _Node | None]] = [*heavy]
    if node.own and node.children:
        lines.append(("(itself)", node.own, None))
    if count:
        lines.append((f"({count} more)", rest, None))
    return lines
