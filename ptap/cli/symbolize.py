"""`ptap symbolize`: addresses of a program, library or kernel → functions, inlined calls and source lines."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ptap.cli.address_source import kernel_sources, names_source, open_source, source_name, source_options
from ptap.cli.failure import told_to_the_user
from ptap.cli.progress_bars import progress_shown

_CHUNK = 1 << 20


@click.command("symbolize", short_help="Name the functions and source lines of addresses.")
@click.argument("addresses", nargs=-1, metavar="[ADDRESS... | LOG...]")
@source_options
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
@click.option(
    *("--sysroot",),
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Where the files that a log names lie, if not at their places.",
)
def command(
    addresses: tuple[str, ...], form: str, index: bool, arguments: bool, sysroot: str | None, **source: Any
) -> None:
    """Print the function and source line at each ADDRESS of a file, and the calls that were inlined there.

    Addresses are hexadecimal and as in the file (what nm and objdump print); without any they are read from standard
    input, one a line. The innermost call comes first. What is known of no address is `??`; why is told at the end.

    Many addresses of one file are answered by its symbol index, which is built once and kept (see `ptap cache`).

    With --kernel the addresses are those of a running kernel: what address randomization did is found from its list of
    symbols, and names without a line have their offset and module: `name+0x1c [module]`. For another machine's kernel
    name copies of its /proc/kallsyms (and /proc/modules, /sys/module), its vmlinux and the folder of its modules.

    Where nothing says whose addresses they are, the input is a log: LOG..., or standard input. Every frame in it
    is told with function and source line, inlined calls on lines of their own before it; everything else stays as it
    is. Frames are those of kernels (oopses, warnings, dmesg, /proc/PID/stack), of the sanitizers, of glibc's
    backtrace_symbols, of systemd-coredump, and nameless ones of gdb behind the process's mappings. A kernel's log is of
    the kernel that runs here, if not --vmlinux, --kallsyms and --module-dir tell of another.

    \b
    Examples:
      ptap symbolize -e /usr/bin/python3.11 0x5a1c40 0x5a1c44
      ptap symbolize -e vmlinux --format json < addresses
      ptap symbolize --build-id 4e1dcb10a5b5... 0x5a1c40
      ptap symbolize --kernel 0xffffffff9a2b1c44
      ptap symbolize --kernel --kallsyms kallsyms --vmlinux vmlinux --module-dir modules < addresses
      dmesg -w | ptap symbolize
      ptap symbolize --vmlinux vmlinux --module-dir modules oops.txt
      ./program 2>&1 | ptap symbolize --format json
      ptap symbolize --perf-map /tmp/perf-1234.map 0x7f31c5a01b40
    """
    if _are_logs(addresses, source):
        if index or arguments:
            raise click.UsageError(f"--{'index' if index else 'arguments'} goes with addresses, not with logs.")
        with told_to_the_user(), progress_shown(sys.stdout):
            from ptap.cli.symbolize_log import symbolize_logs

            symbolize_logs(addresses, kernel_sources(source), sysroot or "/", form == "json")
        return
    if sysroot is not None and names_source(source):
        raise click.UsageError("--sysroot goes with logs, not with addresses.")
    with told_to_the_user(), progress_shown(sys.stdout):
        from ptap.report.symbol_lines import SymbolLines

        symbolizer = open_source(source, index)
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
        click.echo(f"ptap: {source_name(source)}: {problem}", err=True)


def _are_logs(words: tuple[str, ...], source: dict[str, Any]) -> bool:
    """Whether the input is text that holds frames, rather than addresses of what the options name."""
    if names_source(source):
        return False
    if words:
        return all(os.path.exists(word) for word in words)
    return sys.stdin is not None and not sys.stdin.isatty()


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
