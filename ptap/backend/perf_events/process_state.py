"""What already runs, as events: the executable mappings and thread names of processes, from /proc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relay_reader.capture import Event, Mapping, MappingAdded, ThreadNamed

_SLEEPING = (b"S", b"D", b"T", b"t", b"I")
"""States of /proc/PID/stat."""


def running_processes() -> tuple[int, ...]:
    """All processes that there are, the kernel's own threads among them."""
    return tuple(sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()))


def sleeping_threads(pid: int) -> list[int]:
    """The threads of a process that wait for something, rather than run or wait for a processor."""
    found = []
    for tid in thread_ids(pid):
        try:
            status = Path(f"/proc/{pid}/task/{tid}/stat").read_bytes()
        except OSError:
            continue
        # The name stands in brackets and may hold anything.
        if status.rpartition(b")")[2].split(None, 1)[0] in _SLEEPING:
            found.append(tid)
    return found


def thread_ids(pid: int) -> list[int]:
    """The threads of a process, in order; [] when it has ended."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def executable_mappings(pid: int) -> list[Mapping]:
    """The mappings of /proc/PID/maps that can be executed; [] when the process has ended."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text("utf-8", "surrogateescape")
    except OSError:
        return []
    found: list[Mapping] = []
    for line in text.split("\n"):
        fields = line.split(None, 5)
        if len(fields) < 5 or "x" not in fields[1]:
            continue
        start, _, end = fields[0].partition("-")
        # The kernel names memory that no file backs `//anon` in its events, and nothing in this file.
        path = fields[5] if len(fields) == 6 else "//anon"
        found.append(Mapping(int(start, 16), int(end, 16), int(fields[2], 16), path))
    return found


def present_state(pids: tuple[int, ...], time_ns: int) -> Iterator[Event]:
    """Mappings and thread names of `pids` as they are now, told as events of `time_ns`."""
    for pid in pids:
        for mapping in executable_mappings(pid):
            yield MappingAdded(time_ns, pid, mapping)
        for tid in thread_ids(pid):
            try:
                comm = Path(f"/proc/{pid}/task/{tid}/comm").read_text("utf-8", "surrogateescape")
            except OSError:
                continue
            yield ThreadNamed(time_ns, pid, tid, comm.removesuffix("\n"))
