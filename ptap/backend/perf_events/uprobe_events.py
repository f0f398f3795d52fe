"""Definitions of user-space probes in tracefs's `uprobe_events`.

tracefs rather than perf's own uprobe PMU: with attr.inherit the PMU reads the probed path again from the user
memory of whoever forks, so every fork() of the target fails with EFAULT.
"""

from __future__ import annotations

import errno
import os
import re

from ptap.backend.live_capture import CaptureError, PlaceKind
from ptap.backend.perf_events.probe_definitions import UPROBES, ProbeDefinitions
from ptap.backend.perf_events.tracefs import TraceFilesystem

# Characters that the kernel's parser takes as they are; the other paths are named through a file descriptor.
_PLAIN_PATH = re.compile(r"/[\w./+,@%=~-]{1,1000}", re.ASCII)


class UprobeEvents(ProbeDefinitions):
    """The uprobe events that one capture defined."""

    def __init__(self, tracefs: TraceFilesystem) -> None:
        super().__init__(tracefs, UPROBES)

    def define(self, name: str, path: str, file_offset: int, kind: PlaceKind) -> int:
        """Define a probe and give its event's number; a name that is defined already gets one more probe.

        Raises CaptureError.
        """
        held = -1
        try:
            spelled = path
            if not _PLAIN_PATH.fullmatch(path):
                held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                spelled = f"/proc/self/fd/{held}"
            return self.add(name, "r" if kind is PlaceKind.RETURN else "p", f"{spelled}:0x{file_offset:x}")
        except OSError as error:
            raise _define_error(error, path, file_offset) from error
        finally:
            if held >= 0:
                os.close(held)


def _define_error(error: OSError, path: str, file_offset: int) -> CaptureError:
    where = f"cannot define a probe at {path}+0x{file_offset:x}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return CaptureError(f"{where}: run as root, or use --backend ptrace")
    if error.errno == errno.ENOENT:
        return CaptureError(f"{where}: check that the file is still there")
    if error.errno == errno.EINVAL:
        return CaptureError(f"{where}: only regular files can be probed; copy the file to a disk file system")
    return CaptureError(f"{where}; use --backend ptrace")
