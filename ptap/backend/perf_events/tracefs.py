"""Access to the kernel's tracefs, mounted or not.

Where no tracefs is mounted one is created detached (fsopen, fsmount: linux/mount.h), reachable only through a
file descriptor: nothing becomes visible to others and nothing is left behind.
"""

from __future__ import annotations

import ctypes
import errno
import os

from ptap.backend.live_capture import CaptureError

_MOUNT_POINTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1


class TraceFilesystem:
    """An open tracefs directory. Raises CaptureError when there is none to be had."""

    def __init__(self) -> None:
        self._directory = _open_mounted()
        if self._directory < 0:
            self._directory = _mount_detached()

    def close(self) -> None:
        """Give the directory up."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    def read(self, name: str) -> str:
        """The whole text of a file. Raises OSError."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        with os.fdopen(fd, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")

    def append(self, name: str, line: str) -> None:
        """Append one line in one write, as the kernel's parsers of commands want it. Raises OSError."""
        fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape") + b"\n")
        finally:
            os.close(fd)

    def event_id(self, group: str, name: str) -> int:
        """The number of a trace event, perf_event_attr.config of PERF_TYPE_TRACEPOINT. Raises OSError."""
        return int(self.read(f"events/{group}/{name}/id"))


def _open_mounted() -> int:
    for path in _MOUNT_POINTS:
        try:
            directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            # An empty mount point has the directory but none of the files.
            os.stat("uprobe_events", dir_fd=directory)
            return directory
        except OSError:
            os.close(directory)
    return -1


def _mount_detached() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    context = libc.syscall(_SYS_FSOPEN, b"tracefs", _FSOPEN_CLOEXEC)
    if context < 0:
        raise _refusal("fsopen", ctypes.get_errno())
    try:
        if libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            raise _refusal("fsconfig", ctypes.get_errno())
        directory: int = libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        if directory < 0:
            raise _refusal("fsmount", ctypes.get_errno())
        return directory
    finally:
        os.close(context)


def _refusal(call: str, code: int) -> CaptureError:
    what = f"tracefs is not mounted where this process may read it, and {call} says {os.strerror(code)}"
    if code in (errno.EPERM, errno.EACCES):
        return CaptureError(f"{what}: run as root (CAP_SYS_ADMIN), or use --backend ptrace, which needs no privilege")
    if code == errno.ENODEV:
        return CaptureError(f"{what}: this kernel is built without tracing (CONFIG_FTRACE); use --backend ptrace")
    if code == errno.ENOSYS:
        return CaptureError(f"{what}: mount it with `mount -t tracefs tracefs /sys/kernel/tracing` as root")
    return CaptureError(f"{what}; use --backend ptrace")
