"""`ptap split`: one capture file into several, by time, size or process."""

from __future__ import annotations

import re

import click

from ptap.cli.failure import told_to_the_user
from ptap.cli.progress_bars import progress_shown

_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0, "h": 3600.0}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _time(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Nanoseconds of a text such as 10s, 500ms, 2min."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min|h|)", value.strip())
    if found is None or not (time := int(float(found[1]) * _SECONDS[found[2]] * 1e9)):
        raise click.BadParameter(f"{value!r} is no time, such as 10s, 500ms or 2min")
    return time


def _size(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Bytes of a text such as 64M."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)([kmg]?)i?b?", value.strip().lower())
    if found is None:
        raise click.BadParameter(f"{value!r} is no size, such as 64M")
    return int(found[1]) * _BYTES[found[2]]


@click.command("split", short_help="Split a capture file by time, size or process.")
@click.argument("path", type=click.Path(exists=True, dir_okay=False), metavar="FILE")
@click.option("--every", callback=_time, metavar="TIME", help="A file for each span of this length: 10s, 500ms, 2min.")
@click.option("--size", callback=_size, metavar="SIZE", help="Files of about this size: 64M.")
@click.option("--process", is_flag=True, help="A file for each process.")
@click.option(
    *("--output", "-o", "prefix"),
    metavar="PREFIX",
    help="Files are PREFIX.NAME.ptap: the number of the span, or the pid.  [default: FILE without .ptap]",
)
def command(path: str, every: int | None, size: int | None, process: bool, prefix: str | None) -> None:
    """Split the capture FILE into files that can each be reported by themselves; their names are printed.

    \b
    Examples:
      ptap split trace.ptap --every 10s
      ptap split trace.ptap --process -o by-pid
    """
    if sum((every is not None, size is not None, process)) != 1:
        raise click.UsageError("Say how to split, by one of --every, --size, --process.")
    with told_to_the_user(), progress_shown():
        from ptap.capture_split import CaptureSplit

        split = CaptureSplit(path, prefix or path.removesuffix(".ptap"))
        if every is not None:
            written = split.by_time(every)
        else:
            written = split.by_size(size) if size is not None else split.by_process()
        for line in split.damage:
            click.echo(f"ptap: {line}", err=True)
        for name in written:
            click.echo(name)
