"""Probes that are defined in tracefs, of a file such as `uprobe_events`, and their removal.

The group's name carries the pid and the start time of the process that owns it, so that what a killed process
left behind is recognised and removed by the next one.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import time
from pathlib import Path

from ptap.backend.perf_events.tracefs import TraceFilesystem

UPROBES = "uprobe_events"
KPROBES = "kprobe_events"
_GROUP = re.compile(r"[pr]\d*:(ptap_(\d+)_(\d+))/(\S+)")
_REMOVE_ATTEMPTS = 40
_REMOVE_PAUSE_S = 0.01
_serial = itertools.count()


def start_time(pid: int | str = "self") -> int | None:
    """When a process started, in clock ticks since boot (/proc/PID/stat, field 22); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


class ProbeDefinitions:
    """The probe events that one capture defined in one file of tracefs."""

    def __init__(self, tracefs: TraceFilesystem, file: str) -> None:
        self.group = f"ptap_{os.getpid()}_{start_time()}"
        self._tracefs = tracefs
        self._file = file
        self._owner = os.getpid()
        self._defined: list[str] = []

    def new_name(self) -> str:
        """A name for an event, not used before."""
        return f"probe_{next(_serial)}"

    def add(self, name: str, letter: str, where: str) -> int:
        """Define a probe (`p`) or return probe (`r`) and give its event's number.

        A name that is defined already gets one more probe. Raises OSError.
        """
        self._tracefs.append(self._file, f"{letter}:{self.group}/{name} {where}")
        if name not in self._defined:
            self._defined.append(name)
        return self._tracefs.event_id(self.group, name)

    def remove(self) -> list[str]:
        """Remove all, once their descriptors are closed. Gives the names that the kernel would not remove."""
        # A forked child that runs our exit handlers must not disarm its parent.
        if os.getpid() != self._owner:
            return []
        remaining = [name for name in self._defined if not _remove(self._tracefs, self._file, self.group, name)]
        self._defined = remaining
        return remaining


def _remove(tracefs: TraceFilesystem, file: str, group: str, name: str, attempts: int = _REMOVE_ATTEMPTS) -> bool:
    # The kernel drops an event's users a moment after their descriptors are closed; until then it says EBUSY.
    for attempt in range(attempts):
        try:
            tracefs.append(file, f"-:{group}/{name}")
            return True
        except OSError as error:
            if error.errno == errno.ENOENT:
                return True
            if error.errno != errno.EBUSY:
                return False
        if attempt + 1 < attempts:
            time.sleep(_REMOVE_PAUSE_S)
    return False


def stale_events(tracefs: TraceFilesystem) -> list[tuple[str, str, str]]:
    """(file, group, name) of events of this project whose owner has ended. Raises OSError."""
    alive: dict[str, bool] = {}
    found: list[tuple[str, str, str]] = []
    for file in (UPROBES, KPROBES):
        try:
            listed = tracefs.read(file)
        except FileNotFoundError:  # a kernel without probes of that kind
            continue
        for line in listed.splitlines():
            match = _GROUP.match(line)
            if match is None:
                continue
            group, pid, started, name = match.groups()
            if group not in alive:
                alive[group] = start_time(pid) == int(started)
            if not alive[group]:
                found.append((file, group, name))
    return found


def remove_stale_events(tracefs: TraceFilesystem) -> int:
    """Remove what ended processes left behind; gives how many were removed. Raises OSError.

    An owner in another pid namespace looks dead from here, but its events are busy, so the kernel refuses.
    """
    return sum(_remove(tracefs, file, group, name, attempts=1) for file, group, name in stale_events(tracefs))
