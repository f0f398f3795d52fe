"""Stacks of a profile put together: calls that some format does not tell apart are one node below one node.

Each group of samples (those of a thread, of a command, or all) has a tree of its own, whose root is the group's node.
Nodes, and so the children of a node, are numbered in the order in which the samples bring them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptap.profile.sample_columns import added_up
from unwind.stack_tree import StackTree, merge_stacks
from unwind.tree_order import TreeOrder, is_much

if TYPE_CHECKING:
    from ptap.profile.stack_profile import StackProfile

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


class WeighedStacks(NamedTuple):
    """The distinct stacks of groups of samples, group by group, each in the order in which they are first met."""

    stacks: Int32s
    groups: Int32s
    weights: NDArray[Any]
    """int64, or objects."""


def weighed_stacks(profile: StackProfile, groups: Int32s | None = None, chosen: Int64s | None = None) -> WeighedStacks:
    """The stacks of the `chosen` samples in that order, or of all, by the `groups` of all samples, or in group 0."""
    samples = profile.samples
    chosen = np.arange(len(samples)) if chosen is None else chosen
    whose = np.zeros(len(samples), dtype=np.int64) if groups is None else groups.astype(np.int64)
    keys = (whose << 32 | samples.stacks)[chosen]
    distinct, firsts, places = np.unique(keys, return_index=True, return_inverse=True)
    weights = added_up(places.reshape(-1), samples.weights[chosen], len(distinct))
    order = np.lexsort((firsts, distinct >> 32))
    met = distinct[order]
    return WeighedStacks(met.astype(np.int32), (met >> 32).astype(np.int32), weights[order])


class MergedTree:
    """Trees by group, grown by `add`; the roots of `groups` groups are there from the beginning, as nodes 0 and on."""

    def __init__(self, size: int, groups: int = 1) -> None:
        """`size`: about how many calls will be added."""
        self._tree = StackTree(plain=not is_much(merge_stacks, size))
        nothing = np.full(groups, -1, dtype=np.int32)
        none = np.zeros(0, dtype=np.int32)
        self._tree.merge(nothing, np.arange(groups, dtype=np.int32), none, none)

    def add(self, profile: StackProfile, keys: Int32s, weighed: WeighedStacks, *, callers: bool = False) -> Int32s:
        """Add stacks of a profile whose calls are told apart by `keys` (by stack); the nodes that they came to.

        With `callers` they are turned round: the sampled calls are below the root.
        """
        parents = np.ascontiguousarray(profile.parents)
        return self._tree.merge(
            weighed.stacks, weighed.groups, parents, np.ascontiguousarray(keys, dtype=np.int32), callers=callers
        )

    def __len__(self) -> int:
        return len(self._tree.parents)

    @property
    def parents(self) -> Int32s:
        """By node; ROOT of the groups'."""
        return self._tree.parents

    @property
    def keys(self) -> Int32s:
        """By node; of a group's its number."""
        return self._tree.frames

    def order(self) -> TreeOrder:
        """Its nodes depth first."""
        return TreeOrder(self.parents)


class ShownTree:
    """A tree of one group and its weights, for those who show parts of it: lists by node, node 0 is the root."""

    def __init__(self, tree: MergedTree, own: list[NDArray[Any]]) -> None:
        """`own`: a column of own weights for each side that is compared."""
        order = tree.order()
        self.own: list[list[int]] = np.stack(own, axis=1).tolist()
        self.totals: list[list[int]] = np.stack([order.totals(each) for each in own], axis=1).tolist()
        self.keys: list[int] = tree.keys.tolist()
        by_parent = np.argsort(tree.parents, kind="stable")
        self._children: list[int] = by_parent.tolist()
        self._begins: list[int] = np.searchsorted(tree.parents[by_parent], np.arange(-1, len(tree) + 1)).tolist()

    def children(self, node: int) -> list[int]:
        """Those below a node, as they were met."""
        return self._children[self._begins[node + 1] : self._begins[node + 2]]
