"""Numbers of strings: those of a dictionary, whatever the order and the number of strings, in both forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unwind.symbolize.name_table import NameTable
from unwind.symbolize.source_files import number_rows

NAMES = st.lists(st.text(st.characters(min_codepoint=1, max_codepoint=0x17F), max_size=6), max_size=60)


@pytest.mark.parametrize("plain", [True, False])
@given(NAMES, NAMES)
@settings(max_examples=30, deadline=None)  # the first run compiles
def test_equal_strings_have_equal_numbers(plain: bool, first: list[str], second: list[str]) -> None:
    table = NameTable(plain)
    encoded = [each.encode() for each in first]
    offsets = np.cumsum([0, *(len(each) + 1 for each in encoded)])[:-1]
    numbers = table.number_at(b"\0".join([*encoded, b""]), offsets.astype(np.int64)).tolist()
    numbers += table.number_of(second).tolist()
    for name, number in zip(first + second, numbers, strict=True):
        assert table.text(number) == name
        assert (number == 0) == (name == "")
    assert len(set(numbers)) == len(set(first + second))
    assert len(table) == len({"", *first, *second})
    assert table.texts.tobytes().decode().split("\0")[:-1] == [table.text(number) for number in range(len(table))]


@pytest.mark.parametrize("plain", [True, False])
def test_a_table_grows(plain: bool) -> None:
    table = NameTable(plain, expected=1)
    names = [f"{'name' * (number % 50)}{number}" for number in range(3000)]
    numbers = table.number_of(names)
    assert np.array_equal(table.number_of(names[::-1]), numbers[::-1])
    assert [table.text(number) for number in numbers.tolist()] == names


@pytest.mark.parametrize("plain", [True, False])
def test_strings_that_are_referred_to_again(plain: bool) -> None:
    names = [f"name{number}" for number in range(200)]
    data = b"\0".join(name.encode() for name in [*names, ""])
    begins = np.cumsum([0, *(len(name) + 1 for name in names)])[:-1].astype(np.int64)
    chosen = np.tile(np.arange(200), 40)
    table = NameTable(plain)
    assert [table.text(number) for number in table.number_at(data, begins[chosen]).tolist()] == names * 40
    other = b"another\0" + data
    assert table.text(int(table.number_at(other, np.zeros(3, dtype=np.int64))[2])) == "another"


def test_strings_that_are_no_text() -> None:
    table = NameTable(True)
    data = b"plain\0\xff\xfe\0no end"
    offsets = np.array([0, 6, 9, -1, len(data), 5], dtype=np.int64)
    numbers = table.number_at(data, offsets).tolist()
    assert [table.text(number) for number in numbers] == ["plain", "\\xff\\xfe", "", "", "", ""]
    assert table.number_at(b"", offsets).tolist() == [0] * len(offsets)


@given(st.lists(st.tuples(*[st.integers(-3, 3)] * 3), max_size=50))
def test_distinct_rows(rows: list[tuple[int, int, int]]) -> None:
    columns = np.array(rows, dtype=np.int64).reshape(-1)
    numbers, firsts = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    slots = np.zeros(1 << (2 * len(rows)).bit_length(), dtype=np.int64)
    count = number_rows(*map(memoryview, (columns,)), 3, *map(memoryview, (slots, numbers, firsts)))
    assert count == len(set(rows))
    assert [rows[first] for first in firsts[:count]] == list(dict.fromkeys(rows))
    assert [rows[firsts[number]] for number in numbers] == rows
