"""`ptap info`: what a capture file is of and holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from ptap.cli.failure import told_to_the_user
from ptap.cli.output_stream import output_stream
from ptap.cli.progress_bars import progress_shown
from ptap.report.short_text import printable


@click.command("info", short_help="Say what a capture file is of and holds.")
@click.argument("path", type=click.Path(exists=True, dir_okay=False), metavar="FILE")
@click.option(
    *("--format", "form"),
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json is one object.",
)
def command(path: str, form: str) -> None:
    """Say what the capture FILE is of and holds: machine, command, probes, counts, losses, files, size by part.

    The status is 1 where something of the file could not be read.

    \b
    Example:
      ptap info trace.ptap
    """
    with told_to_the_user(), progress_shown():
        from ptap.capture_summary import CaptureSummary

        told = CaptureSummary(path).object()
    with output_stream(None) as stream:
        if form == "json":
            stream.write(json.dumps(told, ensure_ascii=False) + "\n")
        else:
            stream.writelines(printable(line) + "\n" for line in _lines(told))
        stream.flush()
    if told["damage"]:
        sys.exit(1)


def _lines(told: dict[str, Any]) -> Iterator[str]:
    state = "complete" if told["complete"] else "not ended in order" if not told["damage"] else "damaged"
    yield f"{told['path']}: {told['bytes']} bytes, {told['chunks']} chunks, {state}"
    for line in told["damage"]:
        yield f"  {line}"
    if told["damage"]:
        yield f"  {told['bytes_skipped']} bytes with {told['events_lost']} events cannot be read"
    for number, each in enumerate(told["recordings"]):
        yield ""
        yield from _recording(number, each)
    yield ""
    yield f"{'part':<20}{'stored':>14}{'unpacked':>14}"
    for name, size in sorted(told["parts"].items(), key=lambda item: -item[1]["stored"]):
        yield f"{name:<20}{size['stored']:>14}{size['unpacked']:>14}"


def _recording(number: int, told: dict[str, Any]) -> Iterator[str]:
    machine = told["machine"]
    yield f"recording {number}, by {told['writer'] or 'an unknown program'} ({told['back_end'] or 'no back end'})"
    system = f"Linux {machine['release']} {machine['machine']}, {machine['cpu_count']} CPUs"
    yield f"  machine    {machine['host']}, {system}"
    if machine["start_wall_ns"]:
        began = datetime.fromtimestamp(machine["start_wall_ns"] / 1e9, UTC)
        yield f"  began      {began:%Y-%m-%d %H:%M:%S} UTC, clock {machine['clock']}"
    if told["command"]:
        yield f"  command    {' '.join(told['command'])}"
    if told["pids"]:
        yield f"  processes  {', '.join(map(str, told['pids']))}"
    if told["when"]:
        yield f"  when       {told['when']}"
    yield (
        f"  samples    {told['samples']} in {told['span_ns'] / 1e9:.3f} s, of {told['processes']} processes and "
        f"{told['threads']} threads; {told['stack_bytes']} bytes of stack"
    )
    yield f"  lost       {told['lost']} records"
    for place, probe in enumerate(told["probes"]):
        yield f"  probe      {told['hits'].get(str(place), 0)} hits of {probe['probe']}"
    for mapped in told["mapped"]:
        if mapped["path"].startswith(("/", "[vdso]")):
            yield f"  mapped     {mapped['path']}  {mapped['build_id'] or 'no build-id'}"
    for line in told["problems"]:
        yield f"  problem    {line}"
