"""Who could give the debugging information of a file: the package manager of this machine, or a debuginfod server.

Owns the questions to dpkg and apt, which answer from their files here; nobody is asked over a network. What they do not
know is not said.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from unwind.symbolize.package_answers import known_answers

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


def debug_package(path: str) -> DebugPackage | None:
    """The package of the file at `path` and that of its debugging information; None where none owns the file."""
    return debug_packages((path,))[path]


def debug_packages(paths: Iterable[str]) -> dict[str, DebugPackage | None]:
    """The same of several files, for which dpkg and apt are asked once, if they have not been since they changed.

    Of a file that is not on this machine they are not asked: one of that name may be of another package elsewhere.
    """
    found: dict[str, DebugPackage | None] = dict.fromkeys(paths)
    here = {path: _spellings(path) for path in found if path.startswith("/") and os.path.exists(path)}
    if not here or shutil.which("dpkg-query") is None:
        return found
    answers = known_answers()
    unknown = [each for spellings in here.values() for each in spellings if each not in answers.owners]
    answers.owners |= _owners(unknown)
    packages = {
        path: package
        for path, spellings in here.items()
        if (package := next(filter(None, map(answers.owners.get, spellings)), None)) is not None
    }
    unasked = [package for package in dict.fromkeys(packages.values()) if package not in answers.debug]
    answers.debug |= _debug_packages(unasked)
    if unknown or unasked:
        answers.keep()
    return found | {path: DebugPackage(package, answers.debug.get(package)) for path, package in packages.items()}


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
    spellings = (path, real, path.removeprefix("/usr"), real.removeprefix("/usr"))
    return [each for each in dict.fromkeys(spellings) if each.startswith("/")]


def _owners(paths: Collection[str]) -> dict[str, str | None]:
    """The package of each path, {} where dpkg does not answer."""
    patterns = [re.sub(r"[*?[\\]", r"\\\g<0>", path) for path in dict.fromkeys(paths)]
    told = _output("dpkg-query", "--search", *patterns) if patterns else None
    if told is None:
        return {}
    owners: dict[str, str | None] = dict.fromkeys(paths)
    for line in told.splitlines():
        names, colon, found = line.rpartition(": ")
        if colon and found in owners and not names.startswith(("diversion by ", "local diversion ")):
            owners[found] = names.split(", ")[0].partition(":")[0]
    return owners


def _debug_packages(packages: Collection[str]) -> dict[str, str | None]:
    """Of each package that of its debugging information, {} where dpkg or apt do not answer."""
    if not packages:
        return {}
    sources = _output("dpkg-query", "--show", r"--showformat=${Package} ${source:Package}\n", *packages)
    known = _output("apt-cache", "pkgnames")
    if sources is None or known is None:
        return {}
    names, found = frozenset(known.split()), dict.fromkeys(packages, "")
    found |= dict(line.split(" ", 1) for line in sources.splitlines())
    wanted = {name: (f"{name}-dbgsym", f"{name}-dbg", f"{source}-dbg") for name, source in found.items()}
    return {name: next((each for each in wanted[name] if each in names), None) for name in packages}


def _output(*command: str) -> str | None:
    """What a command says, also where it has not found all that it was asked for; None where it has failed."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_SECONDS,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode in (0, 1) else None
