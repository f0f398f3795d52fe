"""A tree of stacks in columns, as a hot loop: each distinct (caller, frame) is one node, however many stacks have it.

Nodes are numbered in the order in which they are first met, so that a node's parent has a lower number. What a frame
is, a number says that the caller gives; the same tree made of other numbers for its frames (`StackTree.expanded`)
numbers its nodes in the order in which they would be met there.

Imports NumPy, and no numba where the compiled code is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import FlatArray, compiled, hot_loop
from cfi_tables.scalars import item

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


class StackTree:
    """A tree, grown by `add`."""

    def __init__(self) -> None:
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
        leaves = np.empty(len(chosen), dtype=np.int32)
        self._control[_NEXT], self._control[_LAST] = 0, len(chosen)
        while True:
            compiled(add_stacks)(
                chosen, marks, *kernel, *stacks, numbers, leaves, self._nodes, self._slots, self._control
            )
            if not self._control[_FULL]:
                return leaves
            self._grow()

    def expanded(self, ends: Int64s, parts: Int32s) -> tuple[StackTree, Int32s]:
        """The tree of other numbers, see `expand_nodes`, and for each node of this one that of the other."""
        tree = StackTree()
        count = int(self._control[_COUNT])
        leaves = np.empty(count, dtype=np.int32)
        tree._control[_LAST] = count
        while True:
            compiled(expand_nodes)(self._nodes, ends, parts, leaves, tree._nodes, tree._slots, tree._control)
            if not tree._control[_FULL]:
                return tree, leaves
            tree._grow()

    def _grow(self) -> None:
        self._nodes = np.concatenate((self._nodes, np.empty(len(self._nodes), dtype=np.int32)))
        self._slots = np.zeros(2 * len(self._slots), dtype=np.int32)
        compiled(refill_tree)(self._nodes, int(self._control[_COUNT]), self._slots)

    def _column(self, column: int) -> Int32s:
        count = int(self._control[_COUNT])
        values: Int32s = self._nodes[: count * _NODE_WIDTH].reshape(-1, _NODE_WIDTH)[:, column]
        return values
