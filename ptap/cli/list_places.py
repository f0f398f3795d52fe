"""`ptap list`: what a probe resolves to, without running anything."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.list_kernel import kernel_json, kernel_text, list_kernel
from ptap.cli.module_files import files_of, module_options
from ptap.cli.progress_bars import progress_shown

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
@click.option("--vmlinux", metavar="FILE", help="The kernel that probes of the kernel are looked for in.")
@click.option("--system-map", metavar="FILE", help="Its symbols, where FILE of --vmlinux has none.")
@module_options
@click.pass_obj
def command(
    target: tuple[str, ...] | None,
    probes: tuple[str, ...],
    pids: tuple[int, ...],
    form: str,
    vmlinux: str | None,
    system_map: str | None,
    module_file: tuple[str, ...],
    module_dir: tuple[str, ...],
) -> None:
    """Show file:line, module and offset of every place that PROBEs resolve to; of the kernel, symbol and offset.

    A command behind -- is not run; its libraries are looked among.

    \b
    Examples:
      ptap list 'process("./prog").function("parse_*")'
      ptap list 'process("libc.so.6").function("qsort")' -- ./prog
      ptap list --format json 'process.function("main")' -p 1234
      ptap list 'kernel.function("do_open")' --vmlinux /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64
    """
    with told_to_the_user(), progress_shown():
        from ptap.probe.point import ProbeKind, parse_probe_point
        from ptap.probe.resolve import Resolver

        resolver = Resolver(target or (), pids)
        places: list[ResolvedPlace] = []
        of_kernel = [text for text in probes if text.strip().startswith(("kernel", "module", "timer")) and vmlinux]
        for text in probes:
            if text in of_kernel:
                continue
            if text.strip().startswith(("kernel.function", "kernel.statement", "module")):
                raise Failure(f"{text}: name the kernel that it is looked for in (--vmlinux FILE)")
            point = parse_probe_point(text)
            if point.kind in (ProbeKind.TRACEPOINT, ProbeKind.TIMER):
                raise Failure(f"{text}: has no place in a program; it is an event of the kernel")
            places += resolver.resolve(point)
        in_kernel = list_kernel(of_kernel, vmlinux, system_map, files_of(module_file, module_dir)) if vmlinux else []
    if form == "json":
        lines = [*map(_json_line, places), *map(kernel_json, in_kernel)]
    else:
        lines = [*_text_lines(places), *kernel_text(in_kernel)]
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
