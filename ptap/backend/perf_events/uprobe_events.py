"""Definitions of user-space probes in tracefs's `uprobe_events`, and their removal.

tracefs rather than perf's own uprobe PMU: with attr.inherit the PMU reads the probed path again from the user
memory of whoever forks, so every fork() of the target fails with EFAULT.

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

from ptap.backend.live_capture import CaptureError, PlaceKind
from ptap.backend.perf_events.tracefs import TraceFilesystem

_FILE = "uprobe_events"
_GROUP = re.compile(r"[pr]:(ptap_(\d+)_(\d+))/(\S+)")
# Characters that the kernel's parser takes as they are; the other paths are named through a file descriptor.
_PLAIN_PATH = re.compile(r"/[\w./+,@%=~-]{1,1000}", re.ASCII)
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


class UprobeEvents:
    """The uprobe events that one capture defined."""

    def __init__(self, tracefs: TraceFilesystem) -> None:
        self._tracefs = tracefs
        self.group = f"ptap_{os.getpid()}_{start_time()}"
        self._owner = os.getpid()
        self._defined: list[str] = []

    def new_name(self) -> str:
        """A name for an event, not used before."""
        return f"probe_{next(_serial)}"

    def define(self, name: str, path: str, file_offset: int, kind: PlaceKind) -> int:
        """Define a probe and give its event's number; a name that is defined already gets one more probe.

        Raises CaptureError.
        """
        letter = "r" if kind is PlaceKind.RETURN else "p"
        held = -1
        try:
            spelled = path
            if not _PLAIN_PATH.fullmatch(path):
                held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                spelled = f"/proc/self/fd/{held}"
            self._tracefs.append(_FILE, f"{letter}:{self.group}/{name} {spelled}:0x{file_offset:x}")
            if name not in self._defined:
                self._defined.append(name)
            return self._tracefs.event_id(self.group, name)
        except OSError as error:
            raise _define_error(error, path, file_offset) from error
        finally:
            if held >= 0:
                os.close(held)

    def remove(self) -> list[str]:
        """Remove all, once their descriptors are closed. Gives the names that the kernel would not remove."""
        # A forked child that runs our exit handlers must not disarm its parent.
        if os.getpid() != self._owner:
            return []
        remaining = [name for name in self._defined if not _remove(self._tracefs, self.group, name)]
        self._defined = remaining
        return remaining


def _define_error(error: OSError, path: str, file_offset: int) -> CaptureError:
    where = f"cannot define a probe at {path}+0x{file_offset:x}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return CaptureError(f"{where}: run as root, or use --backend ptrace")
    if error.errno == errno.ENOENT:
        return CaptureError(f"{where}: check that the file is still there")
    if error.errno == errno.EINVAL:
        return CaptureError(f"{where}: only regular files can be probed; copy the file to a disk file system")
    return CaptureError(f"{where}; use --backend ptrace")


def _remove(tracefs: TraceFilesystem, group: str, name: str, attempts: int = _REMOVE_ATTEMPTS) -> bool:
    # The kernel drops an event's users a moment after their descriptors are closed; until then it says EBUSY.
    for attempt in range(attempts):
        try:
            tracefs.append(_FILE, f"-:{group}/{name}")
            return True
        except OSError as error:
            if error.errno == errno.ENOENT:
                return True
            if error.errno != errno.EBUSY:
                return False
        if attempt + 1 < attempts:
            time.sleep(_REMOVE_PAUSE_S)
    return False


def stale_events(tracefs: TraceFilesystem) -> list[tuple[str, str]]:
    """(group, name) of events of this project whose owner has ended. Raises OSError."""
    alive: dict[str, bool] = {}
    found: list[tuple[str, str]] = []
    for line in tracefs.read(_FILE).splitlines():
        match = _GROUP.match(line)
        if match is None:
            continue
        group, pid, started, name = match.groups()
        if group not in alive:
            alive[group] = start_time(pid) == int(started)
        if not alive[group]:
            found.append((group, name))
    return found


def remove_stale_events(tracefs: TraceFilesystem) -> int:
    """Remove what ended processes left behind; gives how many were removed. Raises OSError.

    An owner in another pid namespace looks dead from here, but its events are busy, so the kernel refuses.
    """
    return sum(_remove(tracefs, group, name, attempts=1) for group, name in stale_events(tracefs))
