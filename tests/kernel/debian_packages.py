"""Packages of several Debian suites: names, downloads and contents, by an apt configuration of its own.

The mirrors are those of this machine's apt; what is installed and configured is not touched.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SUITES = ("bullseye-security", "bookworm-security", "bookworm-backports", "trixie", "trixie-backports")
_LISTS_HOLD = 3600  # seconds


class NoPackage(Exception):
    """Packages cannot be had; the text says why."""


class DebianPackages:
    """apt-get and apt-cache on lists of their own, kept in `folder`. Raises NoPackage."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not _KEYRING.exists():
            raise NoPackage("Debian packages are fetched by a Debian's apt-get, which is not here")
        self._folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sources = folder / "sources.list"
        # Lists that are old name files which are gone.
        if not sources.exists() or time.time() - sources.stat().st_mtime > _LISTS_HOLD:
            plain, security = self._mirrors()
            how = f"deb [arch=amd64 signed-by={_KEYRING}]"
            lines = [f"{how} {security if suite.endswith('security') else plain} {suite} main" for suite in _SUITES]
            sources.write_text("\n".join(lines) + "\n")
            try:
                self._run("apt-get", "update", "-q")
            except NoPackage:
                sources.unlink()
                raise

    @staticmethod
    def _mirrors() -> tuple[str, str]:
        """(of Debian, of its security updates), as this machine's apt has them."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
        ).stdout.split()
        plain = [uri for uri in listed if uri.rstrip("/").endswith("/debian")]
        security = [uri for uri in listed if "debian-security" in uri]
        return (
            (plain or ["http://deb.debian.org/debian"])[0],
            (security or ["http://deb.debian.org/debian-security"])[0],
        )

    def _run(self, *command: str, folder: Path | None = None) -> str:
        state = self._folder
        options = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": state / "state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": state / "cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run([command[0], *words, *command[1:]], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise NoPackage(f"{' '.join(command)} fails: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout

    def names(self, *prefixes: str) -> set[str]:
        """The packages whose names begin so."""
        return {name for prefix in prefixes for name in self._run("apt-cache", "pkgnames", prefix).split()}

    def download(self, packages: list[str]) -> list[Path]:
        """Files of packages, for the caller to delete."""
        folder = self._folder / "packages"
        shutil.rmtree(folder)
        folder.mkdir()
        self._run("apt-get", "download", "-q", *packages, folder=folder)
        return sorted(folder.glob("*.deb"))

    def unpack(self, packages: list[str], folder: Path) -> None:
        """Download packages and lay their files under `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.download(packages):
            subprocess.run(["dpkg-deb", "-x", str(path), str(folder)], check=True)
            path.unlink()
