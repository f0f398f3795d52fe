"""A program's run as the stepper records it: every state between two instructions, and the true call stack there.

Owns the reading of the stepper's blocks (record_stream.h), the image of the memory and the address space as they
grow. Builds the stepper with gcc. Independent of the walk.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from relay_reader.capture import Mapping

Int64s = npt.NDArray[np.int64]

_SOURCES = ("stepper.c", "call_stack.c", "record_stream.c")
_REGISTERS = 17
_STEP_WORDS = _REGISTERS + 4
_NODE_WORDS = 4 + _REGISTERS
_START, _MAPS, _STEPS, _END = 1, 2, 3, 4

REWROTE_RETURN = 1
REPEATED = 2
RETURNED_ELSEWHERE = 4


def build_stepper(directory: Path) -> Path:
    """Compile the stepper into `directory`."""
    folder = Path(__file__).resolve().parent
    target = directory / "stepper"
    subprocess.run(
        ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(target),
         *(str(folder / name) for name in _SOURCES)], check=True,
    )  # fmt: skip
    return target


@dataclass(frozen=True, slots=True)
class Region:
    """Watched memory: `words` words from `address` on are in the image from word `first` on."""

    address: int
    first: int
    words: int


@dataclass(frozen=True, slots=True)
class Steps:
    """Consecutive states. Flat int64 arrays, rows as in record_stream.h."""

    count: int
    steps: Int64s
    deltas: Int64s
    nodes: Int64s
    """All nodes of the run so far."""

    @property
    def flags(self) -> Int64s:
        """The flags of each step."""
        return self.steps.reshape(-1, _STEP_WORDS)[:, -1]


class RecordedRun:
    """Steps the program `command` and gives what it does. A context manager, which ends the program."""

    def __init__(self, stepper: Path, command: Sequence[str], *options: str) -> None:
        self._command = [str(stepper), *options, *command]
        self.pid = 0
        self.regions: list[Region] = []
        self.status: int | None = None
        """How the program ended, as waitpid tells it; None until then."""
        self.mappings: list[Mapping] = []
        """The executable mappings that were seen, in the order of their appearance."""

    def __enter__(self) -> RecordedRun:
        # A small environment: the fewer variables, the smaller the stack.
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env={})
        assert self._process.stdout is not None
        self._stream: IO[bytes] = self._process.stdout
        kind, self.pid, count, words = self._words(4)
        assert kind == _START
        for _ in range(count):
            address, first, size = self._words(3)
            self.regions.append(Region(address, first, size))
        self.image: Int64s = np.zeros(words, dtype=np.int64)
        self._nodes: Int64s = np.zeros(1 << 16, dtype=np.int64)
        self._node_words = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._process.kill()
        self._process.wait()

    def blocks(self) -> Iterator[Steps]:
        """The run, block by block; `mappings` is what holds for the block that was given last."""
        while True:
            kind, first, second, third = self._words(4)
            if kind == _MAPS:
                self._add_mappings(self._read(first).rstrip(b"\0").decode())
            elif kind == _STEPS:
                steps, deltas, nodes = (
                    self._array(first * _STEP_WORDS), self._array(second * 2), self._array(third * _NODE_WORDS)
                )  # fmt: skip
                self._add_nodes(nodes)
                yield Steps(first, steps, deltas, self._nodes)
            else:
                assert kind == _END
                self.status = first
                return

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        assert len(data) == size, "the stepper ended early; its message is on stderr"
        return data

    def _array(self, words: int) -> Int64s:
        array = np.empty(words, dtype=np.int64)
        if words:
            view = memoryview(array).cast("B")
            assert self._stream.readinto(view) == len(view)  # type: ignore[attr-defined]
        return array

    def _words(self, count: int) -> list[int]:
        return [int(word) for word in np.frombuffer(self._read(8 * count), dtype=np.int64)]

    def _add_nodes(self, nodes: Int64s) -> None:
        needed = self._node_words + len(nodes)
        if needed > len(self._nodes):
            grown = np.zeros(2 * needed, dtype=np.int64)
            grown[: self._node_words] = self._nodes[: self._node_words]
            self._nodes = grown
        self._nodes[self._node_words : needed] = nodes
        self._node_words = needed

    def _add_mappings(self, text: str) -> None:
        for line in text.splitlines():
            match = re.fullmatch(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+\s*(.*)", line)
            assert match, line
            start, end, offset = (int(match[number], 16) for number in (1, 2, 3))
            mapping = Mapping(start, end, offset, match[4])
            if mapping not in self.mappings and match[4] != "[vsyscall]":
                self.mappings.append(mapping)
