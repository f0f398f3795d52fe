"""The C core as tests use it: built as a shared library or as a program with sanitizers, and fed with flat arrays."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cfi_tables.hot_loop import compiled
from unwind.walk import (
    FRAME_WIDTH,
    REGISTER_COUNT,
    SCRATCH_WIDTH,
    STATE_WIDTH,
    walk,
)

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ROOT = Path(__file__).resolve().parents[2] / "runtime_c"
_PARTS = ("check", "checksum", "lookup", "expression", "plan", "step", "follow", "walk")
SOURCES = [*(_ROOT / "core" / f"ptap_{part}.c" for part in _PARTS), _ROOT / "host" / "ptap_host.c"]
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion"]


def build_library(compiler: str, directory: Path) -> ctypes.CDLL:
    """The core and its host part as a shared library."""
    target = directory / f"core-{compiler}.so"
    subprocess.run([compiler, *WARNINGS, "-O2", "-shared", "-fPIC", "-o", str(target), *map(str, SOURCES)], check=True)
    return ctypes.CDLL(str(target))


def build_program(source: Path, target: Path, *flags: str) -> None:
    """`source` linked with the core."""
    subprocess.run(["gcc", *WARNINGS, *flags, "-o", str(target), str(source), *map(str, SOURCES)], check=True)


class Input(ctypes.Structure):
    """struct ptap_host_input."""

    _fields_ = [
        (name, ctypes.c_void_p if pointer else ctypes.c_uint64)
        for name, pointer in (
            ("arena", True), ("arena_size", False), ("mappings", True), ("mapping_count", False),
            ("content", True), ("content_size", False), ("slices", True), ("slice_count", False),
            ("generation", False), ("only_needed", False),
        )
    ]  # fmt: skip


@dataclass
class Stack:
    """What one walk begins with: the arrays of `unwind.walk`."""

    arena: Bytes
    mappings: Int64s
    content: Bytes
    slices: Int64s
    state: Int64s


@dataclass
class Walked:
    """What a walk came to."""

    reason: int
    count: int
    frames: Int64s
    registers: Int64s
    state: Int64s

    def differences(self, other: Walked) -> list[str]:
        """How two walks differ, in words; nothing when they agree in all."""
        if (self.reason, self.count) != (other.reason, other.count):
            return [f"ends with {self.reason} after {self.count}, not {other.reason} after {other.count}"]
        found = []
        for name, width in (("frames", FRAME_WIDTH), ("registers", REGISTER_COUNT)):
            mine = getattr(self, name)[: self.count * width].reshape(-1, width)
            theirs = getattr(other, name)[: self.count * width].reshape(-1, width)
            places = np.argwhere(mine != theirs)
            if len(places):
                frame, column = places[0].tolist()
                found.append(f"{name} {frame}, column {column}: {mine[frame, column]} {theirs[frame, column]}")
        if (self.state != other.state).any():
            found.append(f"state: columns {np.flatnonzero(self.state != other.state).tolist()}")
        return found


def walk_by_numba(stack: Stack, room: int) -> Walked:
    """The walk of `stack` by unwind.walk, compiled."""
    frames = np.zeros((room + 1) * FRAME_WIDTH, dtype=np.int64)
    registers = np.zeros((room + 1) * REGISTER_COUNT, dtype=np.int64)
    state = stack.state.copy()
    scratch = np.zeros(SCRATCH_WIDTH, dtype=np.int64)
    reason, count = compiled(walk)(
        stack.arena, stack.mappings, 0, len(stack.mappings) // 4, stack.content, stack.slices, 0,
        len(stack.slices) // 4, state, frames, 0, room, registers, scratch,
    )  # fmt: skip
    return Walked(int(reason), int(count), frames, registers, state)


class Core:
    """The C walk, called in this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._walk = library.ptap_host_walk
        self._evaluate = library.ptap_host_evaluate
        self._evaluate.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_uint32] + [ctypes.c_void_p] * 2
        self._walk.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_uint64, ctypes.c_void_p]
        self._check = library.ptap_check_table
        self._check.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._holds = library.ptap_checksum_holds
        self._holds.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._find = library.ptap_find_rule
        self._find.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]
        self._find.restype = ctypes.c_int32

    def check_table(self, table: Bytes) -> int:
        """An enum ptap_table_fault, 0 for a sound table."""
        return int(self._check(table.ctypes.data, len(table)))

    def checksum_holds(self, table: Bytes) -> bool:
        """Whether a sound table has the checksum of its bytes."""
        return bool(self._holds(table.ctypes.data, len(table)))

    def find_rule(self, table: Bytes, pc: int) -> int:
        """As cfi_tables.lookup.find_rule."""
        return int(self._find(table.ctypes.data, len(table), pc & (1 << 64) - 1))

    def walk(self, stack: Stack, room: int, generation: int = 0, only_needed: bool = False) -> Walked:
        """The walk of `stack` by the core; it remembers what it has seen of mappings of the same `generation`.

        With `only_needed` it recovers no other registers than walks need, and gives none.
        """
        frames = np.zeros((room + 1) * FRAME_WIDTH, dtype=np.int64)
        registers = np.zeros((room + 1) * REGISTER_COUNT, dtype=np.int64)
        state = stack.state.copy()
        count = ctypes.c_uint64()
        reason = self._walk(
            ctypes.byref(_input(stack, generation, only_needed)), state.ctypes.data, frames.ctypes.data,
            registers.ctypes.data, room, ctypes.byref(count),
        )  # fmt: skip
        return Walked(reason, count.value, frames, registers, state)

    def evaluate(self, stack: Stack, code: bytes, initial: int | None) -> tuple[int, int]:
        """(what the evaluation came to, its value) on the registers and the memory of `stack`."""
        value = ctypes.c_int64()
        start = None if initial is None else ctypes.byref(ctypes.c_int64(initial))
        status = self._evaluate(
            ctypes.byref(_input(stack)), stack.state.ctypes.data, code, len(code), start, ctypes.byref(value)
        )
        return status, value.value


def _input(stack: Stack, generation: int = 0, only_needed: bool = False) -> Input:
    assert len(stack.state) == STATE_WIDTH
    return Input(
        stack.arena.ctypes.data, len(stack.arena), stack.mappings.ctypes.data, len(stack.mappings) // 4,
        stack.content.ctypes.data, len(stack.content), stack.slices.ctypes.data, len(stack.slices) // 4,
        generation, only_needed,
    )  # fmt: skip
