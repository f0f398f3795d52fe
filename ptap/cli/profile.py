"""`ptap profile`: where a program spends its time: its stacks are recorded so often a second, then added up."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.live_line import LiveLine
from ptap.cli.output_stream import output_stream
from ptap.cli.progress_bars import progress_shown
from ptap.cli.report_format import FORMATS, STREAMED, finish, open_report
from ptap.cli.target_options import (
    check_sampled,
    duration_option,
    everything_option,
    frequency_option,
    pid_option,
    sampled_stack_option,
    sampled_target,
)

_INTERRUPTED = 130
_SUFFIXES = {".html": "html", ".gz": "pprof", ".pb": "pprof", ".folded": "folded", ".json": "firefox",
             ".parquet": "parquet", ".arrow": "arrow"}  # fmt: skip
"""Of the report's file; a json is what the Firefox Profiler opens."""


@click.command("profile", short_help="Sample what runs, and show where the time goes.")
@frequency_option(999)
@pid_option("Sample")
@everything_option
@click.option(
    "--off-cpu",
    is_flag=True,
    help="Show what threads wait for, too: their stacks as they leave the processor. Weights are nanoseconds then.",
)
@duration_option
@click.option(
    *("--format", "form"),
    type=click.Choice(FORMATS),
    help="The report's form, as of `ptap report`.  [default: by FILE's suffix, else tree]",
)
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Write the report to FILE.")
@click.option("--keep", type=click.Path(), metavar="CAPTURE", help="Keep what was recorded, for `ptap report`.")
@sampled_stack_option
@click.option(
    "--backend",
    type=click.Choice(["auto", "perf", "module"]),
    default="auto",
    show_default=True,
    help="How it is sampled: by perf events (auto), or by the kernel module, which records less of each stack.",
)
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    frequency: int,
    pids: tuple[int, ...],
    everything: bool,
    off_cpu: bool,
    duration: float | None,
    form: str | None,
    output: str | None,
    keep: str | None,
    user_stack: int,
    backend: str,
) -> None:
    """Sample a command (behind --), running processes (-p) or everything (-a), with children and threads.

    Kernel and user frames are in one stack; no frame pointers are needed. Ctrl-C ends it, and gives the report. The
    status is the command's own. With --off-cpu the weights of a thread add up to its time, running or not; its waits
    end in [off-cpu: blocked], or [off-cpu: preempted] where it could have run.

    \b
    Examples:
      ptap profile -- ./prog --its-options
      ptap profile -F 499 -p 1234 --duration 10 -o profile.html
      ptap profile -o profile.pb.gz -- make
      ptap profile -a --duration 5 --format top
      ptap profile --off-cpu -o waits.html -p 1234
      ptap profile --format top --keep trace.ptap -- ./prog
    """
    check_sampled(target, pids, everything)
    if backend == "module" and off_cpu:
        raise Failure("the kernel module samples what runs: leave --off-cpu out, or --backend")
    if form is None:
        form = _SUFFIXES.get(Path(output).suffix, "tree") if output is not None else "tree"
    with told_to_the_user(), TemporaryDirectory(prefix="ptap-") as folder:
        from ptap.backend.live_capture import Target
        from ptap.capture_file_report import CaptureFileReport
        from ptap.capture_report import ReportOptions
        from ptap.record_session import RecordSession
        from ptap.trace_point import parse_trace_point
        from ptap.trace_session import TraceOptions
        from unwind.trace_builder import ArgumentFrames

        path = keep or str(Path(folder) / "profile.ptap")
        session = RecordSession(
            [parse_trace_point(f"timer.profile({frequency})", backend)],
            Target(target or (), pids, everything),
            TraceOptions(back_end=backend, duration=duration, user_stack=user_stack, off_cpu=off_cpu),
            lambda text, detail: None if detail else _say(text),
            path,
            postponed=True,
        )

        def progress(seconds: float) -> str:
            hits, lost = session.progress
            return f"{hits} samples in {seconds:.0f} s, {hits / seconds:.0f} a second, {lost} lost"

        try:
            with LiveLine(progress):
                status = session.record()
        except KeyboardInterrupt:
            status = _INTERRUPTED  # a second Ctrl-C: the command is left to itself
        if session.started:
            report = CaptureFileReport(path, ReportOptions(arguments=ArgumentFrames.NONE))
            with closing(report), output_stream(output) as stream:
                try:
                    shown = open_report(form, stream, title=sampled_target(target, pids))
                    with progress_shown(stream if form in STREAMED else None):
                        report.write(shown)
                    with progress_shown(stream):
                        finish(shown)
                finally:
                    for line in report.closing_lines():
                        _say(line)
    sys.exit(status)


def _say(text: str) -> None:
    click.echo(f"ptap: {text}", err=True)
