"""Where the machine code of hot loops is kept: one directory for each state of the sources and each kind of machine.

numba's own cache does not notice a change in a function that was imported from another file, so the directory's name
hashes the sources of all packages that hold hot loops, with what else decides about the code: the versions of Python
and NumPy's readers of it, the processor, and whether bounds are checked.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_PACKAGES = ("cfi_tables", "relay_reader", "unwind", "ptap/profile")
_KEPT_VERSIONS = 4
_PROCESSOR_TEXT = 4096


@cache
def compiled_cache_directory() -> Path | None:
    """The directory of this state and machine, made if it is not there.

    None where it cannot be written, or where it belongs to somebody else, whose code is not to be run as this user:
    then every process compiles what it needs.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "ptap" / "compiled" / _key()
    try:
        directory.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return None
    else:
        _remove_all_but_newest(directory.parent)
    return directory if _is_ours(directory) else None


@cache
def kept_loops() -> frozenset[str]:
    """The qualified names of the hot loops whose code was kept when this was first asked."""
    directory = compiled_cache_directory()
    if directory is None:
        return frozenset()
    return frozenset(each.name.rpartition("-")[0] for each in directory.iterdir() if each.suffix == ".so")


def _is_ours(directory: Path) -> bool:
    """Whether this user alone may write there."""
    try:
        status = directory.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022 and os.access(directory, os.W_OK)


def _key() -> str:
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for source in sorted(_sources(f"{root}/{package}")):
            with open(source, "rb", buffering=0) as file:
                digest.update(file.readall())
    for part in (os.environ.get("NUMBA_BOUNDSCHECK", ""), sys.version, platform.machine(), _processor()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def _sources(folder: str) -> Iterator[str]:
    """The Python files in a folder and those in it, as text: path objects would take most of the time of a start."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry.path
            elif entry.is_dir() and not entry.name.startswith((".", "__")):
                yield from _sources(entry.path)


def _processor() -> str:
    """What the kernel says of the first processor and what it can do: code is made for it (proc(5))."""
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            lines = file.read(_PROCESSOR_TEXT).decode("ascii", "replace").splitlines()
    except OSError:
        return ""
    # Frequencies and the like differ from one moment to the next.
    wanted = ("vendor_id", "model name", "flags", "Features", "CPU part", "CPU implementer")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _remove_all_but_newest(base: Path) -> None:
    """Keep the compiled code of the few versions that were begun last; a removed one is compiled again."""
    with suppress(OSError):
        by_age = sorted(base.iterdir(), key=lambda each: each.stat().st_mtime)
        for old in by_age[:-_KEPT_VERSIONS]:
            shutil.rmtree(old, ignore_errors=True)
