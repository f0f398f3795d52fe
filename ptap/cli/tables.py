"""`ptap tables`: looking at compact unwind tables."""

from __future__ import annotations

import click

from ptap.cli.failure import Failure, told_to_the_user


@click.group("tables", short_help="Look at compact unwind tables.")
def command() -> None:
    """Compact unwind tables, compiled from a file's call frame information."""


@command.command("show", short_help="Print compiled rows as readable rules.")
@click.argument("elf", metavar="ELF")
@click.argument("address", required=False)
def show(elf: str, address: str | None) -> None:
    """Print the rows of ELF's table, or the one in force at ADDRESS (hexadecimal, as in the file).

    \b
    ptap tables show /usr/bin/ls
    ptap tables show /lib/x86_64-linux-gnu/libc.so.6 0x27280
    """
    with told_to_the_user():
        from cfi_tables.cache import table_for
        from cfi_tables.image_file import open_image
        from cfi_tables.show import format_rows

        number: int | None = None
        if address is not None:
            try:
                number = int(address, 16)
            except ValueError:
                raise Failure(f"{address}: no hexadecimal address, such as 0x1139") from None
        table = table_for(open_image(elf))
        for line in format_rows(table, number):
            click.echo(line)
        for problem in table.skipped:
            click.echo(f"skipped: {problem}", err=True)
