"""`ptap record`: the hits of a run into a capture file, to be reported later, here or on another machine."""

from __future__ import annotations

import sys

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.progress_bars import progress_shown
from ptap.cli.target_options import LARGEST_USER_STACK, backend_option, count_option, duration_option, pid_option

_INTERRUPTED = 130
_EVERYTHING = "timer.profile(999)"


@click.command("record", short_help="Record the hits of probes into a capture file.")
@click.argument("probes", nargs=-1, metavar="[PROBE...]")
@click.option(
    *("--output", "-o"), type=click.Path(), metavar="FILE", default="trace.ptap", show_default=True, help="The file."
)
@click.option(
    *("--from", "source"),
    type=click.Path(),
    metavar="FILE",
    help="Record nothing: take the events of this perf.data, or of this capture of the kernel module.",
)
@click.option("--when", metavar="PREDICATE", help="Record only stacks of which this holds (see `ptap trace --help`).")
@pid_option("Record")
@count_option
@duration_option
@click.option(
    "--user-stack",
    type=click.IntRange(8, LARGEST_USER_STACK),
    metavar="BYTES",
    default=LARGEST_USER_STACK,
    show_default=True,
    help="Bytes of stack that are recorded at a hit, at the most.",
)
@backend_option
@click.option(
    "--portable",
    is_flag=True,
    help="Keep what stacks are walked and functions named with, for machines that lack the files that run here.",
)
@click.option("--verbose", "-v", is_flag=True, help="Say which places and which back end are used.")
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    probes: tuple[str, ...],
    output: str,
    source: str | None,
    when: str | None,
    pids: tuple[int, ...],
    count: int | None,
    duration: float | None,
    user_stack: int,
    backend: str,
    portable: bool,
    verbose: bool,
) -> None:
    """Record the hits of PROBEs on a command (behind --) or in running processes (-p).

    PROBEs are those of `ptap trace`; without one, what runs is sampled 999 times a second. The file holds stacks,
    mappings with build-ids and what else only this machine can tell; it is shown by `ptap report FILE`, on another
    machine with --sysroot or DEBUGINFOD_URLS, and while it grows by `ptap report --follow FILE`. If recording is
    killed, what the file holds until then can be read. The status is that of `ptap trace`.

    \b
    Examples:
      ptap record -o trace.ptap -- ./prog --its-options
      ptap record -o trace.ptap 'process("libc.so.6").function("malloc")' -p 1234
      ptap record -o trace.ptap --from perf.data
      ptap report trace.ptap
    """
    if source is not None:
        if target or pids or probes:
            raise Failure("--from takes what was recorded before: leave PROBEs, -p and the command out")
        _convert(source, output)
        return
    if target is not None and pids:
        raise Failure("give either a command behind `--` or -p PID, not both")
    if not target and not pids:
        raise Failure("nothing to record: give a command behind `--`, or -p PID")
    with told_to_the_user():
        from ptap.backend.live_capture import Target
        from ptap.record_session import RecordSession
        from ptap.trace_point import parse_trace_point
        from ptap.trace_session import TraceOptions

        session = RecordSession(
            [parse_trace_point(text, backend) for text in dict.fromkeys(probes or (_EVERYTHING,))],
            Target(target or (), pids),
            TraceOptions(back_end=backend, count=count, duration=duration, user_stack=user_stack, when=when),
            lambda text, detail: _say(text) if verbose or not detail else None,
            output,
            portable=portable,
        )
        try:
            status = session.record()
        except KeyboardInterrupt:
            status = _INTERRUPTED  # a second Ctrl-C: the command is left to itself
        finally:
            if session.started:
                for line in session.closing_lines():
                    _say(line)
    sys.exit(status)


def _convert(source: str, output: str) -> None:
    with told_to_the_user(), progress_shown():
        from ptap.capture_conversion import convert

        for line in convert(source, output):
            _say(line)


def _say(text: str) -> None:
    click.echo(f"ptap: {text}", err=True)
