"""Distinct strings and their numbers: taken in bulk from a string section, or one list of names at a time.

The strings are kept as an index has them, one after the other with a NUL behind each; number 0 is the empty one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import hot_loop, run_hot
from unwind.dwarf.integer import SectionData, read_string

Int64s = NDArray[np.int64]

ODD = -1
"""Number of a string that is not all ASCII, whose bytes may have to be shown as escapes."""

# Indices in `counts`.
_NAMES = 0
_BYTES = 1


@hot_loop
def number_strings(
    data: Any, offsets: Any, first: int, ascii_only: int, slots: Any, begins: Any, texts: Any, numbers: Any,
    counts: Any, recent: Any,
) -> int:  # fmt: skip
    """Write the number of the string at each of `offsets` of `data`, from the `first` on, to `numbers`.

    What lies outside or does not end has number 0. New strings are appended to `texts`, and where they begin to
    `begins`; `slots` finds them by their contents, `recent` by where in `data` they were seen: pairs of an offset plus
    1 and a number, 0 for none, of a length that is a power of two. Returns the index at which an output was full, or
    how many offsets there are.
    """
    size = len(data)
    mask = len(slots) - 1
    recent_mask = len(recent) // 2 - 1
    for index in range(first, len(offsets)):
        begin = 0 + offsets[index]
        numbers[index] = 0
        if begin < 0 or begin >= size:
            continue
        if 2 * counts[_NAMES] >= mask or counts[_NAMES] >= len(begins):
            return index
        seen = 2 * ((begin ^ (begin >> 15)) & recent_mask)
        if recent[seen] == begin + 1:
            numbers[index] = recent[seen + 1]
            continue
        key = 0
        odd = 0
        end = begin
        while end < size and data[end] != 0:
            byte = 0 + data[end]
            odd |= byte
            key = ((key & 0x7FFFFFFFFFFF) * 31) + byte
            end += 1
        if end >= size or end == begin:
            continue
        if odd >= 128 and ascii_only != 0:
            numbers[index] = ODD
            continue
        slot = (key ^ (key >> 17) ^ (key >> 31)) & mask
        found = 0
        while slots[slot] != 0:
            start = 0 + begins[slots[slot]]
            at = begin
            while at < end and texts[start] == data[at]:
                start += 1
                at += 1
            if at == end and texts[start] == 0:
                found = 0 + slots[slot]
                break
            slot = (slot + 1) & mask
        if found == 0:
            used = 0 + counts[_BYTES]
            if used + (end - begin) + 1 > len(texts):
                return index
            found = 0 + counts[_NAMES]
            slots[slot] = found
            begins[found] = used
            for at in range(begin, end):
                texts[used] = data[at]
                used += 1
            texts[used] = 0
            counts[_BYTES] = used + 1
            counts[_NAMES] += 1
        numbers[index] = found
        recent[seen] = begin + 1
        recent[seen + 1] = found
    return len(offsets)


class NameTable:
    """Numbers of strings; the same string has the same number."""

    def __init__(self, plain: bool, expected: int = 256) -> None:
        """`plain` chooses the form of the hot loop; `expected` strings are to come, about."""
        self._plain = plain
        self._begins = np.zeros(max(expected, 64), dtype=np.int64)
        self._texts = np.zeros(max(24 * expected, 1024), dtype=np.uint8)
        self._slots = np.zeros(0, dtype=np.int64)
        self._counts = np.array([1, 1], dtype=np.int64)
        self._make_slots()

    def __len__(self) -> int:
        return int(self._counts[_NAMES])

    def number_at(self, data: SectionData, offsets: Int64s) -> Int64s:
        """The number of the string at each offset in a section; 0 where none is."""
        numbers = self._number(data, offsets, True)
        odd = np.flatnonzero(numbers == ODD)
        if len(odd):
            numbers[odd] = self.number_of([read_string(data, int(offset))[0] for offset in offsets[odd].tolist()])
        return numbers

    def number_of(self, names: list[str]) -> Int64s:
        """The number of each name; a NUL, which none should have, ends it."""
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return self._number(b"\0".join([*encoded, b""]), np.cumsum(lengths + 1) - lengths - 1, False)

    def text(self, number: int) -> str:
        """The string of a number."""
        begin = int(self._begins[number])
        end = int(self._begins[number + 1]) if number + 1 < len(self) else int(self._counts[_BYTES])
        return self._texts[begin : end - 1].tobytes().decode("utf-8", "surrogateescape")

    def all_texts(self) -> list[str]:
        """All strings, by their numbers."""
        return self.texts.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]

    @property
    def texts(self) -> NDArray[np.uint8]:
        """All strings, with a NUL behind each."""
        return self._texts[: self._counts[_BYTES]]

    @property
    def begins(self) -> Int64s:
        """Where each string begins in `texts`."""
        return self._begins[: len(self)]

    def _number(self, data: Any, offsets: Int64s, ascii_only: bool) -> Int64s:
        numbers = np.zeros(len(offsets), dtype=np.int64)
        if not len(data):
            return numbers
        if not self._plain:
            data = np.frombuffer(data, dtype=np.uint8)
        offsets = np.ascontiguousarray(offsets)
        recent = np.zeros(2 << min(15, len(offsets).bit_length()), dtype=np.int64)
        done = 0
        while True:
            done = int(
                run_hot(
                    *(number_strings, not self._plain, data, offsets, done, int(ascii_only)),
                    *(self._slots, self._begins, self._texts, numbers, self._counts, recent),
                )
            )
            if done == len(offsets):
                return numbers
            self._grow()

    def _grow(self) -> None:
        if 2 * len(self) >= len(self._slots) - 1 or len(self) >= len(self._begins):
            self._begins = np.concatenate([self._begins, np.zeros_like(self._begins)])
            self._make_slots()
        else:
            self._texts = np.concatenate([self._texts, np.zeros_like(self._texts)])

    def _make_slots(self) -> None:
        """Number all strings anew, in a table that has room for as many as `begins` has."""
        texts, begins, counts = self._texts, self._begins, self._counts
        self._slots = np.zeros(1 << (2 * len(begins) + 2).bit_length(), dtype=np.int64)
        self._texts, self._begins = np.zeros_like(texts), np.zeros_like(begins)
        self._counts = np.array([1, 1], dtype=np.int64)
        if counts[_NAMES] > 1:
            self._number(texts, begins[1 : counts[_NAMES]], False)
