"""`ptap report --diff BEFORE AFTER`: the stacks of two files, compared."""

from __future__ import annotations

from os.path import basename
from typing import TYPE_CHECKING

import click

from ptap.cli.output_stream import output_stream
from ptap.cli.report_format import difference_writer, refuse_difference

if TYPE_CHECKING:
    from ptap.capture_report import ReportOptions
    from ptap.profile.stack_profile import StackProfile
    from ptap.report.trace_filter import TraceFilter


def difference_options(
    program: str | None, sysroot: str, vmlinux: str | None, max_depth: int, when: str | None
) -> ReportOptions:
    """How both files are read. Raises PredicateSyntaxError."""
    from ptap.capture_report import ReportOptions
    from ptap.predicate.parse import parse_predicate
    from unwind.trace_builder import ArgumentFrames

    predicate = parse_predicate(when) if when is not None else None
    return ReportOptions(program, sysroot, vmlinux, ArgumentFrames.NONE, False, max_depth, predicate)


def compare(
    before: str, after: str, options: ReportOptions, wanted: TraceFilter, *, form: str, output: str | None,
    absolute: bool,
) -> None:  # fmt: skip
    """Write what has changed from one file to the other. Raises Failure, OutputError, BrokenPipeError."""
    from ptap.profile.profile_diff import ProfileDiff
    from ptap.report.output import OutputError

    refuse_difference(form)
    old, new = _profile(before, options, wanted), _profile(after, options, wanted)
    title = f"{basename(before)} → {basename(after)}"
    with output_stream(output) as stream:
        try:
            difference_writer(form, stream, title)(ProfileDiff(old, new, absolute))
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the report cannot be written: {error.strerror}") from error


def _profile(path: str, options: ReportOptions, wanted: TraceFilter) -> StackProfile:
    """All stacks of a file that are wanted; what is to be said of it is said."""
    from ptap.file_report import open_file_report
    from ptap.profile.profile_report import ProfileReport
    from ptap.report.trace_filter import FilteredReport
    from relay_reader.capture_kind import kind_of_input

    # Only perf.data is written into pipes.
    session = open_file_report(kind_of_input(path), path, options)
    report = ProfileReport(lambda _: None)
    filtered = FilteredReport(report, wanted)
    try:
        session.write(filtered)
        if filtered.left_out:
            click.echo(f"ptap: {path}: {filtered.left_out} traces left out, as was asked for", err=True)
    finally:
        for line in session.closing_lines():
            click.echo(f"ptap: {path}: {line.removeprefix(f'{path}: ')}", err=True)
        session.close()
    return report.profile
