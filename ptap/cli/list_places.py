"""`ptap list`: what a probe resolves to, without running anything."""

from __future__ import annotations

import json
import sys

import click

from ptap.cli.failure import Failure, told_to_the_user


@click.command("list", short_help="Show what a probe resolves to, without running anything.")
@click.argument("probes", nargs=-1, required=True, metavar="PROBE...")
@click.option("--pid", "-p", "pids", type=int, multiple=True, help="Look among this process's libraries too.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="json: JSON Lines."
)
@click.pass_obj
def command(
    target: tuple[str, ...] | None, probes: tuple[str, ...], pids: tuple[int, ...], form: str
) -> None:
    """Show file:line, module and offset of every place that PROBEs resolve to.

    \b
    ptap list 'process("./prog").function("parse_*")'
    ptap list 'process("libc.so.6").function("qsort")' -- ./prog
    """
    with told_to_the_user():
        from ptap.probe.point import ProbeKind, parse_probe_point
        from ptap.probe.resolve import Resolver

        resolver = Resolver(target or (), pids)
        for text in probes:
            point = parse_probe_point(text)
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                raise Failure(f"{text}: has no place in a program; it is an event of the kernel")
            for each in resolver.resolve(point):
                if form == "json":
                    record = {
                        "probe": each.probe,
                        "module": each.place.path,
                        "address": f"{each.address:#x}",
                        "file_offset": f"{each.place.file_offset:#x}",
                        "file": each.file,
                        "line": each.line,
                        "inlined_into": each.inlined_into,
                    }
                    click.echo(json.dumps(record))
                    continue
                position = f"{each.file}:{each.line}" if each.file else "(no line information)"
                inlined = f"  inlined into {each.inlined_into}" if each.inlined_into else ""
                click.echo(
                    f"{each.probe}  {position}  {each.place.path}+{each.place.file_offset:#x}{inlined}"
                )
    sys.stdout.flush()
