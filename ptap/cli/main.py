"""The `ptap` command: its sub-commands, the short form, and how errors reach the user.

`ptap --backtrace PROBE… -- CMD…` is short for `ptap trace --backtrace PROBE… -- CMD…`. What stands behind `--` is
the traced command and is never looked at.
"""

from __future__ import annotations

import errno
import os
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
    "completion": "ptap.cli.completion",
}
_SECTIONS = {
    "Running programs": ("trace", "profile", "top", "stack", "record", "list"),
    "What was recorded": ("report", "serve", "info", "merge", "split"),
    "Addresses and unwind tables": ("symbolize", "tables", "cache"),
    "The kernel module on other machines": ("module", "run"),
    "This machine": ("doctor", "completion"),
}
_OUTPUT_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OWN_OPTIONS = {"--help", "-h", "--version"}
COMPLETION_VARIABLE = "_PTAP_COMPLETE"
"""In the environment of a `ptap` that is to answer a shell, not to run."""


class _Commands(click.Group):
    """Sub-commands that are imported when they are used, so that start-up pays for one only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(_COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        if ctx.resilient_parsing:  # a shell asks what a word may become
            from ptap.shell_completion.parameter_values import values_completed

            return values_completed(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        """As click does, but that it knows only of commands that were imported."""
        if args and args[0] not in _COMMANDS and not ctx.resilient_parsing:
            from unwind.symbolize.nearest_name import nearest_names

            near = nearest_names(args[0], _COMMANDS, 3)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"There is no command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for, in the order in which a user comes to need them."""
        width = max(map(len, _COMMANDS))
        for title, names in sections().items():
            chosen = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(f"{name:<{width}}", each.get_short_help_str(80)) for name, each in chosen if each is not None]
            with formatter.section(title):
                formatter.write_dl(rows)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        # Reading the metadata takes longer than all other imports of this file together.
        from ptap.version import installed_version

        click.echo(f"ptap {installed_version()}")
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
      ptap profile -o profile.html -- ./prog
      ptap report core --locals
      ptap stack 1234

    `ptap COMMAND --help`, or `man ptap-COMMAND`, says more of each.
    """


def command() -> click.Group:
    """The whole command line, for whoever looks at it instead of running it: manual pages, completion."""
    return _ptap


def sections() -> dict[str, list[str]]:
    """The names of the commands by what they are for; those that no section has come last."""
    placed = {name for names in _SECTIONS.values() for name in names}
    found = {title: [name for name in names if name in _COMMANDS] for title, names in _SECTIONS.items()}
    found["More"] = [name for name in _COMMANDS if name not in placed]
    return {title: names for title, names in found.items() if names}


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
    elif first == "help":
        arguments = [*arguments[1:], "--help"]
    elif first not in _COMMANDS and first not in _OWN_OPTIONS and (first.startswith("-") or _like_probe(first)):
        arguments = ["trace", *arguments]
    return arguments, target


def _like_probe(word: str) -> bool:
    """Anything but a plain word, which is a sub-command's name, perhaps a mistyped one."""
    return not word.isalpha()


def main() -> None:
    """Run the command line of this process and exit with its status."""
    leave_out_numpy_threads()
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction is not None:
        from ptap.cli.completion import complete

        sys.exit(complete(_ptap, instruction))
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
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
