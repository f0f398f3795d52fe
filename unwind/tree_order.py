"""The nodes of a tree depth first, as hot loops: where each one stands, how deep, and how many are below it.

A tree is the parents of its nodes (int32, ROOT for none), which have lower numbers than the nodes themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, compiled_pays, hot_loop, run_hot
from cfi_tables.scalars import item

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

_INTERPRETED_RATE = 1e5
"""Nodes a second, with all that is done to put a tree together and to order it."""


@hot_loop
def measure_nodes(parents: FlatArray, depths: FlatArray, sizes: FlatArray) -> None:
    """How deep each node is, from 0, and how many there are from it on downwards (int32, all 0 before)."""
    for node in range(len(parents)):
        parent = item(parents, node)
        if parent >= 0:
            depths[node] = item(depths, parent) + 1
    for node in range(len(parents) - 1, -1, -1):
        size = item(sizes, node) + 1
        sizes[node] = size
        parent = item(parents, node)
        if parent >= 0:
            sizes[parent] = item(sizes, parent) + size


@hot_loop
def place_nodes(parents: FlatArray, order: FlatArray, sizes: FlatArray, used: FlatArray, places: FlatArray) -> None:
    """Where each node stands depth first, siblings in their `order` (int64), in which they follow their parents.

    `used` is of the length of the nodes, all 0 before; it and `places` are int32.
    """
    behind = 0
    for index in range(len(order)):
        node = item(order, index)
        parent = item(parents, node)
        if parent >= 0:
            places[node] = item(places, parent) + 1 + item(used, parent)
            used[parent] = item(used, parent) + item(sizes, node)
        else:
            places[node] = behind
            behind += item(sizes, node)


@hot_loop
def unite_marks(parents: FlatArray, marks: FlatArray) -> None:
    """Give each node the bits in `marks` (int64) of all nodes from it to the root."""
    for node in range(len(parents)):
        parent = item(parents, node)
        if parent >= 0:
            marks[node] = item(marks, node) | item(marks, parent)


@hot_loop
def find_outermost(
    walk: FlatArray, depths: FlatArray, keys: FlatArray, path: FlatArray, active: FlatArray, outermost: FlatArray
) -> None:
    """Which nodes have no other of their key (int32) between them and the root: 1 in `outermost` (int8).

    `walk` (int64) are the nodes depth first; `path` is as long as they are, `active` as there are keys, all 0 before.
    """
    length = 0
    for index in range(len(walk)):
        node = item(walk, index)
        while length > item(depths, node):
            length -= 1
            left = item(path, length)
            active[left] = item(active, left) - 1
        key = item(keys, node)
        if item(active, key) == 0:
            outermost[node] = 1
        active[key] = item(active, key) + 1
        path[length] = key
        length += 1


class TreeOrder:
    """The order of a tree's nodes depth first. Siblings are in the order of their `ranks`, or else of their numbers."""

    def __init__(self, parents: Int32s, ranks: NDArray[np.int64] | None = None) -> None:
        count = len(parents)
        self._parents = np.ascontiguousarray(parents)
        self.depths: Int32s = np.zeros(count, dtype=np.int32)
        """By node, from 0."""
        self.sizes: Int32s = np.zeros(count, dtype=np.int32)
        """By node: of itself and all below."""
        self.places: Int32s = np.zeros(count, dtype=np.int32)
        """By node."""
        run_hot(measure_nodes, is_much(measure_nodes, count), self._parents, self.depths, self.sizes)
        order = np.arange(count) if ranks is None else np.lexsort((ranks, self.depths))
        used = np.zeros(count, dtype=np.int32)
        run_hot(place_nodes, is_much(place_nodes, count), self._parents, order, self.sizes, used, self.places)
        self.nodes: Int64s = np.empty(count, dtype=np.int64)
        """By place."""
        self.nodes[self.places] = np.arange(count)

    def totals(self, own: NDArray[np.generic]) -> NDArray[np.generic]:
        """By node the sum of what it and all below have for their own (int64, or objects)."""
        sums = np.concatenate((np.zeros(1, dtype=own.dtype), np.cumsum(own[self.nodes], dtype=own.dtype)))
        found: NDArray[np.generic] = sums[self.places + self.sizes] - sums[self.places]
        return found

    def least(self, own: Int64s) -> Int64s:
        """By node the least of what it and all below have for their own."""
        ordered = np.append(own[self.nodes], np.iinfo(np.int64).max)  # reduceat takes no index behind the last
        bounds = np.stack((self.places, self.places + self.sizes), axis=1).reshape(-1)
        found: Int64s = np.minimum.reduceat(ordered, bounds)[::2]
        return found

    def outermost(self, keys: Int32s) -> NDArray[np.bool_]:
        """By node whether no other of its key is between it and the root."""
        count = len(keys)
        found = np.zeros(count, dtype=np.int8)
        room = np.zeros(count, dtype=np.int32), np.zeros(int(keys.max(initial=-1)) + 1, dtype=np.int32)
        much = is_much(find_outermost, count)
        run_hot(find_outermost, much, self.nodes, self.depths, np.ascontiguousarray(keys), *room, found)
        return found.view(np.bool_)


def united_marks(parents: Int32s, marks: Int64s) -> Int64s:
    """For each node the bits of all from it to the root."""
    found = marks.copy()
    run_hot(unite_marks, is_much(unite_marks, len(found)), np.ascontiguousarray(parents), found)
    return found


def is_much(loop: Callable[..., Any], nodes: int) -> bool:
    """Whether a tree of so many nodes is one for the compiled form of a loop."""
    return compiled_pays(loop, nodes / _INTERPRETED_RATE)
