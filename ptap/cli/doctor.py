"""`ptap doctor`: which capture back ends work here, why the others do not, and what would enable them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import click

_SETTINGS = (
    ("kernel.perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid"),
    ("kernel.perf_event_mlock_kb", "/proc/sys/kernel/perf_event_mlock_kb"),
    ("kernel.perf_event_max_stack", "/proc/sys/kernel/perf_event_max_stack"),
    ("kernel.kptr_restrict", "/proc/sys/kernel/kptr_restrict"),
    ("kernel.yama.ptrace_scope", "/proc/sys/kernel/yama/ptrace_scope"),
)


@click.command("doctor", short_help="Say which capture back ends work here, and what the others need.")
def command() -> None:
    """Check this machine and this user; status 1 when no back end works.

    \b
    Example:
      ptap doctor
    """
    from ptap.backend.choice import BACK_ENDS, KERNEL_BACK_ENDS

    click.echo(f"Linux {platform.release()}, {platform.machine()}, user id {os.geteuid()}")
    works = 0
    for name, available in BACK_ENDS.items():
        reason = available()
        works += reason is None
        _tell(f"back end {name:7}", reason)
    for name, available in KERNEL_BACK_ENDS.items():
        _tell(f"functions of the kernel, back end {name:7}", available())
    _tell_of_kernel()
    for name, path in _SETTINGS:
        try:
            value = Path(path).read_text().strip()
        except OSError:
            value = "not on this kernel"
        click.echo(f"{name} = {value}")
    debug = Path("/usr/lib/debug/.build-id")
    click.echo(f"separate debug files: {sum(1 for _ in debug.glob('*/*.debug')) if debug.is_dir() else 0} in {debug}")
    raise SystemExit(0 if works else 1)


def _tell(what: str, reason: str | None) -> None:
    click.echo(f"{what} " + ("works" if reason is None else f"does not work: {reason}"))


def _tell_of_kernel() -> None:
    """What this kernel allows of probes in itself, and what runs have left behind."""
    from ptap.backend.kernel_module.capture import leftover
    from ptap.backend.kernel_module.running_kernel import headers_folder
    from ptap.backend.perf_events.availability import leftovers
    from ptap.backend.perf_events.kprobe_events import PMU_TYPE

    headers = headers_folder()
    try:
        mode = Path("/sys/kernel/security/lockdown").read_text().strip()
    except OSError:
        mode = "not on this kernel, or not to be seen (securityfs is mounted for root)"
    click.echo(f"kernel headers: {headers or 'not installed'}")
    click.echo(f"loadable modules: {'yes' if Path('/proc/modules').exists() else 'not on this kernel'}")
    click.echo(f"kprobes of perf events: {'yes' if PMU_TYPE.exists() else 'not on this kernel'}")
    click.echo(f"lockdown: {mode}")
    left = leftover()
    if left is not None:
        click.echo(left)
    for group in leftovers():
        click.echo(f"probe events {group} of a run that was killed are still defined: the next run removes them")
