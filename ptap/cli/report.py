"""`ptap report`: the stacks in a file that was captured elsewhere: a core file, perf.data, or the kernel module's."""

from __future__ import annotations

from contextlib import closing
from os.path import basename, isdir, isfile, join
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.output_stream import output_stream
from ptap.cli.progress_bars import progress_shown
from ptap.cli.report_format import STREAMED, WITH_VALUES, finish, format_option, open_report
from ptap.cli.stack_options import max_depth_option, when_option
from ptap.cli.trace_filter_options import filter_of, filter_options

if TYPE_CHECKING:
    from ptap.predicate.expression import Predicate
    from relay_reader.capture_kind import CaptureKind
    from unwind.argument_frames import ArgumentFrames


@click.command("report", short_help="Show the stacks of a capture file, perf.data, or a core file.")
@click.argument("path", type=click.Path(), metavar="FILE")
@click.option(
    *("-e", "--exe", "program"),
    type=click.Path(exists=True, dir_okay=False),
    metavar="PROGRAM",
    help="The program that was running, where it is not at its old place.",
)
@click.option(
    "--sysroot",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    default="/",
    show_default=True,
    help="Where the files of the machine that FILE comes from lie.",
)
@click.option(
    "--vmlinux",
    type=click.Path(exists=True, dir_okay=False),
    metavar="VMLINUX",
    help="The kernel of a capture, where it is not at its old place.",
)
@format_option
@click.option("--output", "-o", type=click.Path(), metavar="FILE", help="Write to FILE, not to standard output.")
@click.option(
    "--arguments",
    type=click.Choice(["none", "probed", "all"]),
    help="Frames whose arguments are shown: of capture files probed, of perf.data none, else all, if not told.",
)
@click.option("--locals", "locals_too", is_flag=True, help="Show the local variables of every frame, too.")
@click.option("--source", is_flag=True, help="Show each frame's source line (text only).")
@max_depth_option
@when_option
@click.option(
    *("--diff", "before"),
    type=click.Path(),
    metavar="BEFORE",
    help="Compare FILE with this one, function by function and call by call: top (as without --format), lines, tree, "
    "callers, folded, json, html.",
)
@click.option("--absolute", is_flag=True, help="With --diff: compare weights, not shares of each whole.")
@click.option("--follow", is_flag=True, help="Go on as the capture file grows, until its recording ends.")
@filter_options
@click.pass_context
@click.option("--verbose", "-v", is_flag=True, help="Addresses, modules, and whole names, values and reasons.")
def command(
    context: click.Context,
    /,
    path: str,
    program: str | None,
    sysroot: str,
    vmlinux: str | None,
    form: str,
    output: str | None,
    arguments: str | None,
    locals_too: bool,
    source: bool,
    max_depth: int,
    when: str | None,
    before: str | None,
    absolute: bool,
    follow: bool,
    verbose: bool,
    **filters: Any,
) -> None:
    """Show the stack of every thread in a core file, the one that crashed first, or those that a capture holds.

    FILE is a capture file (see `ptap record`), what `perf record` wrote (- for standard input, from `perf record -o
    -`; with --threads a folder), a capture of the kernel module (see `ptap module build`), or an ELF core file, written
    by the kernel, gdb's gcore or systemd-coredump; a core file may be packed by gzip, zstd, xz or lz4. Files that were
    mapped are found at their old places, or by -e and --sysroot; one of another build-id is refused. Values come from
    the memory in the file, and from those files for what is not written at run time.

    \b
    Examples:
      ptap report core
      ptap report trace.ptap --follow
      ptap report core.1234.zst -e ./server --locals
      ptap report core --format json | jq .frames[0]
      perf record --call-graph dwarf -o - ./prog | ptap report -
      ptap report --diff before.data after.data --format html -o difference.html
      ptap report reads.capture --vmlinux /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64
    """
    if before is not None:
        if follow or path == before == "-":
            raise Failure("--diff compares two files that are whole: neither --follow nor standard input twice")
        from ptap.cli.report_diff import compare, difference_options

        if context.get_parameter_source("form") is ParameterSource.DEFAULT:
            form = "top"
        with told_to_the_user():
            options = difference_options(program, sysroot, vmlinux, max_depth, when)
            compare(before, path, options, filter_of(filters), form=form, output=output, absolute=absolute)
        return
    if absolute:
        raise Failure("--absolute is for --diff BEFORE AFTER")
    with told_to_the_user():
        from ptap.capture_report import ReportOptions
        from ptap.file_report import open_file_report
        from ptap.report.trace_filter import FilteredReport
        from relay_reader.capture_kind import CaptureKind, kind_of_input
        from unwind.argument_frames import ArgumentFrames

        wanted = filter_of(filters)
        if isdir(path) and not isfile(join(path, "data")):
            raise Failure(f"{path}: a folder, and none that `perf record --threads` has made: it has no file `data`")
        predicate = _predicate(when) if when is not None else None
        kind = kind_of_input(path)
        if follow and kind is not CaptureKind.CAPTURE:
            raise Failure(f"{path}: a {kind.value} is not followed; only a capture file is (see `ptap record`)")
        options = ReportOptions(
            program,
            sysroot,
            vmlinux,
            _arguments(arguments, kind) if form in WITH_VALUES else ArgumentFrames.NONE,
            locals_too,
            max_depth,
            predicate,
            verbose,
        )
        session = open_file_report(kind, path, options, follow=follow)
        with closing(session), output_stream(output) as stream:
            try:
                times = kind is not CaptureKind.CORE
                report = open_report(form, stream, source=source, verbose=verbose, times=times, title=basename(path))
                filtered = FilteredReport(report, wanted)
                with progress_shown(stream if form in STREAMED else None):
                    session.write(filtered)
                with progress_shown(stream):
                    finish(report)
                if filtered.left_out:
                    click.echo(f"ptap: {filtered.left_out} traces left out, as was asked for", err=True)
            finally:
                for line in session.closing_lines():
                    click.echo(f"ptap: {line}", err=True)


def _predicate(text: str) -> Predicate:
    from ptap.predicate.parse import parse_predicate

    return parse_predicate(text)


def _arguments(wanted: str | None, kind: CaptureKind) -> ArgumentFrames:
    """Whose arguments are shown; by default those that `kind` holds, at a cost that fits how many stacks it has."""
    from relay_reader.capture_kind import CaptureKind
    from unwind.argument_frames import ArgumentFrames

    if wanted is not None:
        return ArgumentFrames(wanted)
    of_kind = {CaptureKind.CAPTURE: ArgumentFrames.PROBED, CaptureKind.PERF_DATA: ArgumentFrames.NONE}
    return of_kind.get(kind, ArgumentFrames.ALL)
