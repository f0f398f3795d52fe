"""`ptap cache`: the unwind tables and symbol indices that are kept between runs."""

from __future__ import annotations

import time

import click

from ptap.cli.failure import told_to_the_user


@click.group("cache", short_help="List or clear the tables and symbol indices kept between runs.")
def command() -> None:
    """Unwind tables and symbol indices are kept under $XDG_CACHE_HOME/ptap/tables (else ~/.cache), to be built once.

    Together they stay below 512 MiB, or PTAP_CACHE_LIMIT MiB: those used longest ago are removed.

    \b
    Examples:
      ptap cache list
      ptap cache clear
    """


@command.command("list", short_help="List the tables, the one used last first.")
def list_tables() -> None:
    """Print a line for each table: its size, when it was last used, the architecture and the module's build-id.

    \b
    Example:
      ptap cache list
    """
    with told_to_the_user():
        from cfi_tables.architecture import architecture_of
        from cfi_tables.cache import cached_tables, size_limit, tables_directory

        limit = size_limit()
        tables = cached_tables()
        for table in tables:
            architecture = architecture_of(table.machine)
            words = [
                f"{table.size:>10}",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(table.last_used)),
                f"{architecture.name if architecture else table.machine:<8}",
                table.identity,
            ]
            if table.with_debug:
                words.append("with debug file")
            if table.suffix != "table":
                words.append(table.suffix)
            if table.is_old:
                words.append(f"format {table.format_version}, not used any more")
            click.echo("  ".join(words))
        total = sum(table.size for table in tables)
        click.echo(
            f"{len(tables)} tables, {total / (1 << 20):.1f} of {limit >> 20} MiB, in {tables_directory()}", err=True
        )


@command.command("clear", short_help="Remove all tables; they are built again when needed.")
def clear() -> None:
    """Remove all tables. Running commands go on with those that they have.

    \b
    Example:
      ptap cache clear
    """
    with told_to_the_user():
        from cfi_tables import cache

        count, size = cache.clear()
        click.echo(f"removed {count} tables, {size / (1 << 20):.1f} MiB", err=True)
