"""The order of a tree depth first, and what is known of its nodes by it, against a walk by recursion."""

from __future__ import annotations

import random

import numpy as np
import pytest

from unwind import tree_order
from unwind.tree_order import TreeOrder, united_marks


class Forest:
    """A random forest, walked one node at a time."""

    def __init__(self, seed: int, count: int, ranked: bool) -> None:
        chosen = random.Random(seed)
        self.parents = [chosen.randrange(-1, node) if chosen.random() < 0.9 else -1 for node in range(count)]
        self.ranks = [chosen.randrange(count) * count + node for node in range(count)] if ranked else [*range(count)]
        self.keys = [chosen.randrange(4) for _ in range(count)]
        self.walk: list[int] = []
        self.depths, self.sizes, self.outermost = [0] * count, [0] * count, [False] * count
        for root in self._below(-1):
            self._enter(root, ())

    def _below(self, parent: int) -> list[int]:
        found = [node for node, above in enumerate(self.parents) if above == parent]
        return sorted(found, key=self.ranks.__getitem__)

    def _enter(self, node: int, keys: tuple[int, ...]) -> None:
        self.walk.append(node)
        self.depths[node], self.outermost[node] = len(keys), self.keys[node] not in keys
        before = len(self.walk)
        for child in self._below(node):
            self._enter(child, (*keys, self.keys[node]))
        self.sizes[node] = 1 + len(self.walk) - before


@pytest.mark.parametrize("much", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_order_is_that_of_a_walk(count: int, ranked: bool, much: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_order, "is_much", lambda *_: much)
    forest = Forest(count, count, ranked)
    parents = np.array(forest.parents, dtype=np.int32)
    order = TreeOrder(parents, np.array(forest.ranks, dtype=np.int64) if ranked else None)
    assert order.nodes.tolist() == forest.walk
    assert (order.depths.tolist(), order.sizes.tolist()) == (forest.depths, forest.sizes)
    assert order.outermost(np.array(forest.keys, dtype=np.int32)).tolist() == forest.outermost
    below = {node: forest.walk[place : place + forest.sizes[node]] for place, node in enumerate(forest.walk)}
    own = [(node * 7919) % 101 for node in range(count)]
    for values in (np.array(own, dtype=np.int64), np.array([each << 62 for each in own], dtype=object)):
        assert order.totals(values).tolist() == [sum(values[each] for each in below[node]) for node in range(count)]
    assert order.least(np.array(own, dtype=np.int64)).tolist() == [
        min(own[each] for each in below[node]) for node in range(count)
    ]
    marks = united_marks(parents, np.array([1 << (node % 60) for node in range(count)], dtype=np.int64))
    above = [[node for node in below if each in below[node]] for each in range(count)]
    assert marks.tolist() == [sum({1 << (node % 60) for node in nodes}) for nodes in above]
