"""Names of code that traced processes make at run time, from the map that each of them keeps: /tmp/perf-PID.map.

The file is the process's word about itself, in a folder that everybody can write to. It is believed when it is a plain
file of the process's user or of root, in the process's own root folder, under its number in its own pid namespace.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from unwind.symbolize.perf_map import JitSymbol, PerfMap

_LIMIT = 1 << 28
"""Bytes of a map that are read."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class MadeCodeNames(Protocol):
    """Where the names of code that processes have made come from."""

    @property
    def problems(self) -> list[str]:
        """A line for each map that could not be used, or not whole."""

    def find(self, pid: int, address: int) -> tuple[JitSymbol, str] | None:
        """The code at `address` of process `pid`, and the path of the map that names it."""


class MapRefused(Exception):
    """A map that is there cannot be believed; the text says why."""


@dataclass(slots=True)
class _Known:
    """A map as it was when it was read last."""

    state: tuple[int, int, int] | None
    """Inode, size and time of the last change."""
    names: PerfMap | None


class JitNames:
    """The maps of live processes of one capture, each read when it is asked for and again when it has grown."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        """Path -> why a map that is there was not used."""
        self._maps: dict[int, _Known] = {}

    @property
    def problems(self) -> list[str]:
        """A line for each map that could not be used, or not whole."""
        found = list(self.refused.values())
        for known in self._maps.values():
            if known.names is not None:
                found += [f"{known.names.path}: {problem}" for problem in known.names.problems]
        return found

    def find(self, pid: int, address: int) -> tuple[JitSymbol, str] | None:
        """The code at `address` of process `pid`, and the path of the map that names it."""
        known = self._maps.setdefault(pid, _Known(None, None))
        # What was read stays when the process ends, and its files with it.
        with suppress(OSError):
            self._refresh(pid, known)
        symbol = known.names.find(address) if known.names is not None else None
        return (symbol, known.names.path) if symbol is not None and known.names is not None else None

    def content(self, pid: int) -> bytes | None:
        """The map of `pid` as it is now, None without one that can be believed."""
        try:
            file, path, user = _open_map(pid)
        except OSError:
            return None
        with os.fdopen(file, "rb") as content:
            return self._read(content, path, f"process {pid}", user)

    def _refresh(self, pid: int, known: _Known) -> None:
        """Read the map of `pid` if it is another than before. Raises OSError when there is none."""
        file, path, user = _open_map(pid)
        with os.fdopen(file, "rb") as content:
            status = os.fstat(file)
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if state == known.state:
                return
            known.state, known.names = state, None
            found = self._read(content, path, f"process {pid}", user)
            if found is not None:
                known.names = PerfMap(found, path)

    def _read(self, file: BinaryIO, path: str, whose: str, user: int) -> bytes | None:
        self.refused.pop(path, None)
        try:
            return read_map(file, path, whose, user)
        except MapRefused as refusal:
            self.refused[path] = str(refusal)
            return None


def read_map(file: BinaryIO, path: str, whose: str, user: int) -> bytes:
    """What an open map holds, which `whose` program made, run by `user`. Raises MapRefused and OSError."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise MapRefused(f"{path} of {whose} is no plain file: its names were not used")
    if status.st_uid not in (0, user):
        raise MapRefused(
            f"{path} belongs to user {status.st_uid}, {whose} to user {user}: its names were not used, "
            "as anybody may have written them"
        )
    if status.st_size > _LIMIT:
        raise MapRefused(f"{path} has more than {_LIMIT >> 20} MiB: its names were not used")
    return file.read(_LIMIT)


def _open_map(pid: int) -> tuple[int, str, int]:
    """(the open map of `pid`, its path, the process's user). Raises OSError when there is none."""
    number, user = _identity(pid)
    path = f"/tmp/perf-{number}.map"
    try:
        folder = os.open(f"/proc/{pid}/root", _FOLDER)
    except OSError:  # it has ended
        folder = os.open("/", _FOLDER)
    return open_below(folder, path), path, user


def _identity(pid: int) -> tuple[int, int]:
    """(the process's number in its own pid namespace, its effective user), our own view of it when it has ended."""
    number, user = pid, os.geteuid()
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                name, _, values = line.partition(":")
                if name == "NSpid":  # in each namespace from ours to its own
                    number = int(values.split()[-1])
                elif name == "Uid":  # real, effective, saved, file system
                    user = int(values.split()[1])
    except OSError:
        pass
    return number, user


def open_below(folder: int, path: str) -> int:
    """Open `path` below the open `folder`, which is closed; no link is followed. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        *folders, name = path.strip("/").split("/")
        for each in folders:
            inner = os.open(each, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=folder)  # a pipe is not waited for
    finally:
        os.close(folder)
