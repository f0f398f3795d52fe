"""`ptap merge`: several capture files into one, by time."""

from __future__ import annotations

import os

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.progress_bars import progress_shown


@click.command("merge", short_help="Merge capture files into one, by time.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE...")
@click.option("--output", "-o", required=True, type=click.Path(), metavar="FILE", help="The file to write.")
def command(files: tuple[str, ...], output: str) -> None:
    """Merge capture FILEs into one, by time.

    The recordings stay apart: each keeps its machine, its processes and its probes. Where they are of several
    machines, traces name the machine, and are in the order of the time of day.

    \b
    Example:
      ptap merge server.ptap client.ptap -o both.ptap
    """
    if os.path.exists(output) and any(os.path.samefile(each, output) for each in files):
        raise Failure(f"{output}: it is one of the files that are merged; give another name by -o")
    with told_to_the_user(), progress_shown():
        from ptap.capture_merge import CaptureMerge

        for line in CaptureMerge(files).write(output):
            click.echo(f"ptap: {line}", err=True)
