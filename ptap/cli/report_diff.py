"""`ptap report --diff BEFORE AFTER`: the stacks of two files, compared."""

from __future__ import annotations

from os.path import basename
from typing import TYPE_CHECKING

import click

from ptap.cli.output_stream import drop_unwritten, open_output
from ptap.cli.report_format import difference_writer, refuse_difference

if TYPE_CHECKING:
    from collections.abc import Callable

    from ptap.capture_report import FileReport
    from ptap.profile.stack_profile import StackProfile
    from ptap.report.trace_filter import TraceFilter


def write_difference(
    form: str,
    files: tuple[str, str],
    open_file: Callable[[str], FileReport],
    wanted: TraceFilter,
    output: str | None,
    *,
    absolute: bool,
) -> None:
    """Write what has changed from the first of `files` to the second. Raises Failure, OutputError, BrokenPipeError."""
    from ptap.profile.profile_diff import ProfileDiff
    from ptap.report.output import OutputError

    refuse_difference(form)
    before, after = (_profile(path, open_file(path), wanted) for path in files)
    stream = open_output(output)
    title = " → ".join(basename(path) for path in files)
    try:
        difference_writer(form, stream, title)(ProfileDiff(before, after, absolute))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the report cannot be written: {error.strerror}") from error
    finally:
        drop_unwritten(stream)


def _profile(path: str, session: FileReport, wanted: TraceFilter) -> StackProfile:
    """All stacks of a file that are wanted; what is to be said of it is said."""
    from ptap.profile.profile_report import ProfileReport
    from ptap.report.trace_filter import FilteredReport

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
