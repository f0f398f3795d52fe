"""The options that tell whom a live command watches, how long, and how much of each stack it copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import click

from ptap.cli.failure import Failure

LARGEST_USER_STACK = 65_528
"""Bytes: as much as a perf sample holds (perf_event_open(2), sample_stack_user)."""
_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def pid_option(verb: str) -> _Decorator:
    """The processes, named `pids`; `verb` is what the command does with them."""
    return click.option(
        *("--pid", "-p", "pids"),
        type=click.IntRange(min=1),
        metavar="PID",
        multiple=True,
        help=f"{verb} this running process, with all its threads (repeatable).",
    )


def frequency_option(default: int) -> _Decorator:
    """How often a command samples that does nothing else."""
    return click.option(
        *("--frequency", "-F"),
        type=click.IntRange(1, 100_000),
        metavar="HZ",
        default=default,
        show_default=True,
        help="Samples a second.",
    )


everything_option = click.option(
    *("--all-cpus", "-a", "everything"),
    is_flag=True,
    help="Sample whatever runs, on all processors; with a command as long as it runs.",
)
count_option = click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N hits.")
duration_option = click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Stop after this many seconds."
)
sampled_stack_option = click.option(
    "--user-stack",
    type=click.IntRange(8, LARGEST_USER_STACK),
    metavar="BYTES",
    default=32_768,
    show_default=True,
    help="Bytes of stack that are recorded of a sample, at the most.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "module", "perf", "ptrace"]),
    default="auto",
    show_default=True,
    help="How hits are captured; auto takes the first that works here (see `ptap doctor`).",
)


def check_sampled(target: tuple[str, ...] | None, pids: tuple[int, ...], everything: bool) -> None:
    """Raise Failure where it is not told what is sampled, or told twice."""
    if bool(target or everything) == bool(pids):
        raise Failure("nothing to sample, or too much: give either a command behind `--` or -p PID, or -a for all")


def sampled_target(target: tuple[str, ...] | None, pids: tuple[int, ...]) -> str:
    """What is sampled, for people."""
    if target:
        return " ".join(target)
    return f"pid {', '.join(map(str, pids))}" if pids else "all processes"
