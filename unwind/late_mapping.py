"""Executable memory that a live process has mapped without anybody being told: a JIT's, where calls are not watched.

The process stands still while its sample is walked, so what it has mapped now is what it had at the hit (proc(5)).
"""

from __future__ import annotations

from collections.abc import Iterator

from relay_reader.capture import Mapping

_NO_FILE = "//anon"
"""What perf calls memory that no file is mapped into."""


class LateMappings:
    """Tells of executable memory without a file, once for each, where the processes stand still at their samples."""

    def __init__(self) -> None:
        self._pages: dict[int, bytes] = {}
        """Process -> how many pages it had mapped when it was looked at."""
        self._told: dict[int, set[Mapping]] = {}

    def new_ones(self, pid: int) -> list[Mapping]:
        """What process `pid` has mapped since it was asked for last. Memory that only became executable may come late.

        A process whose size has not changed is not looked at, since its mappings may be thousands.
        """
        try:
            with open(f"/proc/{pid}/statm", "rb") as statm:
                pages = statm.read().split(None, 1)[0]
            if self._pages.get(pid) == pages:
                return []
            found = {each for each in _executable_mappings(pid) if each.path == _NO_FILE}
        except (OSError, IndexError):  # it has ended
            return []
        self._pages[pid] = pages
        told, self._told[pid] = self._told.get(pid, set()), found
        return sorted(found - told, key=lambda each: each.start)

    def forget(self, pid: int) -> None:
        """The process runs another program, or none."""
        self._pages.pop(pid, None)
        self._told.pop(pid, None)


def executable_mapping(pid: int, address: int) -> Mapping | None:
    """The executable mapping of process `pid` at `address`; None where there is none, or the process has ended."""
    try:
        return next((each for each in _executable_mappings(pid) if each.start <= address < each.end), None)
    except OSError:
        return None


def _executable_mappings(pid: int) -> Iterator[Mapping]:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)
            if "x" in fields[1]:
                start, end = (int(each, 16) for each in fields[0].split("-"))
                yield Mapping(start, end, int(fields[2], 16), fields[5] if len(fields) > 5 else _NO_FILE)
