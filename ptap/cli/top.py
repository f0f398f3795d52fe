"""`ptap top`: what runs now, on a terminal that is written anew every second."""

from __future__ import annotations

import sys
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, TextIO

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.output_stream import output_stream
from ptap.cli.target_options import (
    check_sampled,
    duration_option,
    everything_option,
    frequency_option,
    pid_option,
    sampled_stack_option,
    sampled_target,
)

if TYPE_CHECKING:
    from ptap.top.run import ShowOptions
    from ptap.top.session import TopSession

_INTERRUPTED = 130
_LAG_S = 5.0
_MAXIMUM_DEPTH = 1000
"""Frames of a stack: a recursion that goes deeper would take all the time there is to watch it."""


@click.command("top", short_help="Watch live where programs spend their time.")
@frequency_option(99)
@pid_option("Sample")
@everything_option
@duration_option
@click.option(
    *("--delay", "-d"),
    type=click.FloatRange(0.1, 3600),
    metavar="SECONDS",
    default=1,
    show_default=True,
    help="Time between two looks.",
)
@click.option(
    "--window",
    type=click.FloatRange(0.1, 86_400),
    metavar="SECONDS",
    default=5,
    show_default=True,
    help="Samples of the last SECONDS are shown, until the key w is pressed.",
)
@click.option("--sort", type=click.Choice(["self", "total"]), default="self", show_default=True, help="Sort functions.")
@click.option("--batch", "-b", is_flag=True, help="Print a table after each delay, for files and scripts; no keys.")
@click.option("--iterations", "-n", type=click.IntRange(min=1), metavar="N", help="Stop after N tables (--batch).")
@click.option("--rows", type=click.IntRange(min=1), metavar="N", default=20, show_default=True,
              help="Functions in a printed table.")  # fmt: skip
@click.option(
    "--max-lag",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Skip samples that are older than this when their turn comes, and count them.  "
    f"[default: {_LAG_S:g}; never with --batch]",
)
@sampled_stack_option
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    frequency: int,
    pids: tuple[int, ...],
    everything: bool,
    duration: float | None,
    delay: float,
    window: float,
    sort: str,
    batch: bool,
    iterations: int | None,
    rows: int,
    max_lag: float | None,
    user_stack: int,
) -> None:
    """Watch a command (behind --), running processes (-p) or everything (-a), with children and threads.

    Functions, stacks and threads, the hottest first, over the last seconds or since the start; the key ? tells the
    others. Whoever leaves it (q) has the functions since the start printed. What the command writes meanwhile is
    shown at the end; leaving asks it to end, as Ctrl-C does. The status is the command's own.

    \b
    Examples:
      ptap top -p 1234
      ptap top -F 499 -- ./prog --its-options
      ptap top -a
      ptap top --batch -n 10 -d 2 -p 1234 > top.txt
    """
    check_sampled(target, pids, everything)
    if iterations is not None and not batch:
        raise Failure("--iterations counts the tables of --batch: give that, too")
    if not batch and not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout) and _is_terminal(sys.stderr)):
        raise Failure(
            "this is no terminal to show a view on: have tables printed with --batch, or use "
            "`ptap profile --format top`"
        )
    with told_to_the_user():
        from ptap.backend.live_capture import Target
        from ptap.top.run import ShowOptions
        from ptap.top.session import TopSession
        from ptap.top.table_lines import Order
        from ptap.trace_point import parse_trace_point
        from ptap.trace_session import TraceOptions
        from unwind.trace_builder import ArgumentFrames

        session = TopSession(
            [parse_trace_point(f"timer.profile({frequency})", "auto")],
            Target(target or (), pids, everything),
            TraceOptions(
                arguments=ArgumentFrames.NONE, duration=duration, max_depth=_MAXIMUM_DEPTH, user_stack=user_stack
            ),
            lambda text, detail: None if detail else _say(text),
            title=sampled_target(target, pids),
            frequency=frequency,
            longest_lag_s=max_lag if max_lag is not None or batch else _LAG_S,
        )
        options = ShowOptions(delay, Order(sort), rows, iterations)
        status = _run(session, options, window, batch=batch, keeps_output=bool(target) and not batch)
    sys.exit(status)


def _run(session: TopSession, options: ShowOptions, window: float, *, batch: bool, keeps_output: bool) -> int:
    """Show the session to its end; the exit status. With `keeps_output` the command's output is shown afterwards."""
    from ptap.stop_signals import StopSignals
    from ptap.top.command_output import CommandOutput
    from ptap.top.run import print_result, print_tables, show_view
    from ptap.top.sliding_profile import SlidingProfile

    output = CommandOutput() if keeps_output else None
    status = 0
    with output_stream(None) as stream, ExitStack() as told:
        told.callback(_tell_account, session)
        with StopSignals(session.stop) as signals:
            with output.redirected() if output is not None else nullcontext():
                session.begin()
            profile = SlidingProfile(round(window * 1e9), session.begun_ns)
            try:
                if batch:
                    print_tables(session, profile, stream, options)
                else:
                    show_view(session, profile, options)
            finally:
                try:
                    status = session.finish(signals, leave=not session.ended.is_set())
                except KeyboardInterrupt:
                    status = _INTERRUPTED  # a second Ctrl-C: the command is left to itself
        if output is not None and (left_out := output.show(sys.stdout.fileno())):
            _say(f"the first {left_out} bytes that the command wrote are not shown")
        print_result(session, profile, stream, options)
    return status


def _tell_account(session: TopSession) -> None:
    if session.started:
        for line in session.account.lines(True):
            _say(line)


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether it is one; a stream that was closed by the caller is none at all."""
    return stream is not None and stream.isatty()


def _say(text: str) -> None:
    click.echo(f"ptap: {text}", err=True)
