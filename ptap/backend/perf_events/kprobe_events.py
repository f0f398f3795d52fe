"""Definitions of kernel probes in tracefs's `kprobe_events`, and what this kernel allows of them.

tracefs rather than perf's own kprobe PMU (/sys/bus/event_source/devices/kprobe): with attr.inherit the PMU sets up a
probe anew in whoever forks, which asks again for the symbol's name in the memory of the forking program and for its
privileges (kernel/events/core.c, perf_kprobe_event_init), so fork() of the target fails with EFAULT or EACCES.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ptap.backend.live_capture import CaptureError
from ptap.backend.perf_events.extra_event import KernelProbeEvent
from ptap.backend.perf_events.probe_definitions import KPROBES, ProbeDefinitions
from ptap.backend.perf_events.tracefs import TraceFilesystem

PMU_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")
"""Is there where the kernel has probes of its own code for perf events (CONFIG_KPROBE_EVENTS)."""
_UNWILLING = (errno.EINVAL, errno.ENOENT, errno.EADDRNOTAVAIL, errno.EOPNOTSUPP, errno.EILSEQ, errno.ERANGE)


class KprobeEvents(ProbeDefinitions):
    """The kprobe events that one capture defined. `refused` has those that the kernel would not set, with its words."""

    def __init__(self, tracefs: TraceFilesystem) -> None:
        super().__init__(tracefs, KPROBES)
        self.refused: dict[str, str] = {}

    def define(self, event: KernelProbeEvent) -> int | None:
        """Define a probe and give its event's number; None, and `refused` says why, where the kernel will not probe.

        Raises CaptureError where it probes nothing at all.
        """
        where = event.symbol + (f"+{event.offset:#x}" if event.offset else "")
        try:
            return self.add(self.new_name(), "r" if event.is_return else "p", where)
        except OSError as error:
            if error.errno not in _UNWILLING:
                raise CaptureError(_refusal(error)) from error
            if not PMU_TYPE.exists():
                raise CaptureError(no_kprobes() or _refusal(error)) from error
            self.refused[event.name] = _why(error)
            return None


def no_kprobes() -> str | None:
    """Why this kernel has no probes of its own code, None where it has."""
    if PMU_TYPE.exists():
        return None
    return (
        "this kernel is built without kernel probes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS): boot one of a "
        "distribution, which has them"
    )


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            "more than one function has that name; their vmlinux tells them apart (install the kernel's -dbg package)"
        )
    return (
        f"the kernel will not probe it ({os.strerror(error.errno or 0)}): it is inlined everywhere, not there, or is "
        "code that probes themselves need; /sys/kernel/tracing/available_filter_functions lists what can be probed"
    )


def _refusal(error: OSError) -> str:
    what = f"kernel probes cannot be defined: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{what}: run as root; where the kernel is locked down (/sys/kernel/security/lockdown) nobody may"
    if error.errno == errno.ENOENT:
        return no_kprobes() or what
    return what
