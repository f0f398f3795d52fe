"""The tree of stacks: its nodes, their order and its expansion are those of a dictionary of callers."""

from __future__ import annotations

import random
from itertools import chain

import numpy as np
import pytest

from unwind import stack_tree
from unwind.stack_tree import ROOT, StackTree

_NUMBERS = np.array([7, 8, 9, 30, 31, 2_000_000_000], dtype=np.int32)
_KERNEL = (40, 41, 42)


class Stacks:
    """Random stacks as columns, and as lists of numbers, outermost first."""

    def __init__(self, chosen: random.Random, count: int) -> None:
        self.lists: list[list[int]] = []
        frames: list[int] = []
        kernel: list[int] = []
        ends, kernel_ends, marks = [], [], []
        for _ in range(count):
            user = [chosen.randrange(len(_NUMBERS)) for _ in range(chosen.randrange(12))]
            inner = [chosen.choice(_KERNEL) for _ in range(chosen.choice((0, 0, 3)))]
            mark = chosen.choice((ROOT, ROOT, 3))
            frames += user
            kernel += inner
            ends.append(len(frames))
            kernel_ends.append(len(kernel))
            marks.append(mark)
            numbers = [int(_NUMBERS[each]) for each in reversed(user)] + inner[::-1]
            self.lists.append(([mark] if mark != ROOT else []) + numbers)
        self.marks = np.array(marks, dtype=np.int32)
        self.user = np.array(ends, dtype=np.int64), np.array(frames, dtype=np.int32)
        self.kernel = np.array(kernel_ends, dtype=np.int64), np.array(kernel, dtype=np.int32)


def entered(nodes: dict[tuple[int, int], int], parent: int, numbers: list[int]) -> int:
    """The node that these numbers, outermost first, lead to below `parent`; new ones are numbered in turn."""
    for number in numbers:
        parent = nodes.setdefault((parent, number), len(nodes))
    return parent


@pytest.mark.parametrize("first_nodes", [16, 1 << 12])
def test_nodes_are_numbered_as_they_are_met(first_nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_tree, "_FIRST_NODES", first_nodes)
    chosen = random.Random(11)
    tree, nodes = StackTree(), dict[tuple[int, int], int]()
    for count in (1, 400, 0, 400):
        stacks = Stacks(chosen, count)
        asked = np.array([each for each in range(count) if chosen.random() < 0.8], dtype=np.int64)
        leaves = tree.add(asked, stacks.marks, stacks.kernel, stacks.user, _NUMBERS)
        assert leaves.tolist() == [entered(nodes, ROOT, stacks.lists[each]) for each in asked.tolist()]
    assert list(zip(tree.parents.tolist(), tree.frames.tolist(), strict=True)) == list(nodes)
    assert len(nodes) > 1000


def test_an_expanded_tree_is_that_of_the_parts() -> None:
    chosen = random.Random(12)
    numbers = np.arange(6, dtype=np.int32)
    stacks = Stacks(chosen, 500)
    tree = StackTree()
    every = np.arange(500, dtype=np.int64)
    nothing = np.zeros(500, dtype=np.int64), np.zeros(0, dtype=np.int32)
    no_marks = np.full(500, ROOT, dtype=np.int32)
    leaves = tree.add(every, no_marks, nothing, stacks.user, numbers)
    # Innermost first; some numbers come to nothing, some to the same.
    parts = [[100], [101, 100], [], [102, 101, 100], [100], [103]]
    ends = np.cumsum([len(each) for each in parts], dtype=np.int64)
    expanded, places = tree.expanded(ends, np.array([*chain(*parts)], dtype=np.int32))
    nodes = dict[tuple[int, int], int]()
    user_ends, frames = stacks.user
    expected = []
    for begin, end in zip([0, *user_ends[:-1].tolist()], user_ends.tolist(), strict=True):
        whole = [part for frame in frames[begin:end].tolist() for part in parts[frame]]
        expected.append(entered(nodes, ROOT, whole[::-1]))
    found = [int(places[leaf]) if leaf != ROOT else ROOT for leaf in leaves.tolist()]
    assert found == expected
    assert list(zip(expanded.parents.tolist(), expanded.frames.tolist(), strict=True)) == list(nodes)
