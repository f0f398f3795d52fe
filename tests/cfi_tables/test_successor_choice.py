"""The order of a rule's successors, by the book."""

from __future__ import annotations

import numpy as np
import pytest

from cfi_tables.hot_loop import run_hot
from cfi_tables.row_steps import PAIR_LIMIT
from cfi_tables.successor_choice import choose_successors, group_successors

_RULES = 40


def _pairs(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(first rules, counts) of more pairs than have their deltas counted apart, many of which are as frequent."""
    chance = np.random.default_rng(3)
    count = PAIR_LIMIT + 2000
    contexts, counts = chance.integers(0, _RULES, count), chance.integers(1, 50, count)
    if kind == "of one rule":
        contexts[:] = _RULES // 2
    elif kind == "rising":
        contexts, counts = np.zeros_like(contexts), np.arange(1, count + 1)
    elif kind == "nearly sorted":
        counts = np.sort(counts)[::-1] + chance.integers(0, 2, count)
    return contexts, counts


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize(
    ("kind", "done"), [("in any order", False), ("of one rule", False), ("rising", False), ("nearly sorted", True)]
)
def test_successors_are_grouped_by_falling_counts(kind, done, use_compiled):
    contexts, counts = _pairs(kind)
    rules = int(contexts.max()) + 1
    rare = np.arange(len(contexts)) >= PAIR_LIMIT
    wanted = np.lexsort((np.arange(len(contexts)), -counts, rare, contexts))
    firsts, order = np.zeros(rules + 1, dtype=np.int64), np.empty(len(contexts), dtype=np.int64)
    placeable, ends = np.zeros((2, rules), dtype=np.int64)
    assert run_hot(group_successors, use_compiled, contexts, counts, firsts, placeable, ends, order) == done
    assert firsts.tolist() == [0, *np.cumsum(np.bincount(contexts, minlength=rules))]
    assert placeable.tolist() == np.bincount(contexts[:PAIR_LIMIT], minlength=rules).tolist()
    assert (order == wanted).all() == done

    chosen = choose_successors(contexts, counts, rules, max(1, (rules - 1).bit_length()), use_compiled)
    assert (chosen.pairs == wanted).all()
    kept = np.concatenate([wanted[first : first + n] for first, n in zip(chosen.firsts[:-1], chosen.kept, strict=True)])
    assert set(np.flatnonzero(chosen.has_place)) == set(kept)
    assert not rare[kept].any()
