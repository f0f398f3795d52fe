"""`ptap run`: a session of the kernel module on this machine."""

from __future__ import annotations

import sys

import click

from ptap.cli.failure import told_to_the_user


@click.command("run", short_help="Trace with a session of the kernel module.")
@click.option("--output", "-o", type=click.Path(), metavar="CAPTURE", required=True, help="Where the records go.")
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="End after so long.")
@click.option("--only", is_flag=True, help="Record the processes of the command and no others.")
@click.argument("folder", metavar="DIR")
@click.pass_obj
def command(target: tuple[str, ...] | None, folder: str, output: str, duration: float | None, only: bool) -> None:
    """Load the module of DIR, trace a command (behind --) or whatever runs, and unload it again.

    `ptap module build` writes DIR. Where ptap is not installed, `python3 DIR/run.pyz DIR -o CAPTURE -- CMD` does the
    same. The status is the command's own; Ctrl-C ends the run.

    \b
    Examples:
      ptap run reads -o reads.capture -- cat /etc/passwd
      ptap report reads.capture
    """
    with told_to_the_user():
        from pathlib import Path

        from ptap_target.collector import run_session

        status, told = run_session(Path(folder), Path(output), list(target or ()), duration, only=only)
    for line in told:
        click.echo(f"ptap: {line}", err=True)
    sys.exit(status)
