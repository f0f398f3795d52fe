"""The options that choose traces and frames of a report, and what they come to as a filter."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ptap.cli.failure import Failure

if TYPE_CHECKING:
    from ptap.report.trace_filter import TraceFilter

_OPTIONS = (
    click.option("--comm", "comms", multiple=True, metavar="NAME", help="Show only processes of this name."),
    click.option("--pid", "pids", type=int, multiple=True, metavar="PID", help="Show only this process."),
    click.option("--tid", "tids", type=int, multiple=True, metavar="TID", help="Show only this thread."),
    click.option("--cpu", "cpus", type=int, multiple=True, metavar="N", help="Show only what ran on this processor."),
    click.option("--time", "span", metavar="FROM-TO", help="Show only this part, in seconds after the first trace."),
    click.option("--function", "functions", multiple=True, metavar="NAME", help="Show only stacks with this function."),
    click.option("--module", "modules", multiple=True, metavar="FILE", help="Show only stacks with frames of this."),
    click.option("--hide", multiple=True, metavar="NAME", help="Leave frames of this function out."),
    click.option("--only", multiple=True, metavar="NAME", help="Leave all frames but those of this function out."),
    click.option("--no-inline", "no_inline", is_flag=True, help="Leave inlined calls out."),
    click.option("--merge-recursion", is_flag=True, help="Show calls of a function by itself as one frame."),
)
_SPAN = re.compile(r"(\d+(?:\.\d*)?)?-(\d+(?:\.\d*)?)?")


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them; each may be given several times, and names take the wildcards * ? [...]."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def filter_of(given: dict[str, Any]) -> TraceFilter:
    """What the options were set to. Raises Failure."""
    from ptap.report.trace_filter import TraceFilter

    span = _SPAN.fullmatch(given["span"]) if given["span"] is not None else None
    if given["span"] is not None and (span is None or not any(span.groups())):
        raise Failure(f"--time {given['span']}: give seconds as FROM-TO, FROM- or -TO, as in --time 1.5-3")
    begin, end = span.groups() if span is not None else (None, None)
    return TraceFilter(
        comms=given["comms"],
        pids=given["pids"],
        tids=given["tids"],
        cpus=given["cpus"],
        begin_s=None if begin is None else float(begin),
        end_s=None if end is None else float(end),
        functions=given["functions"],
        modules=given["modules"],
        hide=given["hide"],
        only=given["only"],
        inlined=not given["no_inline"],
        merge_recursion=given["merge_recursion"],
    )
