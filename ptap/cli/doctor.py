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
    from ptap.backend.choice import BACK_ENDS

    click.echo(f"Linux {platform.release()}, {platform.machine()}, user id {os.geteuid()}")
    works = 0
    for name, available in BACK_ENDS.items():
        reason = available()
        works += reason is None
        click.echo(f"back end {name:7} " + ("works" if reason is None else f"does not work: {reason}"))
    for name, path in _SETTINGS:
        try:
            value = Path(path).read_text().strip()
        except OSError:
            value = "not on this kernel"
        click.echo(f"{name} = {value}")
    debug = Path("/usr/lib/debug/.build-id")
    click.echo(f"separate debug files: {sum(1 for _ in debug.glob('*/*.debug')) if debug.is_dir() else 0} in {debug}")
    raise SystemExit(0 if works else 1)
