"""Which files are served: those that were named, and of a folder the captures in it. No request names another one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ptap.service.capture_facts import CaptureFacts, read_facts
from relay_reader.capture_kind import CaptureKind, kind_of_file

_IN_FOLDERS = (CaptureKind.CAPTURE, CaptureKind.PERF_DATA, CaptureKind.MODULE)
"""What is served of a folder; other files have to be named."""


class FileState(NamedTuple):
    """A file as it is now: another one at its path has another state."""

    path: str
    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(slots=True)
class ServedFile:
    """One of them."""

    path: str
    _facts: tuple[FileState, CaptureFacts] | None = field(default=None, repr=False)

    def state(self) -> FileState:
        """The file as it is now. Raises OSError, also for what is no regular file."""
        found = os.stat(self.path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "no regular file", self.path)
        return FileState(self.path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def known_facts(self) -> CaptureFacts | None:
        """What `facts` said last, without reading the file; None where it never did or the file has changed."""
        try:
            return self._facts[1] if self._facts is not None and self._facts[0] == self.state() else None
        except OSError:
            return None

    def facts(self) -> CaptureFacts:
        """What the file is; read once a state."""
        known = self.known_facts()
        if known is not None:
            return known
        try:
            state = self.state()
        except OSError as error:
            return CaptureFacts(problems=[f"{self.path}: {error.strerror}"])
        facts = read_facts(self.path)
        self._facts = state, facts
        return facts


def served_files(paths: Iterable[str]) -> list[ServedFile]:
    """The files that `paths` name, each once, of folders the captures in them, by name. Raises OSError."""
    found: dict[str, None] = {}
    for path in paths:
        if os.path.isdir(path):
            found.update(dict.fromkeys(_captures_in(path)))
        else:
            ServedFile(path).state()
            found[os.path.abspath(path)] = None
    return [ServedFile(path) for path in found]


def _captures_in(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        files = sorted(os.path.abspath(each.path) for each in entries if each.is_file(follow_symlinks=False))
    return [path for path in files if os.access(path, os.R_OK) and kind_of_file(path) in _IN_FOLDERS]
