"""Compiled tables kept on disk, so that a module's CFI is decoded once.

Owns `$XDG_CACHE_HOME/ptap/tables` (else ~/.cache). A table's name holds the format version, the module's
build-id (else a hash of its contents) and, where a debug file was used, that it was. A damaged file is built
again and replaced; a cache that cannot be written is no error, only slower.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfi_tables.layout import FORMAT_VERSION
from cfi_tables.table import CompactTable, TableError, build_table

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage


def tables_directory() -> Path:
    """Where tables are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ptap" / "tables"


def table_path(image: ElfImage, debug: ElfImage | None = None) -> Path:
    """Where the table of `image` (with the .debug_frame of `debug`) is kept."""
    if image.build_id:
        identity = image.build_id.hex()
    else:
        contents: Any = image.data
        identity = "sha256-" + hashlib.sha256(contents).hexdigest()
    kind = "-with-debug" if debug is not None else ""
    return tables_directory() / f"v{FORMAT_VERSION}-{image.machine}-{identity}{kind}.table"


def table_for(image: ElfImage, debug: ElfImage | None = None) -> CompactTable:
    """The table of `image`, from the cache when it is there, else built and put there.

    A cached table knows only how many FDEs were left out, not which. Raises TableError and ElfError as
    `build_table` does.
    """
    path = table_path(image, debug)
    with suppress(OSError, TableError):
        table = CompactTable.load(path)
        # The name was given by whoever wrote the file; the build-id in it was checked with its checksum.
        if table.machine == image.machine and table.build_id == (image.build_id[:20] if image.build_id else None):
            table.name = image.path
            return table
    table = build_table(image, debug)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        table.save(path)
    return table
