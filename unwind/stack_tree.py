"""A tree of stacks in columns, as a hot loop: each distinct (caller, frame) is one node, however many stacks have it.

Nodes are numbered in the order in which they are first met, so that a node's parent has a lower number. What a frame
is, a number says that the caller gives. Made of other numbers for its frames a tree comes to another one, whose nodes
are numbered in the order in which they would be met there: each frame of it may be several, or none (`expanded`), some
may be left out of some of its stacks (`reduced`), or others of its stacks be put together (`merge`).

Imports NumPy, and no numba where the compiled code is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, hot_loop, run_hot
from cfi_tables.scalars import item
from unwind.tree_order import TreeOrder

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

ROOT = -1
"""The parent of the outermost frames."""

# Columns of a node (int32).
_PARENT = 0
_FRAME = 1
_NODE_WIDTH = 2

# The elements of the control array (int64).
_NEXT = 0
"""The next stack, or node, to add."""
_LAST = 1
"""The one behind the last."""
_COUNT = 2
"""Nodes so far."""
_FULL = 3
"""1: there was no room for all."""
_CONTROL_WIDTH = 4

_FIRST_NODES = 1 << 12
_FACTOR = 0x9E3779B1
_KEPT = 0x7FFFFFFF


@hot_loop
def _find_slot(nodes: FlatArray, slots: FlatArray, parent: int, frame: int) -> int:
    """Where in `slots` the node of `parent` and `frame` is, or would go; `slots` (int32) is never full."""
    mask = len(slots) - 1
    # Bits are dropped before each product, so that it stays in range.
    mixed = ((((parent & _KEPT) * _FACTOR >> 16) ^ frame) & _KEPT) * _FACTOR
    slot = (mixed >> 24) & mask
    while True:
        node = item(slots, slot) - 1
        if node < 0:
            return slot
        at = node * _NODE_WIDTH
        if item(nodes, at + _PARENT) == parent and item(nodes, at + _FRAME) == frame:
            return slot
        slot = (slot + 1) & mask


@hot_loop
def _child(nodes: FlatArray, slots: FlatArray, control: FlatArray, parent: int, frame: int) -> int:
    """The node of `frame` below `parent`, made where there is none."""
    slot = _find_slot(nodes, slots, parent, frame)
    node = item(slots, slot) - 1
    if node < 0:
        node = control[_COUNT] + 0
        nodes[node * _NODE_WIDTH + _PARENT] = parent
        nodes[node * _NODE_WIDTH + _FRAME] = frame
        slots[slot] = node + 1
        control[_COUNT] = node + 1
    return node


@hot_loop
def _has_room(nodes: FlatArray, slots: FlatArray, control: FlatArray, more: int) -> bool:
    count = control[_COUNT] + more
    return 2 * count <= len(slots) if count * _NODE_WIDTH <= len(nodes) else False


@hot_loop
def refill_tree(nodes: FlatArray, count: int, slots: FlatArray) -> None:
    """Enter `count` nodes into `slots`, which are all free."""
    for node in range(count):
        at = node * _NODE_WIDTH
        slots[_find_slot(nodes, slots, item(nodes, at + _PARENT), item(nodes, at + _FRAME))] = node + 1


@hot_loop
def add_stacks(
    chosen: FlatArray,
    marks: FlatArray,
    kernel_ends: FlatArray,
    kernel_frames: FlatArray,
    ends: FlatArray,
    frames: FlatArray,
    numbers: FlatArray,
    leaves: FlatArray,
    nodes: FlatArray,
    slots: FlatArray,
    control: FlatArray,
) -> None:
    """Add the stacks of the `chosen` samples (int64), outermost frame first; `leaves` (int32) are their nodes.

    A sample has its mark (int32, -1: none), then its frames, then those of the kernel, both innermost first; where they
    end is told by int64 arrays. A frame (int32) has its number in `numbers` (int32), those of the kernel are numbers.
    `nodes` and `slots` int32, `control` int64.
    """
    control[_FULL] = 0
    at = control[_NEXT] + 0
    while at < control[_LAST]:
        sample = item(chosen, at)
        first = item(ends, sample - 1) if sample > 0 else 0
        last = item(ends, sample)
        kernel_first = item(kernel_ends, sample - 1) if sample > 0 else 0
        kernel_last = item(kernel_ends, sample)
        if not _has_room(nodes, slots, control, last - first + kernel_last - kernel_first + 1):
            control[_FULL] = 1
            break
        node = ROOT
        if item(marks, sample) >= 0:
            node = _child(nodes, slots, control, node, item(marks, sample))
        for index in range(last - 1, first - 1, -1):
            node = _child(nodes, slots, control, node, item(numbers, item(frames, index)))
        for index in range(kernel_last - 1, kernel_first - 1, -1):
            node = _child(nodes, slots, control, node, item(kernel_frames, index))
        leaves[at] = node
        at += 1
    control[_NEXT] = at


@hot_loop
def expand_nodes(
    old: FlatArray,
    ends: FlatArray,
    parts: FlatArray,
    leaves: FlatArray,
    nodes: FlatArray,
    slots: FlatArray,
    control: FlatArray,
) -> None:
    """Add the nodes of the tree `old`, each frame as its parts: `leaves` (int32) tells which node each one came to.

    The parts of frame f, innermost first, are those of `parts` (int32) that end before `ends[f]` (int64) and begin
    where those of the frame before it end.
    """
    control[_FULL] = 0
    at = control[_NEXT] + 0
    while at < control[_LAST]:
        parent = item(old, at * _NODE_WIDTH + _PARENT)
        frame = item(old, at * _NODE_WIDTH + _FRAME)
        first = item(ends, frame - 1) if frame > 0 else 0
        last = item(ends, frame)
        if not _has_room(nodes, slots, control, last - first):
            control[_FULL] = 1
            break
        node = ROOT
        if parent >= 0:
            node = item(leaves, parent)
        for index in range(last - 1, first - 1, -1):
            node = _child(nodes, slots, control, node, item(parts, index))
        leaves[at] = node
        at += 1
    control[_NEXT] = at


@hot_loop
def reduce_stacks(
    stacks: FlatArray,
    old: FlatArray,
    ends: FlatArray,
    parts: FlatArray,
    joined: FlatArray,
    nothing: int,
    path: FlatArray,
    leaves: FlatArray,
    nodes: FlatArray,
    slots: FlatArray,
    control: FlatArray,
) -> None:
    """Add `stacks` (int32) of the tree `old`, each frame as its parts; `leaves` (int32) tells what they came to.

    The parts are those of `expand_nodes`; of those that follow each other and are alike in `joined` (int32, -1: like no
    other), the innermost is left. A stack without any comes to `nothing`. `path` (int32) is room for all parts of one.
    """
    control[_FULL] = 0
    at = control[_NEXT] + 0
    while at < control[_LAST]:
        length = 0
        inner = -1
        stack = item(stacks, at)
        while stack >= 0:
            frame = item(old, stack * _NODE_WIDTH + _FRAME)
            stack = item(old, stack * _NODE_WIDTH + _PARENT)
            first = item(ends, frame - 1) if frame > 0 else 0
            last = item(ends, frame)
            for index in range(first, last):
                alike = item(joined, index)
                if alike < 0 or alike != inner:
                    path[length] = item(parts, index)
                    length += 1
                inner = alike
        if not _has_room(nodes, slots, control, length + 1):
            control[_FULL] = 1
            break
        node = ROOT
        if length == 0:
            node = _child(nodes, slots, control, node, nothing)
        for index in range(length - 1, -1, -1):
            node = _child(nodes, slots, control, node, item(path, index))
        leaves[at] = node
        at += 1
    control[_NEXT] = at


@hot_loop
def merge_stacks(
    stacks: FlatArray,
    groups: FlatArray,
    parents: FlatArray,
    keys: FlatArray,
    owners: FlatArray,
    places: FlatArray,
    path: FlatArray,
    leaves: FlatArray,
    nodes: FlatArray,
    slots: FlatArray,
    control: FlatArray,
) -> None:
    """Add `stacks` of a tree of `parents`, their frames numbered by `keys`, below a node for each group.

    A group's node is the outermost, numbered as the group, and its stacks follow each other. All are int32. `owners`
    (all 0 before the first) and `places` are of the length of the tree, and tell which of it is known; `path` is room
    for a stack; `leaves` are the nodes that the stacks came to.
    """
    control[_FULL] = 0
    at = control[_NEXT] + 0
    while at < control[_LAST]:
        group = item(groups, at)
        stack = item(stacks, at)
        length = 0
        while stack >= 0:
            if item(owners, stack) == group + 1:
                break
            path[length] = stack
            length += 1
            stack = item(parents, stack)
        if not _has_room(nodes, slots, control, length + 1):
            control[_FULL] = 1
            break
        node = ROOT
        if stack >= 0:  # a call that many stacks share is looked at once
            node = item(places, stack)
        else:
            node = _child(nodes, slots, control, node, group)
        for index in range(length - 1, -1, -1):
            stack = item(path, index)
            node = _child(nodes, slots, control, node, item(keys, stack))
            owners[stack] = group + 1
            places[stack] = node
        leaves[at] = node
        at += 1
    control[_NEXT] = at


@hot_loop
def merge_callers(
    stacks: FlatArray,
    groups: FlatArray,
    parents: FlatArray,
    keys: FlatArray,
    leaves: FlatArray,
    nodes: FlatArray,
    slots: FlatArray,
    control: FlatArray,
) -> None:
    """The same with the stacks turned round: below the node of their group their innermost frames, then the callers."""
    control[_FULL] = 0
    at = control[_NEXT] + 0
    while at < control[_LAST]:
        length = 0
        stack = item(stacks, at)
        while stack >= 0:
            length += 1
            stack = item(parents, stack)
        if not _has_room(nodes, slots, control, length + 1):
            control[_FULL] = 1
            break
        node = _child(nodes, slots, control, ROOT, item(groups, at))
        stack = item(stacks, at)
        while stack >= 0:
            node = _child(nodes, slots, control, node, item(keys, stack))
            stack = item(parents, stack)
        leaves[at] = node
        at += 1
    control[_NEXT] = at


class StackTree:
    """A tree, grown by `add` or `merge`; `plain`: by the interpreter, as little is to be added."""

    def __init__(self, plain: bool = False) -> None:
        self._plain = plain
        self._nodes = np.empty(_FIRST_NODES * _NODE_WIDTH, dtype=np.int32)
        self._slots = np.zeros(2 * _FIRST_NODES, dtype=np.int32)
        self._control = np.zeros(_CONTROL_WIDTH, dtype=np.int64)

    @property
    def parents(self) -> Int32s:
        """Of each node the node of its caller, or ROOT."""
        return self._column(_PARENT)

    @property
    def frames(self) -> Int32s:
        """Of each node the number of its frame."""
        return self._column(_FRAME)

    def add(
        self,
        chosen: Int64s,
        marks: Int32s,
        kernel: tuple[Int64s, Int32s],
        stacks: tuple[Int64s, Int32s],
        numbers: Int32s,
    ) -> Int32s:
        """Add stacks, see `add_stacks`; `kernel` and `stacks` are where the frames end, and the frames. Their nodes."""
        return self._add(len(chosen), add_stacks, chosen, marks, *kernel, *stacks, numbers)

    def expanded(self, ends: Int64s, parts: Int32s) -> tuple[StackTree, Int32s]:
        """The tree of other numbers, see `expand_nodes`, and for each node of this one that of the other."""
        tree = StackTree(self._plain)
        return tree, tree._add(int(self._control[_COUNT]), expand_nodes, self._nodes, ends, parts)

    def reduced(
        self, stacks: Int32s, ends: Int64s, parts: Int32s, joined: Int32s, nothing: int
    ) -> tuple[StackTree, Int32s]:
        """The tree of some parts of some stacks, see `reduce_stacks`, and for each of the stacks the node of it."""
        tree = StackTree(self._plain)
        deepest = int(TreeOrder(self.parents).depths.max(initial=0)) + 1
        path = np.empty(deepest * int(np.diff(ends, prepend=0).max(initial=0)), dtype=np.int32)
        return tree, tree._add(len(stacks), reduce_stacks, stacks, self._nodes, ends, parts, joined, nothing, path)

    def merge(self, stacks: Int32s, groups: Int32s, parents: Int32s, keys: Int32s, *, callers: bool = False) -> Int32s:
        """Add stacks of a tree of `parents`, see `merge_stacks`, or `merge_callers`. Their nodes."""
        if callers:
            return self._add(len(stacks), merge_callers, stacks, groups, parents, keys)
        room = (np.zeros(len(parents), dtype=np.int32) for _ in range(3))
        return self._add(len(stacks), merge_stacks, stacks, groups, parents, keys, *room)

    def _add(self, count: int, loop: Callable[..., None], *arguments: Any) -> Int32s:
        """Run a loop that adds so many, with more room until it is through."""
        leaves = np.empty(count, dtype=np.int32)
        self._control[_NEXT], self._control[_LAST] = 0, count
        while True:
            run_hot(loop, not self._plain, *arguments, leaves, self._nodes, self._slots, self._control)
            if not self._control[_FULL]:
                return leaves
            self._grow()

    def _grow(self) -> None:
        self._nodes = np.concatenate((self._nodes, np.empty(len(self._nodes), dtype=np.int32)))
        self._slots = np.zeros(2 * len(self._slots), dtype=np.int32)
        run_hot(refill_tree, not self._plain, self._nodes, int(self._control[_COUNT]), self._slots)

    def _column(self, column: int) -> Int32s:
        count = int(self._control[_COUNT])
        values: Int32s = self._nodes[: count * _NODE_WIDTH].reshape(-1, _NODE_WIDTH)[:, column]
        return values
