"""`ptap trace`: probes on a live program, a trace or a line a hit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import click

from ptap.cli.failure import Failure, told_to_the_user

if TYPE_CHECKING:
    from ptap.trace_session import Account, Report

_MAXIMUM_USER_STACK = 65_528
_STACK_WITHOUT_BACKTRACE = 2_048


@click.command("trace", short_help="Trace probes on a command or a running process.")
@click.argument("probes", nargs=-1, required=True, metavar="PROBE...")
@click.option("--backtrace", "-b", is_flag=True, help="Show the stack at each hit, not only a line.")
@click.option("--pid", "-p", "pids", type=int, multiple=True, help="Trace this running process (repeatable).")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="json: JSON Lines."
)
@click.option("--output", "-o", type=click.File("w"), help="Write traces to a file, not to standard output.")
@click.option(
    "--arguments",
    type=click.Choice(["probed", "all", "none"]),
    default="probed",
    show_default=True,
    help="Frames whose arguments are shown.",
)
@click.option("--source", is_flag=True, help="Show each frame's source line.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many hits.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after this many seconds.")
@click.option("--max-depth", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option(
    "--user-stack",
    type=click.IntRange(8, _MAXIMUM_USER_STACK),
    metavar="BYTES",
    help="Bytes of stack that perf events copy at a hit  [default: 65528, the most there is]",
)
@click.option("--backend", type=click.Choice(["auto", "perf", "ptrace"]), default="auto", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Addresses, modules, and why values are unavailable.")
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    probes: tuple[str, ...],
    backtrace: bool,
    pids: tuple[int, ...],
    form: str,
    output: TextIO | None,
    arguments: str,
    source: bool,
    count: int | None,
    duration: float | None,
    max_depth: int,
    user_stack: int | None,
    backend: str,
    verbose: bool,
) -> None:
    """Trace PROBEs on a command (behind --) or on running processes (-p).

    \b
    ptap --backtrace 'process("./prog").function("work")' -- ./prog --its-options
    ptap trace 'process("./prog").statement("main@prog.c:12")' -p 1234
    ptap --backtrace 'process("libc.so.6").function("qsort").return' -- ./prog
    """
    if not target and not pids:
        raise Failure("nothing to trace: give a command behind `--`, or -p PID")
    if target and pids:
        raise Failure("give either a command behind `--` or -p PID, not both")
    if user_stack is None:
        user_stack = _MAXIMUM_USER_STACK if backtrace else _STACK_WITHOUT_BACKTRACE
    with told_to_the_user():
        from ptap.backend.live_capture import Target
        from ptap.probe.point import parse_probe_point
        from ptap.trace_session import TraceOptions, TraceSession
        from unwind.trace_builder import ArgumentFrames

        options = TraceOptions(
            back_end=backend,
            arguments=ArgumentFrames(arguments),
            count=count,
            duration=duration,
            max_depth=max_depth if backtrace else 1,
            user_stack=user_stack,
        )
        session = TraceSession(
            [parse_probe_point(text) for text in probes],
            Target(target or (), pids),
            options,
            _report(form, output or sys.stdout, backtrace, source, verbose),
            _say if verbose else lambda text: None,
        )
        try:
            status = session.run()
        finally:
            _close(session.account, backtrace)
    sys.exit(status)


def _report(form: str, stream: TextIO, backtrace: bool, source: bool, verbose: bool) -> Report:
    if form == "json":
        from ptap.report.json_lines import JsonReport

        return JsonReport(stream)
    from ptap.report.text import TextReport

    return TextReport(stream, stacks=backtrace, source=source, verbose=verbose)


def _say(text: str) -> None:
    click.echo(f"ptap: {text}", err=True)


def _close(account: Account, backtrace: bool) -> None:
    """The closing lines on stderr: what was found, what was lost, what was cut short and why."""
    for path, remedy in account.without_lines.items():
        _say(f"no line information for {path}: {remedy}")
    if account.kernel_problem is not None:
        _say(account.kernel_problem)
    text = f"{account.hits} hits, {account.traces} traces, {account.lost} records lost"
    if backtrace:
        cut = sum(account.cut_short.values())
        reasons = ", ".join(
            f"{count} {reason.name.lower()}" for reason, count in account.cut_short.most_common()
        )
        text += f", {cut} cut short" + (f" ({reasons})" if reasons else "")
    _say(text)
