"""Which capture back end is used: the one that was asked for, or the first that works here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ptap.backend.live_capture import CaptureError, CaptureLimits, LiveCapture, ProbePlace, Target
from ptap.backend.perf_events.extra_event import ExtraEvent


def _perf_available() -> str | None:
    from ptap.backend.perf_events.availability import available

    return available()


def _sampling_available() -> str | None:
    from ptap.backend.perf_events.availability import sampling_available

    return sampling_available()


def _ptrace_available() -> str | None:
    from ptap.backend.ptrace.launch import available

    return available()


def _module_available() -> str | None:
    from ptap.backend.kernel_module.availability import available

    return available()


def _kprobes_available() -> str | None:
    from ptap.backend.perf_events.kprobe_events import no_kprobes

    return no_kprobes() or _perf_available()


# In the order of preference. Each says None where it works, else why not and what would enable it.
BACK_ENDS: dict[str, Callable[[], str | None]] = {"perf": _perf_available, "ptrace": _ptrace_available}

KERNEL_BACK_ENDS: dict[str, Callable[[], str | None]] = {"module": _module_available, "perf": _kprobes_available}
"""Those for functions of the kernel, in the order of preference."""


def choose_back_end(asked: str, needs_perf: str | None, *, only_samples: bool = False) -> tuple[str, str | None]:
    """The back end to use, and why a better one is not (for -v).

    `needs_perf` names a probe that only perf events can serve. With `only_samples` no probe is set: less is needed for
    that. Raises CaptureError with the remedy.
    """
    perf_available = _sampling_available if only_samples else _perf_available
    if needs_perf is not None and asked == "ptrace":
        raise CaptureError(f"{needs_perf}: ptrace sees no kernel events; leave --backend ptrace out")
    if asked != "auto":
        reason = perf_available() if asked == "perf" else BACK_ENDS[asked]()
        if reason is not None:
            raise CaptureError(f"--backend {asked}: {reason}")
        return asked, None
    reasons: list[str] = []
    if needs_perf is not None:
        reason = perf_available()
        if reason is not None:
            raise CaptureError(f"{needs_perf} needs perf events: {_without_ptrace(reason)}")
        return "perf", None
    for name, available in BACK_ENDS.items():
        reason = available()
        if reason is None:
            return name, "; ".join(reasons) or None
        reasons.append(f"{name}: {reason}")
    raise CaptureError("no capture back end works here: " + "; ".join(reasons))


def choose_kernel_back_end(asked: str, point: str) -> tuple[str, str | None]:
    """The back end for a run with `point` of the kernel, and why a better one is not used (for -v).

    Each serves points of programs in the same run. Raises CaptureError with the remedy.
    """
    if asked == "ptrace":
        raise CaptureError(f"{point}: ptrace sees nothing of the kernel; leave --backend ptrace out")
    if asked != "auto":
        reason = KERNEL_BACK_ENDS[asked]()
        if reason is not None:
            raise CaptureError(f"--backend {asked}: {_without_ptrace(reason)}")
        return asked, None
    reasons: list[str] = []
    for name, available in KERNEL_BACK_ENDS.items():
        reason = available()
        if reason is None:
            return name, "; ".join(reasons) or None
        reasons.append(f"{name}: {_without_ptrace(reason)}")
    raise CaptureError(f"{point}: no back end for kernel probes works here: " + "; ".join(reasons))


def _without_ptrace(reason: str) -> str:
    """What perf events say of ptrace does not help where that sees nothing: in the kernel, and of its events."""
    for words in (", or use --backend ptrace", "; --backend ptrace needs none of it", "; use --backend ptrace"):
        reason = reason.partition(words)[0]
    return reason


def open_capture(
    name: str,
    target: Target,
    places: Sequence[ProbePlace],
    limits: CaptureLimits,
    extra: Sequence[ExtraEvent] = (),
) -> LiveCapture:
    """A capture by back end `name`, not yet started."""
    if name == "perf":
        from ptap.backend.perf_events.capture import PerfCapture

        return PerfCapture(target, places, limits, extra)
    from ptap.backend.ptrace.capture import PtraceCapture

    return PtraceCapture(target, places, limits)
