"""The `ptap` command: its sub-commands, the short form, and how errors reach the user.

`ptap --backtrace PROBE… -- CMD…` is short for `ptap trace --backtrace PROBE… -- CMD…`. What stands behind `--` is
the traced command and is never looked at.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module

import click

from cfi_tables.numpy_threads import leave_out_numpy_threads

_COMMANDS = {
    "trace": "ptap.cli.trace",
    "list": "ptap.cli.list_places",
    "cache": "ptap.cli.cache",
    "doctor": "ptap.cli.doctor",
    "tables": "ptap.cli.tables",
    "symbolize": "ptap.cli.symbolize",
    "module": "ptap.cli.module",
    "run": "ptap.cli.run",
    "report": "ptap.cli.report",
    "profile": "ptap.cli.profile",
    "top": "ptap.cli.top",
    "record": "ptap.cli.record",
    "info": "ptap.cli.info",
    "merge": "ptap.cli.merge",
    "split": "ptap.cli.split",
    "stack": "ptap.cli.stack",
    "serve": "ptap.cli.serve",
}
_OUTPUT_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
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


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        # Reading the metadata takes longer than all other imports of this file together.
        from importlib.metadata import version

        click.echo(f"ptap {version('ptap')}")
        ctx.exit()


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    *("--version",), is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
def _ptap() -> None:
    """Stack traces of programs and kernels that were built without frame pointers.

    `ptap --backtrace ...` is short for `ptap trace --backtrace ...`.

    \b
    Examples:
      ptap --backtrace 'process("./prog").function("work")' -- ./prog
      ptap --backtrace 'process("libc.so.6").function("malloc")' -p 1234
      ptap list 'process("./prog").function("*")'
      ptap report core --locals
      ptap stack 1234
    """


def arguments_with_command(arguments: list[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Split at the first `--`, and put `trace` in front where options or a probe come first.

    The traced command is None where there was no `--`.
    """
    target: tuple[str, ...] | None = None
    if "--" in arguments:
        at = arguments.index("--")
        arguments, target = arguments[:at], tuple(arguments[at + 1 :])
    first = arguments[0] if arguments else ("trace" if target is not None else "--help")
    if not arguments:
        arguments = [first]
    elif first not in _COMMANDS and first not in _OWN_OPTIONS and (first.startswith("-") or _like_probe(first)):
        arguments = ["trace", *arguments]
    return arguments, target


def _like_probe(word: str) -> bool:
    """Anything but a plain word, which is a sub-command's name, perhaps a mistyped one."""
    return not word.isalpha()


def main() -> None:
    """Run the command line of this process and exit with its status."""
    leave_out_numpy_threads()
    arguments, target = arguments_with_command(sys.argv[1:])
    try:
        _ptap(args=arguments, obj=target, prog_name="ptap", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        _forget_standard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in _OUTPUT_IS_FULL:
            raise
        _forget_standard_output()
        click.echo(f"ptap: the output cannot be written: {error.strerror}", err=True)
        sys.exit(2)


def _forget_standard_output() -> None:
    """Nobody reads it any more (`ptap list … | head`), or it is full: the interpreter is not to complain at its end."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
