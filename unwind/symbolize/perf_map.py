"""Names of code made at run time, from the list that its maker keeps: /tmp/perf-PID.map.

Owns the format (tools/perf/Documentation/jit-interface.txt): a line for each piece of code, `START SIZE name` with
START and SIZE hexadecimal and everything behind them the name. The file only grows: code that is moved or thrown away
is followed by other code at its place, so of entries that overlap the last one counts, where it covers.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.address_source import ModuleLabel
from unwind.symbolize.frame_columns import named_frames
from unwind.symbolize.function_name import demangled
from unwind.symbolize.index_lookup import AddressFrames

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument

_LIMIT = 1 << 30
"""Bytes of a file that are read: more than any program's code comes to."""
_TOP = 1 << 64


class PerfMapError(Exception):
    """A map cannot be read; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class JitSymbol:
    """A piece of code that was made at run time."""

    name: str
    """As its maker wrote it, C++ and Rust names demangled."""
    offset: int
    """Of the address asked for, from where the code begins."""


class PerfMap:
    """The code that one map names. `damaged` counts its lines that say nothing."""

    def __init__(self, content: bytes, path: str) -> None:
        self.path = path
        self.damaged = 0
        starts: list[int] = []
        ends: list[int] = []
        self._names: list[bytes] = []
        # What follows the last newline is a line that is still being written.
        whole, _, rest = content.rpartition(b"\n")
        for line in whole.split(b"\n") if whole else []:
            fields = line.split(None, 2)
            if not fields:
                continue
            try:
                start, size = int(fields[0], 16), int(fields[1], 16)
                name = fields[2].strip()
                if start < 0 or size < 0 or start + size > _TOP or b"_" in fields[0] + fields[1]:
                    raise ValueError(line)
            except (ValueError, IndexError):
                self.damaged += 1
                continue
            if size:
                starts.append(start)
                ends.append(start + size)
                self._names.append(name)
        self.unfinished = bool(rest)
        self._starts = starts
        self._pieces = _last_wins(starts, ends)
        self._lows = [piece[0] for piece in self._pieces]

    @classmethod
    def open(cls, path: str | Path) -> PerfMap:
        """The map in the file at `path`. Raises PerfMapError for one that is too large, and OSError."""
        with open(path, "rb") as file:
            content = file.read(_LIMIT + 1)
        if len(content) > _LIMIT:
            raise PerfMapError(f"{path}: more than {_LIMIT >> 20} MiB, which is no list of code; name the right file")
        # A map whose last line has no newline is one that somebody copied or wrote by hand.
        return cls(content if content.endswith(b"\n") else content + b"\n", str(path))

    def __len__(self) -> int:
        return len(self._names)

    def find(self, address: int) -> JitSymbol | None:
        """The code at `address`, None where the map has none."""
        index = bisect_right(self._lows, address) - 1
        if index < 0 or address >= self._pieces[index][1]:
            return None
        entry = self._pieces[index][2]
        return JitSymbol(demangled(self._names[entry].decode("utf-8", "replace")), address - self._starts[entry])

    # --- as a source of frames

    names_with_offsets = True

    @property
    def problems(self) -> list[str]:
        """One line where lines were damaged."""
        if not self.damaged:
            return []
        return [f"{self.damaged} line{'s' if self.damaged > 1 else ''} of another form than START SIZE name"]

    def frames(self, addresses: NDArray[np.uint64]) -> AddressFrames:
        """A frame for each of `addresses` that the map names."""
        found = [self.find(address) for address in addresses.tolist()]
        return named_frames([symbol.name if symbol else None for symbol in found])

    def function_offsets(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """How far each address lies behind where its code begins, -1 where the map has none."""
        found = [self.find(address) for address in addresses.tolist()]
        return np.array([symbol.offset if symbol else -1 for symbol in found], dtype=np.int64)

    def arguments(self, address: int) -> list[list[Argument]]:
        """None: a map has names alone."""
        return []

    def labels(self, addresses: NDArray[np.uint64]) -> list[ModuleLabel]:
        """The map, for each address."""
        return [ModuleLabel(self.path)] * len(addresses)


def _last_wins(starts: list[int], ends: list[int]) -> list[tuple[int, int, int]]:
    """(low, high, entry) of disjoint pieces, sorted: at each address the last of the entries that cover it."""
    pieces: list[tuple[int, int, int]] = []
    order = sorted(range(len(starts)), key=starts.__getitem__)
    covering: list[int] = []  # negative entry numbers: the last entry comes first
    at = 0
    for number in [*order, -1]:
        limit = starts[number] if number >= 0 else _TOP
        while covering and at < limit:
            entry = -covering[0]
            if ends[entry] <= at:
                heappop(covering)
                continue
            high = min(ends[entry], limit)
            if pieces and pieces[-1][2] == entry and pieces[-1][1] == at:
                pieces[-1] = (pieces[-1][0], high, entry)
            else:
                pieces.append((at, high, entry))
            at = high
        at = limit
        heappush(covering, -number)
    return pieces
