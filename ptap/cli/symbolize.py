"""`ptap symbolize`: addresses of a program, library or kernel → functions, inlined calls and source lines."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import click

from ptap.cli.failure import told_to_the_user

_CHUNK = 1 << 20


@click.command("symbolize", short_help="Name the functions and source lines of addresses.")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS...]")
@click.option(*("-e", "--exe", "elf"), metavar="ELF", required=True, help="The file whose addresses they are.")
@click.option(
    *("--format", "form"),
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json is JSON Lines, a trace for each address.",
)
@click.option("--index", is_flag=True, help="Build the symbol index even for a few addresses; it is kept in the cache.")
@click.option(
    "--arguments",
    is_flag=True,
    help="Tell each function's parameters with their types, and the values that are constant at the address.",
)
def command(addresses: tuple[str, ...], elf: str, form: str, index: bool, arguments: bool) -> None:
    """Print the function and source line at each ADDRESS of ELF, and the calls that were inlined there.

    Addresses are hexadecimal and as in the file (what nm and objdump print); without any they are read from standard
    input, one a line. The innermost call comes first. What is known of no address is `??`; why is told at the end.

    Many addresses of one file are answered by its symbol index, which is built once and kept (see `ptap cache`).

    \b
    Examples:
      ptap symbolize -e /usr/bin/python3.11 0x5a1c40 0x5a1c44
      ptap symbolize -e vmlinux --format json < addresses
    """
    with told_to_the_user():
        from ptap.report.symbol_lines import SymbolLines
        from unwind.symbolize.symbolizer import Symbolizer

        symbolizer = Symbolizer.open(_path(elf))
        if index:
            symbolizer.build_index()
        lines = SymbolLines(symbolizer, form == "json", arguments)
        missed: Counter[str] = Counter()
        for batch in [addresses] if addresses else _read_batches():
            text, reasons = lines.of(batch)
            sys.stdout.write(text)
            sys.stdout.flush()
            missed.update(reasons)
    for reason, count in missed.items():
        click.echo(f"ptap: {count} address{'es' if count > 1 else ''}: {reason}", err=True)
    for problem in symbolizer.problems:
        click.echo(f"ptap: {elf}: {problem}", err=True)


def _path(name: str) -> str:
    """The file that the user means: a path, a command or a library by its name. Raises PathNotFound."""
    if os.path.exists(name):
        return name
    from ptap.probe.program_path import find_modules

    return find_modules(name, None, ())[0]


def _read_batches() -> Iterator[Sequence[str]]:
    """Lines of standard input, as many at a time as are there: whoever asks for one address waits for its answer."""
    rest = b""
    while True:
        data = os.read(0, _CHUNK)
        whole, newline, rest = (rest + data).rpartition(b"\n")
        lines = (whole + newline).decode("utf-8", "replace").splitlines() if newline else []
        if not data and rest:
            lines.append(rest.decode("utf-8", "replace"))
            rest = b""
        if lines:
            yield lines
        if not data:
            return
