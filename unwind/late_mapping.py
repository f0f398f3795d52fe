"""Executable memory that a live process has mapped without anybody being told: a JIT's, where calls are not watched.

The process stands still while its sample is walked, so what it has mapped now is what it had at the hit (proc(5)).
"""

from __future__ import annotations

from relay_reader.capture import Mapping


def executable_mapping(pid: int, address: int) -> Mapping | None:
    """The executable mapping of process `pid` at `address`; None where there is none, or the process has ended."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                start, end = (int(each, 16) for each in fields[0].split("-"))
                if start <= address < end:
                    path = fields[5] if len(fields) > 5 else "//anon"
                    return Mapping(start, end, int(fields[2], 16), path) if "x" in fields[1] else None
    except OSError:
        pass
    return None
