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


def _paths(parents: list[int], stacks: list[int]) -> list[list[int]]:
    """The nodes of stacks of a tree, innermost first."""
    found = []
    for stack in stacks:
        path = []
        while stack != ROOT:
            path.append(stack)
            stack = parents[stack]
        found.append(path)
    return found


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
@pytest.mark.parametrize("callers", [False, True])
def test_merged_stacks_are_below_their_groups(callers: bool, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_tree, "_FIRST_NODES", 16)
    chosen = random.Random(13)
    parents = [chosen.randrange(-1, node) if node else ROOT for node in range(300)]
    keys = [chosen.randrange(5) for _ in parents]
    groups = sorted(chosen.randrange(4) for _ in range(400))
    stacks = [chosen.randrange(-1, 300) for _ in groups]
    tree, nodes = StackTree(plain), dict[tuple[int, int], int]()
    columns = (np.array(each, dtype=np.int32) for each in (stacks, groups, parents, keys))
    leaves = tree.merge(*columns, callers=callers)
    expected = []
    for group, path in zip(groups, _paths(parents, stacks), strict=True):
        numbers = [keys[node] for node in path]
        expected.append(entered(nodes, ROOT, [group, *(numbers if callers else numbers[::-1])]))
    assert leaves.tolist() == expected
    assert list(zip(tree.parents.tolist(), tree.frames.tolist(), strict=True)) == list(nodes)


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "plain"])
def test_reduced_stacks_have_what_is_left(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_tree, "_FIRST_NODES", 16)
    chosen = random.Random(14)
    parents = [chosen.choice((ROOT, chosen.randrange(-1, node))) if node else ROOT for node in range(300)]
    frames = [chosen.randrange(6) for _ in parents]
    old = StackTree(plain)
    every = np.arange(300, dtype=np.int32)
    # As the frames are, below one another: the nodes of `old` are those of its keys.
    of_old = old.merge(every, np.zeros(300, dtype=np.int32), np.array(parents, dtype=np.int32), every + 6)
    stacks = [chosen.randrange(300) for _ in range(200)]
    # Innermost first: a call and how it is joined with the next one; some frames come to nothing.
    parts = [[(100, 7)], [(101, -1), (100, 7)], [], [(102, 7), (101, -1), (103, 8)], [(100, 8)], [(103, -1)]]
    by_number = [[], *[[] for _ in range(5)], *(parts[frame] for frame in frames)]
    ends = np.cumsum([len(each) for each in by_number], dtype=np.int64)
    flat = [*chain(*by_number)]
    calls, joined = (np.array([each[column] for each in flat], dtype=np.int32) for column in (0, 1))
    tree, leaves = old.reduced(of_old[stacks], ends, calls, joined, 99)
    nodes, expected = dict[tuple[int, int], int](), []
    for path in _paths(parents, stacks):
        shown: list[tuple[int, int]] = []
        inner = -1
        for call, like in chain(*(parts[frames[node]] for node in path)):
            if like < 0 or like != inner:
                shown.append((call, like))
            inner = like
        expected.append(entered(nodes, ROOT, [call for call, _ in reversed(shown)] or [99]))
    assert leaves.tolist() == expected
    assert list(zip(tree.parents.tolist(), tree.frames.tolist(), strict=True)) == list(nodes)
    assert 99 in tree.frames.tolist()
