"""The `ptap` command: its sub-commands, the short form, and how errors reach the user.

`ptap --backtrace PROBE… -- CMD…` is short for `ptap trace --backtrace PROBE… -- CMD…`. What stands behind `--` is
the traced command and is never looked at.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

import click

_COMMANDS = {
    "trace": "ptap.cli.trace",
    "list": "ptap.cli.list_places",
    "doctor": "ptap.cli.doctor",
    "tables": "ptap.cli.tables",
}
_OWN_OPTIONS = {"--help", "-h", "--version"}


class _Commands(click.Group):
    """Sub-commands that are imported when they are used, so that start-up pays for one only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(_COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("ptap"), prog_name="ptap")
def _ptap() -> None:
    """Stack traces of programs and kernels that were built without frame pointers.

    \b
    ptap --backtrace 'process("./prog").function("work")' -- ./prog
    ptap --backtrace 'process("libc.so.6").function("malloc")' -p 1234
    ptap list 'process("./prog").function("*")'
    """


def arguments_with_command(arguments: list[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Split at the first `--`, and put `trace` in front where no sub-command is named.

    The traced command is None where there was no `--`.
    """
    target: tuple[str, ...] | None = None
    if "--" in arguments:
        at = arguments.index("--")
        arguments, target = arguments[:at], tuple(arguments[at + 1 :])
    if arguments and arguments[0] not in _COMMANDS and arguments[0] not in _OWN_OPTIONS:
        arguments = ["trace", *arguments]
    return arguments, target


def main() -> None:
    """Run the command line of this process and exit with its status."""
    arguments, target = arguments_with_command(sys.argv[1:])
    _ptap(args=arguments or ["--help"], obj=target, prog_name="ptap")
