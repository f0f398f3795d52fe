"""`ptap tables`: building, reading and checking compact unwind tables."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ptap.cli.failure import Failure, told_to_the_user
from ptap.cli.progress_bars import progress_shown

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.table import CompactTable

_SHOWN_DIFFERENCES = 20


@click.group("tables", short_help="Build, look at and check compact unwind tables.")
def command() -> None:
    """Compact unwind tables, compiled from a file's call frame information.

    ELF is a program, a library, an object, a kernel module (compressed or not) or a kernel (vmlinux or vmlinuz).

    \b
    Examples:
      ptap tables show /usr/bin/ls
      ptap tables verify libc.so.6
    """


@command.command("show", short_help="Print compiled rows as readable rules.")
@click.argument("elf", metavar="ELF")
@click.argument("address", required=False)
def show(elf: str, address: str | None) -> None:
    """Print the rows of ELF's table, or the one in force at ADDRESS (hexadecimal, as in the file).

    \b
    Examples:
      ptap tables show /usr/bin/ls
      ptap tables show /lib/x86_64-linux-gnu/libc.so.6 0x27280
    """
    with told_to_the_user(), progress_shown():
        from cfi_tables.cache import table_for
        from cfi_tables.image_file import open_image
        from cfi_tables.show import format_rows

        number: int | None = None
        if address is not None:
            try:
                number = int(address, 16)
            except ValueError:
                raise Failure(f"{address}: no hexadecimal address, such as 0x1139") from None
        path = _path(elf)
        table = table_for(open_image(path))
        for line in format_rows(table, number):
            click.echo(line)
        for problem in table.skipped:
            reason = problem.reason.name.lower().replace("_", " ")
            click.echo(f"ptap: left out: {path}: {problem.section}+{problem.offset:#x}: {reason}", err=True)
        if not table.skipped and table.skipped_count:
            click.echo(f"ptap: left out: {table.skipped_count} damaged entries", err=True)


@command.command("build", short_help="Write tables to a folder.")
@click.argument("elf", metavar="ELF...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="DIR", required=True, help="Where to write them; made when it is not there.")
def build(elf: tuple[str, ...], output: str) -> None:
    """Write the table of each ELF to DIR, as NAME.table.

    A file that cannot be read does not keep the others from being written; the exit status is then 2.

    \b
    Example:
      ptap tables build /usr/bin/ls /lib/x86_64-linux-gnu/libc.so.6 -o tables
    """
    with told_to_the_user(), progress_shown():
        from pathlib import Path

        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        taken: dict[str, str] = {}
        failed = 0
        for each in elf:
            name = Path(each).name + ".table"
            try:
                if name in taken:
                    raise Failure(f"{each}: {name} is that of {taken[name]} already; build it into another folder")
                with told_to_the_user():
                    image, debug = _opened(each)
                    table = _built(image, debug)
                    table.save(folder / name)
            except Failure as failure:
                failed += 1
                failure.show()
                continue
            taken[name] = each
            click.echo(f"{folder / name}: {table.row_count} rows, {len(table.data)} bytes{_skipped(table)}")
        if failed:
            sys.exit(2)


@command.command("stats", short_help="Print a table's sizes and counts.")
@click.argument("elf", metavar="ELF")
def stats(elf: str) -> None:
    """Print the size of each part of ELF's table, its rows by kind, and its size against the sections it replaces.

    \b
    Example:
      ptap tables stats libc.so.6
    """
    with told_to_the_user(), progress_shown():
        from cfi_tables.statistics import table_statistics

        image, debug = _opened(elf)
        table = _built(image, debug)
        found = table_statistics(table, image, debug)
        for name, size in found.parts.items():
            click.echo(f"{size:>10} bytes  {name}")
        click.echo(f"{found.size:>10} bytes  the whole table")
        for name, size in found.replaced.items():
            click.echo(f"{size:>10} bytes  {name}")
        if found.ratio is not None:
            click.echo(f"{found.ratio:>10.3f} of the sections' size")
        click.echo(f"{found.rows:>10} rows, {found.rules} distinct rules")
        for kind, count in sorted(found.rows_by_kind.items()):
            click.echo(f"{count:>10} rows  {kind.name}")
        click.echo(f"{found.skipped:>10} FDEs left out")
        for reason, count in _reasons(table).items():
            click.echo(f"{count:>10}   {reason}")


@command.command("verify", short_help="Compare a table with readelf's and objtool's reading of the file.")
@click.argument("elf", metavar="ELF")
@click.option("--orc-dump", metavar="FILE", help="What `objtool --dump=orc` prints for a kernel or a module.")
def verify(elf: str, orc_dump: str | None) -> None:
    """Compare ELF's table with `readelf --debug-dump=frames-interp` at every row, and one byte either side.

    What readelf's words cannot tell apart is counted. An object is first linked by ld, which readelf needs to tell its
    sections apart. ORC, of kernels and modules, is compared only with objtool's dump of it (Debian has objtool in
    linux-kbuild-VERSION): without one, what is checked is the part that .debug_frame has in the table.
    The exit status is 1 when something differs.

    \b
    Examples:
      ptap tables verify libc.so.6
      objtool --dump=orc xfs.ko > xfs.orc; ptap tables verify xfs.ko --orc-dump xfs.orc
    """
    with told_to_the_user(), progress_shown():
        from cfi_tables.verify import verify_table

        image, debug = _opened(elf)
        table = _built(image, debug)
        found = verify_table(table, image, debug, orc_dump)
        for difference in found.differences[:_SHOWN_DIFFERENCES]:
            click.echo(f"{difference.address:#x}")
            click.echo(f"  table:    {difference.table}")
            click.echo(f"  expected: {difference.expected}")
        if len(found.differences) > _SHOWN_DIFFERENCES:
            click.echo(f"... and {len(found.differences) - _SHOWN_DIFFERENCES} more")
        click.echo(f"{found.addresses} addresses of {found.fdes} FDEs compared, {len(found.differences)} differ")
        for what, count in sorted(found.not_told_apart.items()):
            click.echo(f"readelf does not tell at {count} addresses: {what}")
        for what, count in sorted(found.sources.items()):
            click.echo(f"{count} addresses: {what}")
        if found.orc_checked is False:
            click.echo("ORC itself was not checked: give what `objtool --dump=orc` prints by --orc-dump FILE")
        if table.skipped:
            click.echo(f"{len(table.skipped)} FDEs left out:")
            for reason, count in _reasons(table).items():
                click.echo(f"  {count} {reason}")
        if found.differences:
            sys.exit(1)


@command.command("diff", short_help="Print where two tables differ.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def diff(first: str, second: str) -> None:
    """Print the address ranges in which A and B say different things; each is an ELF file or a table from `build`.

    The exit status is 1 when they differ.

    \b
    Example:
      ptap tables diff prog.old prog
    """
    with told_to_the_user(), progress_shown():
        from cfi_tables.table_difference import table_differences

        count = 0
        for each in table_differences(_table_of(first), _table_of(second)):
            count += 1
            click.echo(f"{each.start:#x}-{each.end:#x}")
            click.echo(f"- {each.first}")
            click.echo(f"+ {each.second}")
        click.echo(f"{count} ranges differ", err=True)
        if count:
            sys.exit(1)


def _path(name: str) -> str:
    """The file that the user means: a path, a command or a library by its name. Raises PathNotFound."""
    from ptap.probe.program_path import find_modules

    return name if os.path.exists(name) else find_modules(name, None, ())[0]


def _opened(name: str) -> tuple[ElfImage, ElfImage | None]:
    """The image that `name` means, and its debug file where that may hold the CFI."""
    from cfi_tables.debug_file import find_debug_file
    from cfi_tables.image_file import open_image

    image = open_image(_path(name))
    return image, None if image.has(".eh_frame") else find_debug_file(image).image


def _built(image: ElfImage, debug: ElfImage | None) -> CompactTable:
    """A table that was built now: a cached one does not know which FDEs were left out."""
    from cfi_tables.table import build_table

    return build_table(image, debug)


def _table_of(name: str) -> CompactTable:
    """The table in the file that `name` means, or the one of the ELF file that it is."""
    from cfi_tables.layout import TABLE_MAGIC
    from cfi_tables.table import CompactTable

    path = _path(name)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(4) == TABLE_MAGIC.to_bytes(4, "little"):
                return CompactTable.load(path)
    return _built(*_opened(path))


def _reasons(table: CompactTable) -> dict[str, int]:
    """How many FDEs were left out for each reason."""
    from collections import Counter

    return dict(Counter(problem.reason.name.lower().replace("_", " ") for problem in table.skipped))


def _skipped(table: CompactTable) -> str:
    return f", {table.skipped_count} FDEs left out" if table.skipped_count else ""
