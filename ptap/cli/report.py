"""`ptap report`: the traces of a capture that was made by the kernel module."""

from __future__ import annotations

import click

from ptap.cli.failure import told_to_the_user


@click.command("report", short_help="Print the traces of a capture.")
@click.option("--vmlinux", metavar="FILE", help="The traced kernel; by default the one of the session.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="json: JSON Lines."
)
@click.option("--verbose", "-v", is_flag=True, help="Addresses, modules and whole names.")
@click.argument("capture", metavar="CAPTURE")
def command(capture: str, vmlinux: str | None, form: str, verbose: bool) -> None:
    """Print the traces of CAPTURE, a file that a session of `ptap module build` has written.

    \b
    Example:
      ptap report reads.capture --vmlinux /usr/lib/debug/boot/vmlinux-6.1.0-56-amd64
    """
    with told_to_the_user():
        import sys
        from pathlib import Path

        from ptap.kernel_module.report import CaptureReport
        from ptap.report.json_lines import JsonReport
        from ptap.report.text import TextReport

        report = JsonReport(sys.stdout) if form == "json" else TextReport(sys.stdout, verbose=verbose)
        found = CaptureReport(Path(capture), vmlinux)
        found.write(report)
        for line in found.account.lines(True):
            click.echo(f"ptap: {line}", err=True)
