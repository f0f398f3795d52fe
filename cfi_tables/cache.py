"""Compiled tables kept on disk, so that a module's CFI is decoded once.

Owns `$XDG_CACHE_HOME/ptap/tables` (else ~/.cache), in which symbol indices are kept too. A file's name holds the format
version, the module's build-id (else a hash of its contents) and, where a debug file was used, that it was. A damaged
file, or one of an older format, is built again and replaced; a cache that cannot be written is no error, only slower.

The files together stay below a limit: whoever adds one removes those that were used longest ago. A file's
modification time says when it was last used. Any number of processes may do this at once without a lock: a file
appears whole under its name or not at all, and one that is removed stays readable where it is mapped.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfi_tables.layout import FORMAT_VERSION

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.table import CompactTable

_ET_REL = 1  # elf_image is not imported where only a name is asked for
SIZE_LIMIT = 512 << 20
"""Bytes of all tables together; PTAP_CACHE_LIMIT in the environment sets another one, in MiB."""
_EVICT_TO = 0.9  # of the limit, so that not every new table has to look for others to remove
_TOUCH_AFTER = 60.0  # seconds: how exactly the time of the last use is kept
_ABANDONED_AFTER = 3600.0  # seconds after which a half-written file belongs to no living process

_NAME = re.compile(r"v(\d+)-(\d+)-(sha256-)?([0-9a-f]+)(-with-debug|-whole)?\.(table|symbols|frames)")


@dataclass(frozen=True, slots=True)
class CachedTable:
    """One file of the cache, by its name and status alone: its contents are not looked at."""

    path: Path
    format_version: int
    machine: int
    """EM_*."""
    identity: str
    """The module's build-id, or `sha256-` and a hash of its contents."""
    with_debug: bool
    """Whether a debug file was used."""
    size: int
    """Bytes."""
    last_used: float
    """Seconds since the epoch."""
    suffix: str = "table"
    """What the file holds: `table`, `symbols` for a symbol index, `frames` for those of single addresses."""

    @property
    def is_old(self) -> bool:
        """Whether it is a table of another format, which nobody reads."""
        return self.suffix == "table" and self.format_version != FORMAT_VERSION


def tables_directory() -> Path:
    """Where tables are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ptap" / "tables"


def size_limit() -> int:
    """How many bytes all tables may have together. Raises TableError where the environment sets no number."""
    text = os.environ.get("PTAP_CACHE_LIMIT")
    if text is None:
        return SIZE_LIMIT
    if not re.fullmatch(r"\d{1,9}", text):
        from cfi_tables.table_check import TableError

        raise TableError(f"PTAP_CACHE_LIMIT is {text!r}, no number; give it in MiB, such as 512")
    return int(text) << 20


def table_path(image: ElfImage, debug: ElfImage | None = None) -> Path:
    """Where the table of `image` (with the .debug_frame of `debug`) is kept."""
    return cached_path(image, debug, FORMAT_VERSION, "table")


def cached_path(image: ElfImage, debug: ElfImage | None, version: int, suffix: str) -> Path:
    """Where what is made of `image` (and of `debug`), in format `version`, is kept.

    A stripped file has the build-id of the whole one and says less; an object's addresses are those of its own layout.
    """
    if image.build_id and image.file_type != _ET_REL:
        identity = image.build_id.hex()
    else:
        contents: Any = image.data
        identity = "sha256-" + hashlib.sha256(contents).hexdigest()
    kind = "-with-debug" if debug is not None else "-whole" if image.has(".debug_info") else ""
    return tables_directory() / f"v{version}-{image.machine}-{identity}{kind}.{suffix}"


def table_for(image: ElfImage, debug: ElfImage | None = None) -> CompactTable:
    """The table of `image`, from the cache when it is there, else built and put there.

    A cached table knows only how many FDEs were left out, not which. Raises TableError and ElfError as
    `build_table` does.
    """
    # Not above: whoever keeps symbol indices here does without.
    from cfi_tables.table import CompactTable, TableError, build_table

    path = table_path(image, debug)
    with suppress(OSError, TableError):
        table = CompactTable.load(path)
        # The name was given by whoever wrote the file; the build-id in it was checked with its checksum.
        if table.machine == image.machine and table.build_id == (image.build_id[:20] if image.build_id else None):
            table.name = image.path
            note_use(path)
            return table
    table = build_table(image, debug)
    keep(path, len(table.data), table.save)
    return table


def keep(path: Path, size: int, save: Callable[[Path], None]) -> None:
    """Have `save` write a file of `size` bytes to `path` of the cache, if it may be so large and can be written."""
    limit = size_limit()
    if size <= limit:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path)
            evict(limit, keep=path)


def note_use(path: Path) -> None:
    """Note that a file of the cache was used, so that others are removed before it."""
    with suppress(OSError):  # removed since, or not ours
        if time.time() - path.stat().st_mtime > _TOUCH_AFTER:
            os.utime(path)


def cached_tables() -> list[CachedTable]:
    """The files of the cache, the one used last first; files that no table has the name of are not listed."""
    found = []
    for path in _files():
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        with suppress(OSError):  # removed by another process since
            status = path.stat()
            found.append(
                CachedTable(
                    path=path,
                    format_version=int(match[1]),
                    machine=int(match[2]),
                    identity=(match[3] or "") + match[4],
                    with_debug=match[5] is not None,
                    size=status.st_size,
                    last_used=status.st_mtime,
                    suffix=match[6],
                )
            )
    return sorted(found, key=lambda each: -each.last_used)


def _files() -> list[Path]:
    try:
        return list(tables_directory().iterdir())
    except OSError:
        return []


def evict(limit: int, keep: Path | None = None) -> int:
    """Where the tables have more than `limit` bytes, remove those used longest ago; gives how many bytes went.

    Tables of other formats go first. `keep` is the one that was just made. Half-written files that nobody will
    finish go with them. Never raises: what cannot be removed stays.
    """
    if _size_of_all() <= limit:
        return 0
    tables = cached_tables()
    size = sum(table.size for table in tables)
    removed = 0
    _remove_abandoned()
    for table in sorted(tables, key=lambda each: (not each.is_old, each.last_used)):
        if size - removed <= limit * _EVICT_TO:
            break
        if table.path != keep and _remove(table.path):
            removed += table.size
    return removed


def _size_of_all() -> int:
    """Bytes of all files in the folder: looked at after each table, so without a closer look at any."""
    size = 0
    with suppress(OSError), os.scandir(tables_directory()) as entries:
        for entry in entries:
            with suppress(OSError):  # removed since
                size += entry.stat().st_size
    return size


def clear() -> tuple[int, int]:
    """Remove every table, half-written ones too; gives (tables, bytes) removed. Raises OSError."""
    count = size = 0
    for table in cached_tables():
        with suppress(FileNotFoundError):  # another process was quicker
            table.path.unlink()
            count += 1
            size += table.size
    _remove_abandoned()
    return count, size


def _remove_abandoned() -> None:
    """Half-written files of processes that were killed."""
    for path in _files():
        with suppress(OSError):
            if path.name.startswith(".v") and time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()


def _remove(path: Path) -> bool:
    with suppress(OSError):
        path.unlink()
        return True
    return False
