"""Files that `ptap report` can show, for completion: told by their first bytes, not by their names."""

from __future__ import annotations

import os
import stat

from ptap.shell_completion.candidate import Candidate
from relay_reader.capture_kind import CaptureKind, kind_of_file

_MOST_ENTRIES = 2_000
"""Of a folder with more of them none is opened: the shell lists its files then."""


def capture_files(prefix: str) -> list[Candidate] | None:
    """The captures, and the folders, whose paths begin with `prefix`; None where the shell is to list files itself."""
    folder, _, name = prefix.rpartition("/")
    base = f"{folder}/" if "/" in prefix else ""
    try:
        entries = sorted(os.listdir(os.path.expanduser(base) or "."))
    except OSError:
        return None
    if len(entries) > _MOST_ENTRIES:
        return None
    found = []
    for entry in entries:
        if entry.startswith(name) and (name or not entry.startswith(".")):
            kind = _kind(os.path.expanduser(base + entry))
            if kind == "/":
                found.append(Candidate(f"{base}{entry}/", whole=False))
            elif kind is not None:
                found.append(Candidate(base + entry, meaning=kind))
    return found or None


def _kind(path: str) -> str | None:
    """What is at `path`, `/` for a folder; None for what is no capture. Only regular files are opened."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return "/"
        if not stat.S_ISREG(mode):
            return None
        kind = kind_of_file(path)
        if kind is CaptureKind.UNKNOWN or (kind is CaptureKind.CORE and not _is_core(path)):
            return None
    except OSError:
        return None
    return str(kind.value)


def _is_core(path: str) -> bool:
    """Whether a file that begins as core files may is no other ELF file (e_type, which both byte orders have at 16)."""
    with open(path, "rb") as file:
        begin = file.read(18)
    return not begin.startswith(b"\x7fELF") or 4 in begin[16:18]
