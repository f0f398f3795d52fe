"""One frame's step by the C core and by unwind.walk at many addresses of one table, in one compiled loop each.

Owns the synthetic states and memory: registers point into a memory of random words, each of which is an address in
it too, so that a step which reads another word, or adds another offset, gives another result.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from runtime_c.core_library import SOURCES, WARNINGS, Bytes, Input, Int64s

from cfi_tables.hot_loop import FlatArray, compiled, hot_loop
from cfi_tables.lookup import find_rule
from unwind.memory import SLICE_WIDTH
from unwind.walk import (
    FRAME_WIDTH,
    NO_PREVIOUS_CFA,
    REGISTER_COUNT,
    RETURN_ADDRESS,
    SCRATCH_WIDTH,
    STATE_CARRIED,
    STATE_EXACT,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    STATE_WIDTH,
    walk,
)

_MEMORY = 0x7FFF_0000_0000
_MEMORY_BYTES = 1 << 21  # frames of 181,312 bytes occur
_ALL_KNOWN = (1 << REGISTER_COUNT) - 1


@hot_loop
def row_rules(table: FlatArray, pcs: FlatArray, rules: FlatArray) -> None:
    """Put the offset of the rule in force at each address into `rules`, -1 where there is none."""
    for index in range(len(pcs)):
        rules[index] = find_rule(table, 0, pcs[index] + 0)


@hot_loop
def row_steps(
    table: FlatArray,
    mappings: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    states: FlatArray,
    count: int,
    frames: FlatArray,
    registers: FlatArray,
    reasons: FlatArray,
    scratch: FlatArray,
) -> None:
    """Walk one frame from each of `count` states, which are left behind the step; a row of each array a state."""
    for index in range(count):
        reason, _ = walk(
            table, mappings, 0, 1, content, slices, 0, 1, states[index * STATE_WIDTH : (index + 1) * STATE_WIDTH],
            frames[index * FRAME_WIDTH : (index + 1) * FRAME_WIDTH], 0, 1,
            registers[index * REGISTER_COUNT : (index + 1) * REGISTER_COUNT], scratch,
        )  # fmt: skip
        reasons[index] = reason


def build_library(directory: Path) -> ctypes.CDLL:
    """row_steps.c with the core as a shared library."""
    target = directory / "row_steps.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(
        ["gcc", *WARNINGS, "-O2", "-shared", "-fPIC", "-o", str(target), str(source), *map(str, SOURCES)], check=True
    )
    return ctypes.CDLL(str(target))


@dataclass
class Stepped:
    """What the steps came to: a row a state."""

    states: Int64s
    frames: Int64s
    registers: Int64s
    reasons: Int64s

    @classmethod
    def begin(cls, states: Int64s) -> Stepped:
        """Room for the steps from `states`."""
        count = len(states)
        shapes = ((count, FRAME_WIDTH), (count, REGISTER_COUNT), (count,))
        return cls(states.copy(), *(np.zeros(shape, dtype=np.int64) for shape in shapes))

    def differing(self, other: Stepped) -> Int64s:
        """The indexes of the states whose steps differ in anything."""
        same = self.reasons == other.reasons
        for name in ("states", "frames", "registers"):
            same &= (getattr(self, name) == getattr(other, name)).all(axis=1)
        return np.flatnonzero(~same)


class RowSteps:
    """Both readers of one table, mapped at its own file virtual addresses."""

    def __init__(self, library: ctypes.CDLL, table: Bytes, text_range: tuple[int, int], seed: int) -> None:
        self._table = np.frombuffer(bytes(table), dtype=np.uint8)
        self._random = np.random.default_rng(seed)
        # A return address behind the last function lies at the text's end, and is looked up one below.
        low, high = np.array(text_range, dtype=np.uint64).view(np.int64).tolist()
        self._mappings = np.array([low, high, 0, 0], dtype=np.int64)
        words = _MEMORY + self._random.integers(0, _MEMORY_BYTES, _MEMORY_BYTES // 8)
        self._content = words.view(np.uint8)
        self._slices = np.array([_MEMORY, 0, _MEMORY_BYTES, 0], dtype=np.int64)
        assert len(self._slices) == SLICE_WIDTH
        self._rules_by_c = library.row_rules
        self._rules_by_c.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.c_void_p,
        ]
        self._steps_by_c = library.row_steps
        self._steps_by_c.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint64] + [ctypes.c_void_p] * 3
        self._scratch = np.zeros(SCRATCH_WIDTH, dtype=np.int64)

    def rules(self, pcs: Int64s) -> tuple[Int64s, Int64s]:
        """The rules at `pcs` by C and by Python."""
        mine, theirs = np.empty_like(pcs), np.empty_like(pcs)
        self._rules_by_c(self._table.ctypes.data, len(self._table), pcs.ctypes.data, len(pcs), mine.ctypes.data)
        compiled(row_rules)(self._table, pcs, theirs)
        return mine, theirs

    def states(self, pcs: Int64s, exact: bool) -> Int64s:
        """States whose rules are those at `pcs`, interrupted there or behind a call that ends there."""
        count = len(pcs)
        states = np.zeros((count, STATE_WIDTH), dtype=np.int64)
        middle = self._random.integers(_MEMORY_BYTES // 4, 3 * _MEMORY_BYTES // 4, (count, REGISTER_COUNT))
        states[:, :REGISTER_COUNT] = _MEMORY + middle
        states[:, RETURN_ADDRESS] = pcs if exact else pcs + 1
        some_known = self._random.integers(0, _ALL_KNOWN + 1, count) | 1 << RETURN_ADDRESS
        states[:, STATE_KNOWN] = np.where(self._random.random(count) < 0.8, _ALL_KNOWN, some_known)
        states[:, STATE_EXACT] = exact
        states[:, STATE_CARRIED] = self._random.integers(0, _ALL_KNOWN + 1, count)
        states[:, STATE_ON_DEMAND] = self._random.integers(0, 2, count)
        previous = _MEMORY + self._random.integers(0, _MEMORY_BYTES, count)
        states[:, STATE_PREVIOUS_CFA] = np.where(self._random.random(count) < 0.8, NO_PREVIOUS_CFA, previous)
        return states

    def steps(self, states: Int64s) -> tuple[Stepped, Stepped]:
        """One frame from each of `states`, by C and by Python."""
        mine, theirs = Stepped.begin(states), Stepped.begin(states)
        given = Input(
            self._table.ctypes.data, len(self._table), self._mappings.ctypes.data, 1,
            self._content.ctypes.data, len(self._content), self._slices.ctypes.data, 1,
        )  # fmt: skip
        self._steps_by_c(
            ctypes.byref(given), mine.states.ctypes.data, len(states), mine.frames.ctypes.data,
            mine.registers.ctypes.data, mine.reasons.ctypes.data,
        )  # fmt: skip
        compiled(row_steps)(
            self._table, self._mappings, self._content, self._slices, theirs.states.reshape(-1), len(states),
            theirs.frames.reshape(-1), theirs.registers.reshape(-1), theirs.reasons, self._scratch,
        )  # fmt: skip
        return mine, theirs
