"""Folded stacks: a line for each stack that differs, `comm;outermost;...;innermost WEIGHT`, as flamegraph.pl has them.

The format is that of Brendan Gregg's stackcollapse scripts: `;` parts calls, the last space the weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import numpy as np

from cfi_tables.distinct_values import distinct_values
from ptap.profile.merged_tree import MergedTree, weighed_stacks
from ptap.profile.sample_columns import added_up
from ptap.report.short_text import printable
from unwind.tree_order import TreeOrder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ptap.profile.stack_profile import StackProfile


def write_folded(profile: StackProfile, stream: TextIO) -> None:
    """Write the profile's lines, sorted."""
    stream.writelines(f"{text} {weight}\n" for text, weight in folded_weights(profile))


def folded_weights(profile: StackProfile, renamed: Mapping[str, str] | None = None) -> Iterator[tuple[str, int]]:
    """Each stack as the format has it, and its weight, sorted; commands that are `renamed` by the other name."""
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(folded_name(name), len(numbers))

    comms = [renamed.get(thread.comm, thread.comm) if renamed else thread.comm for thread in profile.threads]
    groups = np.array([number(comm) for comm in comms], dtype=np.int32)
    tree = MergedTree(len(profile.parents), len(numbers))
    functions = np.array([number(function.name) for function in profile.functions], dtype=np.int32)
    weighed = weighed_stacks(profile, groups[profile.samples.threads])
    nodes = tree.add(profile, functions[profile.functions_of()], weighed)
    weights = added_up(nodes, weighed.weights, len(tree))
    # Each name is there twice, as the end of a line and with the separator behind: no such text begins with another
    # that has one, so that lines are in the order of the texts that they are made of.
    names = list(numbers)
    texts = [*names, *(f"{name};" for name in names)]
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    inner = len(tree)
    ends = distinct_values(nodes)
    keys = np.concatenate((tree.keys + len(names), tree.keys[ends]))
    order = TreeOrder(np.concatenate((tree.parents, tree.parents[ends])), ranks[keys])
    shown = order.nodes[(order.nodes >= inner) | (order.sizes[order.nodes] > 1)]
    prefixes = [""] * (int(order.depths.max(initial=0)) + 2)
    own = weights[ends].tolist()
    for node, depth, key in zip(*(each.tolist() for each in (shown, order.depths[shown], keys[shown])), strict=True):
        text = prefixes[depth] + texts[key]
        if node < inner:
            prefixes[depth + 1] = text
        else:
            yield text, own[node - inner]


def folded_name(name: str) -> str:
    """A name as the format can hold it: its separators become what the stackcollapse scripts make of them."""
    return printable(name.replace(";", ":")) or "[unknown]"
