"""What dpkg and apt have said of files and packages, kept from one run to the next while their databases are the same.

Owns `$XDG_CACHE_HOME/ptap/packages.json`. An answer of theirs follows from their databases alone, and to ask takes a
second where apt keeps no cache of its own: the answers are kept with the identity of the databases that they were given
by, and with any other are none. Whoever reads a database from elsewhere (the environment says so) keeps nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from cfi_tables.cache import tables_directory
from cfi_tables.kept_json import encoded, read_kept, write_whole

if TYPE_CHECKING:
    from pathlib import Path

_DATABASES = (
    "/var/lib/dpkg/status", "/var/lib/dpkg/diversions", "/var/lib/apt/lists",
    "/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/apt.conf", "/etc/apt/apt.conf.d",
)  # fmt: skip
"""What tells a database from one that has changed: dpkg and apt replace these files, or what is in these folders."""
_ELSEWHERE = ("DPKG_ROOT", "DPKG_ADMINDIR", "APT_CONFIG")
_MOST = 4096
"""Answers of a file; with more it is begun anew."""


@dataclass(slots=True)
class PackageAnswers:
    """The answers that are known. What they were asked and had no answer to is None."""

    owners: dict[str, str | None] = field(default_factory=dict)
    """By path, as dpkg spells it: the package that it is of."""
    debug: dict[str, str | None] = field(default_factory=dict)
    """By package: that of its debugging information."""
    databases: str | None = None
    """The identity of what gave them; None where they are not to be kept."""

    def keep(self) -> None:
        """Have the next run know them too. That the file cannot be written is no error."""
        if self.databases is None:
            return
        if len(self.owners) + len(self.debug) > _MOST:
            self.owners, self.debug = {}, {}
        path = _path()
        text = encoded({"databases": self.databases, "owners": self.owners, "debug": self.debug})
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)


def known_answers() -> PackageAnswers:
    """Those that hold now; a process that cannot keep them has them for itself."""
    return _loaded(_identity())


@lru_cache(maxsize=1)
def _loaded(databases: str | None) -> PackageAnswers:
    told = read_kept(_path()) if databases is not None else None
    if isinstance(told, dict) and told.get("databases") == databases:
        with suppress(KeyError, TypeError, ValueError):
            return PackageAnswers(dict(told["owners"]), dict(told["debug"]), databases)
    return PackageAnswers(databases=databases)


def _path() -> Path:
    return tables_directory().parent / "packages.json"


def _identity() -> str | None:
    """Of the databases as they are now: it changes with each installed package and with each list that apt fetches."""
    if any(name in os.environ for name in _ELSEWHERE):
        return None
    found = []
    for path in _DATABASES:
        try:
            status = os.stat(path)
        except OSError:
            found.append("-")
        else:
            found.append(f"{status.st_ino} {status.st_size} {status.st_mtime_ns}")
    return "; ".join(found)
