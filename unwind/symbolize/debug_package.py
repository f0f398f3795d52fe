"""Who could give the debugging information of a file: the package manager of this machine, or a debuginfod server.

Owns the questions to dpkg and apt, which answer from their files here; nobody is asked over a network. What they do not
know is not said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_SECONDS = 10
_ARCHIVE = "https://wiki.debian.org/HowToGetABacktrace"
# Servers that distributions run for their packages, by ID or ID_LIKE of os-release.
_SERVERS = {
    "debian": "https://debuginfod.debian.net", "ubuntu": "https://debuginfod.ubuntu.com",
    "fedora": "https://debuginfod.fedoraproject.org", "arch": "https://debuginfod.archlinux.org",
    "opensuse": "https://debuginfod.opensuse.org",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DebugPackage:
    """What the package manager knows of a file."""

    package: str
    """The package that the file is of."""
    debug: str | None
    """The package with its debugging information; None where this machine knows of none."""

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.debug is not None:
            return f"install {self.debug} (apt install {self.debug})"
        return f"install {self.package}-dbgsym, which is in the archive of debug packages if there is one ({_ARCHIVE})"


@lru_cache(maxsize=256)
def debug_package(path: str) -> DebugPackage | None:
    """The package of the file at `path` and that of its debugging information; None where none owns the file."""
    if not path.startswith("/") or shutil.which("dpkg-query") is None:
        return None
    package = next(filter(None, map(_owner, _spellings(path))), None)
    if package is None:
        return None
    source = _output("dpkg-query", "--show", "--showformat=${source:Package}", package).strip()
    wanted = (f"{package}-dbgsym", f"{package}-dbg", f"{source}-dbg")
    return DebugPackage(package, next((name for name in wanted if name in _known_packages()), None))


@lru_cache(maxsize=1)
def _known_packages() -> frozenset[str]:
    """Every package that apt knows of; it is asked once, since it may have to build its cache to answer."""
    return frozenset(_output("apt-cache", "pkgnames").split())


def public_server() -> str | None:
    """The debuginfod server of the distribution that runs here; None where none is known."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return None
    fields = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    names = [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
    return next((_SERVERS[name] for name in names if name in _SERVERS), None)


def _spellings(path: str) -> list[str]:
    """dpkg knows a file by the path in its package, which may lack the /usr where it lies (merged /usr)."""
    real = os.path.realpath(path)
    return list(dict.fromkeys((path, real, path.removeprefix("/usr"), real.removeprefix("/usr"))))


def _owner(path: str) -> str | None:
    for line in _output("dpkg-query", "--search", path.replace("[", "\\[")).splitlines():
        names, colon, found = line.rpartition(": ")
        if colon and found == path and not names.startswith("diversion by "):
            return names.split(", ")[0].partition(":")[0]
    return None


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, env=os.environ | {"LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout
