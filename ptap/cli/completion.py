"""`ptap completion`: the script by which a shell completes ptap's command line."""

from __future__ import annotations

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print a shell's script that completes ptap's command line.")
@click.argument("shell", type=click.Choice(_SHELLS), metavar="SHELL")
def command(shell: str) -> None:
    """Print the script by which SHELL (bash, zsh or fish) completes commands, options and their values.

    Completed are probe points too (programs, functions of a program or of the kernel, tracepoints), once their single
    quote is open; processes, by number or by name; and files that hold captures.

    \b
    Examples:
      ptap completion bash > ~/.local/share/bash-completion/completions/ptap
      ptap completion zsh > ~/.zfunc/_ptap    # a folder of fpath: fpath+=~/.zfunc; compinit
      ptap completion fish > ~/.config/fish/completions/ptap.fish
      eval "$(ptap completion bash)"          # for this shell alone
    """
    from ptap.shell_completion.shells import script

    click.echo(script(shell), nl=False)


def complete(commands: click.Command, instruction: str) -> int:
    """Answer the shell that has put `instruction` into the environment; gives the exit status."""
    import os

    from click.shell_completion import shell_complete

    from ptap.cli.main import COMPLETION_VARIABLE
    from ptap.shell_completion.shells import register

    # Nobody waits for a server with a finger on the key.
    os.environ.pop("DEBUGINFOD_URLS", None)
    register()
    return shell_complete(commands, {}, "ptap", COMPLETION_VARIABLE, instruction)
