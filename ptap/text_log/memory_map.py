"""Mappings of a process that a log shows: where an address of it lies in a file.

Owns two forms: lines of /proc/PID/maps (proc(5)), as in glibc's old reports, and those of gdb's `info proc mappings`.
A mapping that overlaps one of before is of another process, with which a new map begins.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort

_KERNEL_FORM = re.compile(
    r"^\s*([0-9a-f]{4,16})-([0-9a-f]{4,16}) [r-][w-][x-][ps] ([0-9a-f]{1,16}) [0-9a-f]+:[0-9a-f]+ [0-9]+\s+(/.*)$"
)
_GDB_FORM = re.compile(
    r"^\s*0x([0-9a-f]{4,16})\s+0x([0-9a-f]{4,16})\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(?:[r-][w-][x-][ps]\s+)?(/.*)$"
)
_LIMIT = 1 << 20
"""Mappings that are remembered: a process has 65,530 at the most (vm.max_map_count)."""


class MemoryMap:
    """The mappings that were shown last. `processes` counts how often a new map began."""

    def __init__(self) -> None:
        self.processes = 0
        self._rows: list[tuple[int, int, int, str]] = []

    def add(self, line: str) -> bool:
        """Remember the mapping that `line` shows; False where it shows none."""
        found = _KERNEL_FORM.match(line) or _GDB_FORM.match(line)
        if found is None:
            return False
        row = (int(found[1], 16), int(found[2], 16), int(found[3], 16), found[4].rstrip().removesuffix(" (deleted)"))
        if row[0] >= row[1]:
            return False
        at = bisect_right(self._rows, row)
        same = at > 0 and self._rows[at - 1] == row
        overlaps = (at > 0 and self._rows[at - 1][1] > row[0]) or (at < len(self._rows) and self._rows[at][0] < row[1])
        if not self._rows or (overlaps and not same) or len(self._rows) >= _LIMIT:
            self._rows = []
            self.processes += 1
        if not same:
            insort(self._rows, row)
        return True

    def find(self, address: int) -> tuple[str, int] | None:
        """(path, byte in the file) of what is mapped at `address`; None where nothing is known to be."""
        at = bisect_right(self._rows, (address, 1 << 64, 0, "")) - 1
        if at < 0 or address >= self._rows[at][1]:
            return None
        start, _, offset, path = self._rows[at]
        return path, address - start + offset
