"""`ptap stack`: the stacks of all threads of a running process, at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ptap.cli.failure import told_to_the_user
from ptap.cli.output_stream import output_stream
from ptap.cli.progress_bars import progress_shown
from ptap.cli.report_format import STREAMED, WITH_VALUES, finish, format_option, open_report
from ptap.cli.stack_options import max_depth_option, when_option

if TYPE_CHECKING:
    from ptap.report.output import Report


@click.command("stack", short_help="Show the stacks of a running process.")
@click.argument("pid", type=click.IntRange(min=1), metavar="PID")
@click.option(
    *("-t", "--tid", "tids"), type=click.IntRange(min=1), metavar="TID", multiple=True, help="This thread only."
)
@format_option
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Write to FILE, not to standard output.")
@click.option(
    "--arguments", type=click.Choice(["all", "none"]), default="none", show_default=True, help="Show frames' arguments."
)
@click.option("--locals", "locals_too", is_flag=True, help="Show the arguments and local variables of every frame.")
@click.option("--no-inline", is_flag=True, help="Leave inlined calls out.")
@click.option("--source", is_flag=True, help="Show each frame's source line (text only).")
@click.option("--kernel", is_flag=True, help="Show where threads that are blocked are in the kernel, too (root).")
@max_depth_option
@when_option
@click.option(
    "--verbose", "-v", is_flag=True, help="Addresses, modules, whole names and values, and how long PID stood still."
)
def command(
    pid: int,
    tids: tuple[int, ...],
    form: str,
    output: str | None,
    arguments: str,
    locals_too: bool,
    no_inline: bool,
    source: bool,
    kernel: bool,
    max_depth: int,
    when: str | None,
    verbose: bool,
) -> None:
    """Show the stack of every thread of process PID, all at one moment.

    The process is stopped while its registers and stacks are copied, which takes about a millisecond, and goes on
    while the copies are read; one that job control has stopped stays stopped. With --arguments or --locals the memory
    that values lead to is copied, too (8 MiB at most), which takes some milliseconds more.

    Whoever may debug the process can do this: its user, where the machine allows it, and root.

    \b
    Examples:
      ptap stack 1234
      ptap stack 1234 -t 1240 --locals
      ptap stack 1234 --format json | jq .frames[0]
      ptap stack 1234 --format tree
    """
    with told_to_the_user():
        from ptap.live_report import LiveReport, StackOptions

        values = (arguments == "all" and form in WITH_VALUES) or locals_too
        session = LiveReport(pid, StackOptions(frozenset(tids), values, locals_too, kernel, max_depth, when))
        with output_stream(output) as stream:
            try:
                report = open_report(form, stream, source=source, verbose=verbose, times=False, title=f"process {pid}")
                with progress_shown(stream if form in STREAMED else None):
                    session.run(_without_inlined(report) if no_inline else report)
                if form not in STREAMED:
                    finish(report)
            finally:
                for line in session.closing_lines(verbose):
                    click.echo(f"ptap: {line}", err=True)
        session.keep_names()


def _without_inlined(report: Report) -> Report:
    from ptap.report.trace_filter import FilteredReport, TraceFilter

    return FilteredReport(report, TraceFilter(inlined=False))
