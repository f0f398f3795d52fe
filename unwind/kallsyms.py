"""Kernel symbols as /proc/kallsyms and System.map list them: what names kernel addresses when there is nothing better.

Owns the format: a line for each symbol, address, type (as nm's) and name, and behind these `[module]` for what is not
of the kernel itself (proc(5)). The kernel shows zeros instead of addresses to those that kptr_restrict or
perf_event_paranoid keep out; that is a reason, not a symbol table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TEXT_TYPES = frozenset("tTwW")
_END = "_etext"
"""The symbol behind the kernel's last code: nothing that begins there is code either."""
_REACH = 1 << 16
"""Bytes up to which a symbol reaches that is the last of the kernel or of a module: no list tells where it ends."""
_LONGEST = 1 << 20
"""Bytes of the longest function of a module: its sections lie apart, and what is between them is not its."""


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """The text symbol that holds an address."""

    name: str
    module: str | None
    """The loadable module's name, None for the kernel itself."""
    offset: int


class Kallsyms:
    """Symbols sorted by address. `problem` says why there are none, `damaged` counts lines that are none."""

    def __init__(self, text: str, path: str = "/proc/kallsyms") -> None:
        self.path = path
        self.damaged = 0
        hidden = 0
        rows: list[tuple[int, str, bool]] = []
        modules: list[str | None] = []
        for line in text.splitlines():
            fields = line.split(None, 3)
            try:
                address, is_text, name = int(fields[0], 16), fields[1] in _TEXT_TYPES, fields[2]
                if not 0 <= address < 1 << 64 or len(fields[1]) != 1:
                    raise ValueError(line)
            except (ValueError, IndexError):
                self.damaged += bool(fields)
                continue
            if address == 0:  # per-processor data begins at 0 in sound lists
                hidden += is_text
                continue
            rows.append((address, name, is_text))
            modules.append(fields[3].strip("[] \t") if len(fields) > 3 else None)
        addresses = np.array([row[0] for row in rows], dtype=np.uint64)
        order = np.argsort(addresses, kind="stable")
        self._addresses = addresses[order]
        self._is_text = np.array([row[2] for row in rows], dtype=bool)[order]
        self._is_text[np.isin(self._addresses, [row[0] for row in rows if row[1] == _END])] = False
        self._names: list[str] = [rows[index][1] for index in order.tolist()]
        self._modules: list[str | None] = [modules[index] for index in order.tolist()]
        self.problem: str | None = None
        if not self._is_text.any():
            self.problem = f"{path} shows no addresses of code" + (
                " (hidden by kernel.kptr_restrict): run as root, or "
                "`sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1`"
                if hidden or path == "/proc/kallsyms"
                else ": it is no list of kernel symbols (`ADDRESS TYPE NAME` a line)"
            )

    @classmethod
    def of_this_kernel(cls) -> Kallsyms:
        """The running kernel's symbols."""
        try:
            return cls.open("/proc/kallsyms")
        except OSError:
            return cls("")

    @classmethod
    def open(cls, path: str | Path) -> Kallsyms:
        """The symbols listed in the file at `path`. Raises OSError."""
        return cls(Path(path).read_text(encoding="utf-8", errors="backslashreplace"), str(path))

    def __len__(self) -> int:
        return len(self._names)

    def move(self, slide: int) -> None:
        """Add `slide` to every address: a System.map has those of the kernel as it was linked."""
        self._addresses = self._addresses + np.uint64(slide % (1 << 64))
        for derived in ("_limits", "_unique"):
            self.__dict__.pop(derived, None)

    def find(self, address: int) -> KernelSymbol | None:
        """The code symbol that holds `address`; of several at one place the first in the list, as in the kernel."""
        row = int(self.rows_at(np.array([address], dtype=np.uint64))[0])
        if row < 0:
            return None
        return KernelSymbol(self._names[row], self._modules[row], address - int(self._addresses[row]))

    def rows_at(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of the code symbol that holds each address, -1 where none does."""
        if not len(self._addresses):
            return np.full(len(addresses), -1, dtype=np.int64)
        last = np.searchsorted(self._addresses, addresses, side="right") - 1
        row = self._holders[last]
        row[last < 0] = -1
        known = row >= 0
        known[known] &= addresses[known] < self._limits[row[known]]
        return np.where(known, row, -1)

    @cached_property
    def _holders(self) -> NDArray[np.int64]:
        """For each symbol the first code symbol at its address, -1 where there is none."""
        first = np.searchsorted(self._addresses, self._addresses, side="left")
        code = np.flatnonzero(self._is_text)
        # The first code symbol from `first` on; it counts when it has the same address.
        following = np.append(code, len(self._addresses))[np.searchsorted(code, first, side="left")]
        same = np.append(self._addresses, np.uint64(0))[following] == self._addresses
        return np.where((following < len(self._addresses)) & same, following, -1)

    @cached_property
    def _limits(self) -> NDArray[np.uint64]:
        """For each symbol where the next one begins; near its own begin where that one belongs to something else."""
        following = np.searchsorted(self._addresses, self._addresses, side="right")
        owner = np.append(self.owners, -1)
        owned = owner[following] == owner[:-1]
        reach = np.where(owned, np.where(self.owners > 0, _LONGEST, 1 << 62), _REACH).astype(np.uint64)
        near = self._addresses + np.minimum(reach, ~self._addresses)
        after = np.append(self._addresses, ~np.uint64(0))[following]
        limits: NDArray[np.uint64] = np.minimum(after, near)
        return limits

    @cached_property
    def owner_names(self) -> list[str | None]:
        """What symbols belong to: None is the kernel itself, and the first."""
        return list(dict.fromkeys([None, *self._modules]))

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """For each symbol what it belongs to, a number in `owner_names`."""
        numbers = {name: index for index, name in enumerate(self.owner_names)}
        return np.array([numbers[name] for name in self._modules], dtype=np.int64)

    def name(self, row: int) -> str:
        """The name of symbol `row`."""
        return self._names[row]

    def address(self, row: int) -> int:
        """Where symbol `row` begins."""
        return int(self._addresses[row])

    def names(self) -> set[str]:
        """The names of the code symbols of the kernel itself."""
        return {self._names[row] for row in self._own_code()}

    def code_of(self, is_meant: Callable[[str], bool]) -> list[tuple[int, int]]:
        """[start, end) of the kernel's own code symbols whose names are meant, sorted; none touches the next."""
        ranges: list[tuple[int, int]] = []
        for row in self._own_code():
            if is_meant(self._names[row]):
                start, end = int(self._addresses[row]), int(self._limits[row])
                if ranges and ranges[-1][1] >= start:
                    ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
                else:
                    ranges.append((start, end))
        return ranges

    def _own_code(self) -> list[int]:
        rows: list[int] = np.flatnonzero(self._is_text & (self.owners == 0)).tolist()
        return rows

    def unique_symbols(self, module: str | None = None) -> dict[str, int]:
        """The code symbols of `module` (None: of the kernel itself) whose name only one of them has, with addresses."""
        return self._unique.get(module, {})

    @cached_property
    def _unique(self) -> dict[str | None, dict[str, int]]:
        found: dict[str | None, dict[str, int]] = {}
        double: set[tuple[str | None, str]] = set()
        for row in np.flatnonzero(self._is_text).tolist():
            module, name = self._modules[row], self._names[row]
            symbols = found.setdefault(module, {})
            if name in symbols:
                double.add((module, name))
            symbols[name] = int(self._addresses[row])
        for module, name in double:
            del found[module][name]
        return found
