"""`ptap trace`: probes on a live program, a trace or a line a hit."""

from __future__ import annotations

import sys

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.output_stream import output_stream
from ptap.cli.report_format import finish, format_option, open_report
from ptap.cli.target_options import LARGEST_USER_STACK, backend_option, count_option, duration_option, pid_option

_STACK_WITHOUT_BACKTRACE = 2_048
_INTERRUPTED = 130


@click.command("trace", short_help="Trace probes on a command or a running process.")
@click.argument("probes", nargs=-1, metavar="PROBE...")
@click.option("--backtrace", "-b", is_flag=True, help="Show the stack at each hit, not only a line.")
@click.option(
    "--when",
    metavar="PREDICATE",
    help='Show only stacks of which this holds: caller("NAME"), depth() > 40, … (see above).',
)
@pid_option("Trace")
@format_option
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Write traces to FILE, not to standard output.")
@click.option(
    "--arguments",
    type=click.Choice(["probed", "all", "none"]),
    default="probed",
    show_default=True,
    help="Frames whose arguments are shown.",
)
@click.option("--source", is_flag=True, help="Show each frame's source line (text only).")
@count_option
@duration_option
@click.option(
    "--max-depth",
    type=click.IntRange(min=1),
    metavar="N",
    default=100_000,
    show_default=True,
    help="Show at most N frames of a user stack (calls inlined in them do not count).",
)
@click.option(
    "--user-stack",
    type=click.IntRange(8, LARGEST_USER_STACK),
    metavar="BYTES",
    help="Bytes of stack that perf events copy at a hit, 8 to 65528; ptrace reads what it needs.  "
    f"[default: {LARGEST_USER_STACK}; {_STACK_WITHOUT_BACKTRACE} without --backtrace]",
)
@backend_option
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Places and back end; addresses, modules, and whole names, values and reasons.",
)
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    probes: tuple[str, ...],
    backtrace: bool,
    when: str | None,
    pids: tuple[int, ...],
    form: str,
    output: str | None,
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

    The status is the command's own, 128+N when signal N ended it; 0 for running processes; 2 when nothing could be
    traced.

    \b
    PROBEs:
      process("PATH").function("NAME")          entries and inlined copies; also .call .inline .return
      process("PATH").function("NAME@FILE")     of those that are declared in FILE
      process("PATH").statement("NAME@FILE:LINE")
      process("PATH").statement(0xADDRESS)
      process.function("NAME")                  PATH is the command itself
      kernel.function("NAME")                   also .call .inline .return, .statement("NAME@FILE:LINE"), and with
                                                module("M") for kernel (kernel module, else perf events)
      kernel.trace("GROUP:NAME")                a tracepoint of the kernel
      timer.profile(HZ)                         whatever runs, HZ times a second
    NAME and FILE take the wildcards * ? [...]. PATH is a program, or a library such as libc.so.6.

    \b
    PREDICATE: these, with `and`, `or`, `not` and parentheses
      caller("NAME[@FILE]"[, N])        NAME stands above the probed function, at most N frames
      direct_caller("NAME[@FILE]")      it is the next one above
      called_from("PATH")               a frame lies in this program, library or kernel module
      user_caller(["PATH",] "NAME"[, N])
      depth() > N, kernel_depth(), user_depth(), pid(), tid(), comm() == "NAME"

    \b
    Examples:
      ptap --backtrace 'process("./prog").function("work")' -- ./prog --its-options
      ptap trace 'process("./prog").statement("main@prog.c:12")' -p 1234
      ptap --backtrace 'process("libc.so.6").function("qsort").return' -- ./prog
      ptap --backtrace 'kernel.function("vfs_read")' -- cat /etc/passwd
    """
    _check_words(target, probes, pids)
    if user_stack is None:
        user_stack = LARGEST_USER_STACK if backtrace or when else _STACK_WITHOUT_BACKTRACE
    with told_to_the_user():
        from ptap.backend.live_capture import Target
        from ptap.trace_point import parse_trace_point
        from ptap.trace_session import TraceOptions, TraceSession
        from unwind.trace_builder import ArgumentFrames

        options = TraceOptions(
            back_end=backend,
            arguments=ArgumentFrames(arguments),
            count=count,
            duration=duration,
            max_depth=max_depth if backtrace or when else 1,
            user_stack=user_stack,
            when=when,
            innermost_only=not backtrace,
        )
        session = TraceSession(
            [parse_trace_point(text, backend) for text in dict.fromkeys(probes)],
            Target(target or (), pids),
            options,
            lambda text, detail: _say(text) if verbose or not detail else None,
        )
        with output_stream(output) as stream:
            try:
                report = open_report(form, stream, stacks=backtrace, source=source, verbose=verbose)
                status = session.run(report)
                finish(report)
            except KeyboardInterrupt:
                status = _INTERRUPTED  # a second Ctrl-C: the command is left to itself
            finally:
                if session.started:
                    for line in session.account.lines(backtrace):
                        _say(line)
    sys.exit(status)


def _check_words(target: tuple[str, ...] | None, probes: tuple[str, ...], pids: tuple[int, ...]) -> None:
    if not probes:
        raise Failure('no probe given; for example: ptap --backtrace \'process("./prog").function("main")\' -- ./prog')
    if target is not None and pids:
        raise Failure("give either a command behind `--` or -p PID, not both")
    if not target and not pids:
        raise Failure("nothing to trace: give a command behind `--`, or -p PID")


def _say(text: str) -> None:
    click.echo(f"ptap: {text}", err=True)
