"""Stacks that no program ever had: random registers, memory and damaged states over the tables of real libraries.

Words are often addresses of code or of the stack itself, so that walks go on for a while; all come from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from core_library import Bytes, Int64s, Stack

from cfi_tables.table import CompactTable
from unwind.walk import (
    MAPPING_WIDTH,
    NO_PREVIOUS_CFA,
    NO_TABLE,
    RETURN_ADDRESS,
    STATE_CARRIED,
    STATE_EXACT,
    STATE_FRAMES,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    STATE_WIDTH,
    TRAMPOLINE,
)

_STACK = 0x7FFF_0000_0000
_WORDS = 256
_FIRST_MODULE = 0x7F00_0000_0000
_DISTANCE = 1 << 32


class GarbageStacks:
    """Makes stacks, one after the other, over `tables` side by side."""

    def __init__(self, tables: Sequence[CompactTable], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        content = bytearray()
        rows: list[int] = []
        self._text: list[tuple[int, int]] = []
        for number, table in enumerate(tables):
            content += bytes(-len(content) % 8)
            bias = _FIRST_MODULE + number * _DISTANCE
            low, high = (address + bias for address in table.text_range)
            self._text.append((low, high))
            rows += [low - low % 4096, high, bias, len(content)]
            content += table.data.tobytes()
        for table_kind in (NO_TABLE, TRAMPOLINE):
            start = _FIRST_MODULE + len(rows) // MAPPING_WIDTH * _DISTANCE
            self._text.append((start, start + 4096))
            rows += [start, start + 4096, 0, table_kind]
        self._arena: Bytes = np.frombuffer(bytes(content), dtype=np.uint8)
        self._mappings: Int64s = np.array(rows, dtype=np.int64)

    def _code(self, count: int = 1) -> Int64s:
        """Addresses of code; seldom in the last two mappings, which end every walk."""
        number = self._random.integers(len(self._text) - 2, size=count)
        ending = self._random.random(count) < 0.05
        number[ending] = self._random.integers(len(self._text), size=int(ending.sum()))
        low, high = np.array(self._text, dtype=np.int64)[number].T
        return low + self._random.integers(high - low)

    def _words(self, count: int) -> Int64s:
        """Mostly addresses of code and of the stack, else small or any numbers."""
        kind = self._random.random(count)
        stack = _STACK + 8 * self._random.integers(-8, _WORDS + 8, count) + 3 * (self._random.random(count) < 0.1)
        small = self._random.integers(0, 3, count)
        anything = self._random.integers(-(1 << 63), (1 << 63) - 1, count)
        return np.select([kind < 0.55, kind < 0.85, kind < 0.9], [self._code(count), stack, small], anything)

    def _slices(self) -> tuple[Bytes, Int64s]:
        content = self._words(_WORDS).view(np.uint8)
        if self._random.random() < 0.7:
            return content, np.array([_STACK, 0, len(content), int(self._random.integers(2))], dtype=np.int64)
        cut = int(self._random.integers(1, len(content)))
        gap = int(self._random.integers(cut))
        slices = [_STACK, 0, gap, int(self._random.integers(2)), _STACK + cut, cut, len(content) - cut, 0]
        if self._random.random() < 0.2:
            # Far away, where the distance of addresses is more than an int64 holds.
            slices += [-(1 << 63) + int(self._random.integers(64)), 0, 64, 1]
        return content, np.array(slices, dtype=np.int64)

    def next(self) -> Stack:
        """One more stack."""
        state = np.zeros(STATE_WIDTH, dtype=np.int64)
        state[:RETURN_ADDRESS] = self._words(RETURN_ADDRESS)
        for register in (3, 6, 7, 12):
            state[register] = _STACK + 8 * int(self._random.integers(_WORDS // 2))
        state[RETURN_ADDRESS] = self._code()[0]
        state[STATE_KNOWN] = (1 << 17) - 1
        if self._random.random() < 0.3:
            state[STATE_KNOWN] = int(self._random.integers(1 << 17)) | 1 << RETURN_ADDRESS
        state[STATE_CARRIED] = int(self._random.integers(1 << 17))
        state[STATE_EXACT] = int(self._random.integers(2))
        state[STATE_ON_DEMAND] = int(self._random.integers(2))
        state[STATE_FRAMES] = int(self._random.integers(2))
        state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA if self._random.random() < 0.8 else self._words(1)[0]
        content, slices = self._slices()
        return Stack(self._arena, self._mappings, content, slices, state)
