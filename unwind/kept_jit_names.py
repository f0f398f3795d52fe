"""Names of code that processes have made at run time, for captures that are read when they have ended.

A capture file keeps the maps that there were (`kept_map_name`). What a capture has not kept is looked for where the
files of its machine lie, in /tmp/perf-PID.map; since numbers of processes are used again, it is said that it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from unwind.jit_names import MapRefused, open_below, read_map
from unwind.symbolize.perf_map import JitSymbol, PerfMap


def kept_map_name(pid: int) -> str:
    """What a capture file calls the map of a process."""
    return f"perf-map {pid}"


def some_left_a_map(sysroot: str, pids: Iterable[int]) -> bool:
    """Whether one of the processes has left a map below `sysroot`."""
    return any(Path(sysroot, "tmp", f"perf-{pid}.map").exists() for pid in pids)


class KeptJitNames:
    """The maps of the processes of one capture, each looked for when it is first asked for."""

    def __init__(self, sysroot: str | None, kept: Callable[[int], bytes | None] = lambda _: None) -> None:
        """`kept` gives the map of a process that the capture holds; other maps lie below `sysroot`, None: nowhere."""
        self._sysroot = sysroot
        self._kept = kept
        self._maps: dict[int, PerfMap | None] = {}
        self._refused: list[str] = []
        self._found: dict[int, str] = {}
        """Where the maps lie that named something, and that the capture has not kept."""

    @property
    def problems(self) -> list[str]:
        """A line for each map that could not be used, or not whole, and on those that were found."""
        damaged = [f"{each.path}: {line}" for each in self._maps.values() if each is not None for line in each.problems]
        lines = [*self._refused, *damaged]
        if self._found:
            pids, paths = list(self._found), list(self._found.values())
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            lines.append(
                f"the capture does not hold the names of code made at run time: those of process {pids[0]} are from "
                f"{paths[0]}{more}, which may be of a later process of that number"
            )
        return lines

    def find(self, pid: int, address: int) -> tuple[JitSymbol, str] | None:
        """The code at `address` of process `pid`, and the path of the map that names it."""
        if pid not in self._maps:
            self._maps[pid] = self._open(pid)
        names = self._maps[pid]
        symbol = names.find(address) if names is not None else None
        if names is None or symbol is None:
            return None
        if self._kept(pid) is None:
            self._found[pid] = names.path
        return symbol, names.path

    def _open(self, pid: int) -> PerfMap | None:
        path = f"/tmp/perf-{pid}.map"
        content = self._kept(pid)
        if content is None and self._sysroot is not None:
            path = f"{self._sysroot.rstrip('/')}{path}"
            try:
                folder = os.open(self._sysroot, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                with os.fdopen(open_below(folder, f"/tmp/perf-{pid}.map"), "rb") as file:
                    content = read_map(file, path, "the report", os.geteuid())
            except MapRefused as refusal:
                self._refused.append(str(refusal))
            except OSError:
                return None
        return PerfMap(content, path) if content is not None else None
