"""Why ptrace is refused, in words that say what to do next."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from ptap.backend.live_capture import CaptureError

_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def process_status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def traced_by_us(tid: int) -> bool:
    """Whether this thread is already the tracer of `tid`."""
    return process_status(tid).get("TracerPid") == str(threading.get_native_id())


def attach_error(pid: int, error: OSError) -> CaptureError:
    """What to tell when process `pid` cannot be attached to."""
    status = process_status(pid)
    if not status or error.errno == errno.ESRCH:
        return CaptureError(f"no process {pid}: it has ended, or the number is wrong; `ps -e` lists what runs")
    name = f"process {pid} ({status.get('Name', '?')})"
    if status.get("State", "").startswith("Z"):
        return CaptureError(f"{name} has ended and waits for its parent; there is nothing to trace")
    tracer = int(status.get("TracerPid", "0"))
    if tracer:
        tracer_name = process_status(tracer).get("Name", "?")
        return CaptureError(f"{name} is already traced by process {tracer} ({tracer_name}); end that one, or detach it")
    if error.errno != errno.EPERM:
        return CaptureError(f"{name} cannot be traced by ptrace: {error.strerror}")
    if pid == os.getpid():
        return CaptureError(f"{name} is this process; a process cannot trace itself")
    if not Path(f"/proc/{pid}/maps").exists() or "VmSize" not in status:
        return CaptureError(f"{name} is a kernel thread; ptrace cannot trace it")
    owners = set(status.get("Uid", "").split())
    if os.geteuid() != 0 and owners != {str(os.geteuid())}:
        return CaptureError(
            f"{name} belongs to user {'/'.join(sorted(owners))}, and you are user {os.geteuid()}; "
            f"run as that user, or with sudo"
        )
    return CaptureError(f"{name} cannot be traced by ptrace: {_policy()}")


def launch_error(error: OSError) -> CaptureError:
    """What to tell when not even a child of ours can be traced."""
    return CaptureError(f"ptrace is refused here ({error.strerror}): {_policy()}")


def _policy() -> str:
    try:
        scope = int(_YAMA.read_text())
    except (OSError, ValueError):
        scope = 0
    if scope == 1 and os.geteuid() != 0:
        return (
            f"{_YAMA} is 1 and allows children only; start the program under ptap, "
            "or `sudo sysctl kernel.yama.ptrace_scope=0`"
        )
    if scope == 2:
        return f"{_YAMA} is 2 and allows root only; use sudo, or `sudo sysctl kernel.yama.ptrace_scope=0`"
    if scope == 3:
        return f"{_YAMA} is 3 and forbids ptrace until the next boot; boot with another value"
    seccomp = process_status(os.getpid()).get("Seccomp", "0")
    if seccomp == "2":
        return (
            "a seccomp filter is in force here and may forbid it (a container?); "
            "start the container with --cap-add=SYS_PTRACE"
        )
    return (
        "the kernel refuses (the process has more privileges than you, is set-uid, or has made itself "
        "undumpable, or a security module forbids it); try sudo"
    )
