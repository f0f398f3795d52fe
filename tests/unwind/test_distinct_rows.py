"""Numbers of distinct rows are those of a dictionary, and rows that only share a hash stay apart."""

from __future__ import annotations

import random

import numpy as np
import pytest

from unwind import distinct_rows
from unwind.distinct_rows import DistinctRows


def random_rows(chosen: random.Random, count: int) -> list[tuple[int, ...]]:
    return [tuple(chosen.choice((-1, 0, 1 << 40, -(1 << 63))) for _ in range(3)) for _ in range(count)]


def columns_of(rows: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()


def test_rows_are_numbered_as_they_come() -> None:
    chosen, known = random.Random(3), dict[tuple[int, ...], int]()
    distinct = DistinctRows(3)
    for count in (1, 0, 20, 3000, 5):
        rows = random_rows(chosen, count)
        assert distinct.numbers(columns_of(rows)).tolist() == [known.setdefault(row, len(known)) for row in rows]
    assert list(map(tuple, distinct.columns.T.tolist())) == list(known) and len(known) == 64


def test_more_rows_than_there_was_room_for() -> None:
    distinct = DistinctRows(1)
    rows = np.arange(5000, dtype=np.int64).reshape(1, -1)
    assert distinct.numbers(rows).tolist() == list(range(5000)) == distinct.numbers(rows).tolist()


def test_an_equal_hash_is_not_an_equal_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct_rows, "_hashes", lambda rows: np.zeros(rows.shape[1], dtype=np.uint64))
    distinct, chosen = DistinctRows(3), random.Random(4)
    for count in (1, 50, 50):
        rows = random_rows(chosen, count)
        numbers = distinct.numbers(columns_of(rows))
        assert list(map(tuple, distinct.columns[:, numbers].T.tolist())) == rows
