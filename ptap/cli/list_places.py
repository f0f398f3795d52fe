"""`ptap list`: what a probe resolves to, without running anything."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from ptap.cli.failure import Failure, told_to_the_user

if TYPE_CHECKING:
    from ptap.probe.resolve import ResolvedPlace


@click.command("list", short_help="Show what a probe resolves to, without running anything.")
@click.argument("probes", nargs=-1, required=True, metavar="PROBE...")
@click.option(
    *("--pid", "-p", "pids"),
    type=click.IntRange(min=1),
    metavar="PID",
    multiple=True,
    help="Look among this process's libraries too (repeatable).",
)
@click.option(
    *("--format", "form"),
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json is JSON Lines, an object a place.",
)
@click.pass_obj
def command(target: tuple[str, ...] | None, probes: tuple[str, ...], pids: tuple[int, ...], form: str) -> None:
    """Show file:line, module and offset of every place that PROBEs resolve to.

    A command behind -- is not run; its libraries are looked among.

    \b
    Examples:
      ptap list 'process("./prog").function("parse_*")'
      ptap list 'process("libc.so.6").function("qsort")' -- ./prog
      ptap list --format json 'process.function("main")' -p 1234
    """
    with told_to_the_user():
        from ptap.probe.point import ProbeKind, parse_probe_point
        from ptap.probe.resolve import Resolver

        resolver = Resolver(target or (), pids)
        places: list[ResolvedPlace] = []
        for text in probes:
            point = parse_probe_point(text)
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                raise Failure(f"{text}: has no place in a program; it is an event of the kernel")
            places += resolver.resolve(point)
    lines = map(_json_line, places) if form == "json" else _text_lines(places)
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _json_line(place: ResolvedPlace) -> str:
    return json.dumps(
        {
            "probe": place.probe,
            "module": place.place.path,
            "address": f"{place.address:#x}",
            "file_offset": f"{place.place.file_offset:#x}",
            "file": place.file,
            "line": place.line,
            "inlined_into": place.inlined_into,
            "selects": place.selects,
        }
    )


def _text_lines(places: list[ResolvedPlace]) -> list[str]:
    """One line a place, in columns as long as names are of usual length."""
    from ptap.report.short_text import printable

    width = min(max((len(each.probe) for each in places), default=0), 90)
    lines = []
    for each in places:
        position = f"{each.file}:{each.line}" if each.file else "(no line information)"
        inlined = f"  inlined into {each.inlined_into}" if each.inlined_into else ""
        if each.selects:
            inlined = "  only selects an implementation at start-up: probe that one, by a wildcard or a debug file"
        where = f"{each.place.path}+{each.place.file_offset:#x}"
        lines.append(printable(f"{each.probe:<{width}}  {where}  {position}{inlined}"))
    return lines
