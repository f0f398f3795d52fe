"""`--format`: the forms that traces are written in, and who writes each.

Heavy formats are imported when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import click

from ptap.cli.failure import Failure

if TYPE_CHECKING:
    from ptap.profile.profile_diff import ProfileDiff
    from ptap.profile.stack_profile import StackProfile
    from ptap.report.output import Report

STREAMED = ("text", "json", "perf-script")
"""Written a trace at a time; the others when all traces are there."""
COLUMNS = ("parquet", "arrow")
"""Files of columns, a row a trace."""
WITH_VALUES = ("text", "json", *COLUMNS)
"""Those that show arguments."""
FORMATS = (*STREAMED, *COLUMNS, "tree", "callers", "top", "lines", "folded", "pprof", "firefox", "speedscope", "html")
_HELP = (
    "text and json (JSON Lines) show each trace, perf-script as perf prints it, parquet and arrow are tables of them. "
    "Traces added up: tree (or callers) and top (or lines) are text, folded is for flamegraph.pl, html a page, the "
    "others open in viewers."
)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option as every command has it, named `form`."""
    return click.option(*("--format", "form"), type=click.Choice(FORMATS), default="text", help=_HELP)(command)


def open_report(
    form: str, stream: TextIO, *, stacks: bool = True, source: bool = False, verbose: bool = False, times: bool = True,
    title: str = "ptap",
) -> Report:  # fmt: skip
    """The report that writes traces to `stream` in that form. Raises Failure where the stream cannot hold it."""
    if form == "json":
        from ptap.report.json_lines import JsonReport

        return JsonReport(stream)
    if form == "text":
        from ptap.report.text import TextReport

        return TextReport(stream, stacks=stacks, source=source, verbose=verbose, times=times)
    if form == "perf-script":
        from ptap.profile.perf_script import PerfScriptReport

        return PerfScriptReport(stream)
    if form in COLUMNS:
        return _column_report(form, stream)
    from ptap.profile.profile_report import ProfileReport

    return ProfileReport(_encoder(form, stream, title))


DIFFERENCE_FORMATS = ("top", "lines", "tree", "callers", "folded", "json", "html")
"""Those that show two profiles side by side."""


def refuse_difference(form: str) -> None:
    """Raise Failure for a form that holds one profile only."""
    if form not in DIFFERENCE_FORMATS:
        own = "; write one of each file, and give them to `go tool pprof -diff_base`" if form == "pprof" else ""
        raise Failure(f"--format {form} holds one profile: --diff has {', '.join(DIFFERENCE_FORMATS)}{own}")


def difference_writer(form: str, stream: TextIO, title: str) -> Callable[[ProfileDiff], None]:
    """The writer of two profiles in that form."""
    if form in ("top", "lines"):
        from ptap.profile.difference_table import write_difference_table

        return partial(write_difference_table, stream=stream, lines=form == "lines")
    if form in ("tree", "callers"):
        from ptap.profile.difference_tree import write_difference_tree

        return partial(write_difference_tree, stream=stream, callers=form == "callers")
    if form == "folded":
        from ptap.profile.difference_folded import write_difference_folded

        return partial(write_difference_folded, stream=stream)
    if form == "json":
        from ptap.profile.difference_table import write_difference_json

        return partial(write_difference_json, stream=stream)
    from ptap.profile.html import write_difference_html

    return partial(write_difference_html, stream=stream, title=title)


def finish(report: Report) -> None:
    """Write what could not be written before all traces were there. Raises OutputError, BrokenPipeError."""
    from ptap.report.output import OutputError, WholeReport

    if isinstance(report, WholeReport):
        try:
            report.finish()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"the report cannot be written: {error.strerror}") from error


def _column_report(form: str, stream: TextIO) -> Report:
    try:
        from ptap.report.columns import ColumnReport
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise Failure(f"--format {form} needs pyarrow, which is not installed: pip install 'ptap[columns]'") from error
    return ColumnReport(_binary(form, stream), form)


def _binary(form: str, stream: TextIO) -> BinaryIO:
    """The stream for bytes. Raises Failure for a terminal."""
    if stream.isatty():
        suffix = "pb.gz" if form == "pprof" else form
        raise Failure(f"{form} is not for a terminal: write it to a file with -o profile.{suffix}")
    return stream.buffer


def _encoder(form: str, stream: TextIO, title: str) -> Callable[[StackProfile], None]:
    if form in ("tree", "callers"):
        from ptap.profile.call_tree import write_call_tree

        return partial(write_call_tree, stream=stream, callers=form == "callers")
    if form in ("top", "lines"):
        from ptap.profile.function_table import write_function_table

        return partial(write_function_table, stream=stream, lines=form == "lines")
    if form == "folded":
        from ptap.profile.folded import write_folded

        return partial(write_folded, stream=stream)
    if form == "speedscope":
        from ptap.profile.speedscope import write_speedscope

        return partial(write_speedscope, stream=stream)
    if form == "firefox":
        from ptap.profile.firefox import write_firefox

        return partial(write_firefox, stream=stream, product=title)
    if form == "html":
        from ptap.profile.html import write_html

        return partial(write_html, stream=stream, title=title)
    from ptap.profile.pprof import write_pprof

    return partial(write_pprof, stream=_binary(form, stream))
