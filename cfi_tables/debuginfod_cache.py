"""The cache of debuginfod's clients on this machine, as elfutils' own client keeps it (debuginfod_find_debuginfo(3)).

Owns its place, layout and cleaning: `<cache>/<build-id>/debuginfo`, an empty file for what no server had. gdb and
others use the same files. What cannot be written is not kept, and nothing else happens.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

# Files in the cache that set these, and their defaults in seconds.
_MISS_SECONDS = ("cache_miss_s", 600)
_CLEAN_INTERVAL = ("cache_clean_interval_s", 86_400)
_UNUSED_AGE = ("max_unused_age_s", 604_800)
_BUILD_ID = re.compile(r"[0-9a-f]{2,}")
_KINDS = ("debuginfo", "executable", "source", "section")


class DebuginfodCache:
    """Files by build-id under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> DebuginfodCache:
        """In DEBUGINFOD_CACHE_PATH, or where the XDG directories say."""
        chosen = environment.get("DEBUGINFOD_CACHE_PATH")
        if chosen:
            return cls(Path(chosen))
        home = Path(environment.get("HOME") or "/")
        if (home / ".debuginfod_client_cache").is_dir():  # of clients before 0.183
            return cls(home / ".debuginfod_client_cache")
        base = environment.get("XDG_CACHE_HOME")
        return cls((Path(base) if base else home / ".cache") / "debuginfod_client")

    def path(self, build_id: bytes) -> Path:
        """Where the debug file is, or would be."""
        return self.folder / build_id.hex() / "debuginfo"

    def find(self, build_id: bytes) -> Path | None:
        """The file that was fetched before; None when there is none. It counts as used now."""
        path = self.path(build_id)
        try:
            status = path.stat()
            if status.st_size == 0:
                return None
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except OSError:
            pass  # not there, or of another user: opening it tells
        return path if path.is_file() else None

    def is_known_miss(self, build_id: bytes) -> bool:
        """Whether every server was asked a short while ago, and none had it."""
        path = self.path(build_id)
        with suppress(OSError):
            status = path.stat()
            if status.st_size == 0:
                if time.time() - status.st_mtime < self._setting(*_MISS_SECONDS):
                    return True
                path.unlink()
        return False

    def note_miss(self, build_id: bytes) -> None:
        """Keep that no server has it."""
        path = self.path(build_id)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o400))

    @contextmanager
    def new_file(self, build_id: bytes) -> Iterator[Path]:
        """A file to fetch into, which becomes the cached one where nothing is raised. Raises OSError."""
        path = self.path(build_id)
        self._clean_now_and_then()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="debuginfo.", dir=path.parent)
        os.close(handle)
        try:
            yield Path(name)
            os.chmod(name, 0o400)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
                path.parent.rmdir()
            raise

    # --- cleaning

    def _setting(self, name: str, default: int) -> int:
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):
            return default

    def _clean_now_and_then(self) -> None:
        """Remove files that nobody has used for long; the file with the interval tells when that was done last."""
        name, default = _CLEAN_INTERVAL
        stamp = self.folder / name
        with suppress(OSError):
            if not stamp.exists():
                stamp.write_text(f"{default}\n")
                return
            now = time.time()
            if now - stamp.stat().st_mtime < self._setting(name, default):
                return
            os.utime(stamp)
            oldest = now - self._setting(*_UNUSED_AGE)
            for folder in self.folder.iterdir():
                if folder.is_dir() and _BUILD_ID.fullmatch(folder.name):
                    _remove_unused(folder, oldest)


def _remove_unused(folder: Path, oldest: float) -> None:
    with suppress(OSError):
        for each in folder.iterdir():
            if each.name.startswith(_KINDS) and max(each.stat().st_atime, each.stat().st_mtime) < oldest:
                each.unlink()
        folder.rmdir()  # which fails while something is in it
