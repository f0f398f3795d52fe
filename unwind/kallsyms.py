"""Kernel symbols from /proc/kallsyms: what names kernel addresses when there is nothing better (proc(5)).

The kernel shows zeros instead of addresses to those that kptr_restrict or perf_event_paranoid keep out; that is a
reason, not a symbol table.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

_TEXT_TYPES = frozenset("tTwW")


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """The text symbol that holds an address."""

    name: str
    module: str | None
    """The loadable module's name, None for the kernel itself."""
    offset: int


class Kallsyms:
    """Text symbols sorted by address. `problem` says why there are none."""

    def __init__(self, text: str) -> None:
        rows: list[tuple[int, str, str | None]] = []
        hidden = 0
        for line in text.splitlines():
            fields = line.split(None, 3)
            if len(fields) < 3 or fields[1] not in _TEXT_TYPES:
                continue
            address = int(fields[0], 16)
            if address == 0:
                hidden += 1
                continue
            rows.append((address, fields[2], fields[3].strip("[] \t") if len(fields) > 3 else None))
        rows.sort(key=lambda row: row[0])
        self._addresses = array("Q", (row[0] for row in rows))
        self._rows = rows
        self.problem: str | None = None
        if not rows:
            self.problem = (
                "/proc/kallsyms shows no addresses"
                + (" (hidden by kernel.kptr_restrict)" if hidden else "")
                + ": run as root, or `sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1`"
            )

    @classmethod
    def of_this_kernel(cls) -> Kallsyms:
        """The running kernel's symbols."""
        try:
            return cls(Path("/proc/kallsyms").read_text())
        except OSError:
            return cls("")

    def find(self, address: int) -> KernelSymbol | None:
        """The symbol at or below `address`; of several at one address the first in kallsyms order."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return None
        start = self._addresses[index]
        while index > 0 and self._addresses[index - 1] == start:
            index -= 1
        _, name, module = self._rows[index]
        return KernelSymbol(name, module, address - start)
