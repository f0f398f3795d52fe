"""Packages and sources of Debian's archive, fetched by an apt configuration that is this module's own.

The mirrors are those of this machine's apt; what is installed and configured here is neither read further nor changed.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LISTS_HOLD = 3600  # seconds


class NotInArchive(Exception):
    """Something cannot be had from Debian's archive; the text says why."""


class DebianArchive:
    """apt-get and apt-cache on lists of their own, which stay in `folder`."""

    def __init__(self, folder: Path, suites: Sequence[str], sources: bool = False) -> None:
        """Lists of `suites`: of packages, or of the sources of packages. Raises NotInArchive."""
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not KEYRING.exists():
            raise NotInArchive("packages are fetched by a Debian's apt-get, which is not here")
        self._folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        kept = folder / "sources.list"
        # Lists that are old name files which are gone.
        if not kept.exists() or time.time() - kept.stat().st_mtime > _LISTS_HOLD:
            plain, security = self._mirrors()
            how = f"deb-src [signed-by={KEYRING}]" if sources else f"deb [arch=amd64 signed-by={KEYRING}]"
            lines = [f"{how} {security if suite.endswith('security') else plain} {suite} main" for suite in suites]
            kept.write_text("\n".join(lines) + "\n")
            try:
                self._run("apt-get", "update", "-q")
            except NotInArchive:
                kept.unlink()
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
            raise NotInArchive(f"{' '.join(command)} fails: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout

    def names(self, *prefixes: str) -> set[str]:
        """The packages whose names begin so."""
        return {name for prefix in prefixes for name in self._run("apt-cache", "pkgnames", prefix).split()}

    def download(self, packages: list[str]) -> list[Path]:
        """Files of packages, for the caller to delete."""
        folder = self._emptied()
        self._run("apt-get", "download", "-q", *packages, folder=folder)
        return sorted(folder.glob("*.deb"))

    def unpack(self, packages: list[str], folder: Path) -> None:
        """Download packages and lay their files under `folder`."""
        for path in self.download(packages):
            subprocess.run(["dpkg-deb", "-x", str(path), str(folder)], check=True)
            path.unlink()

    def upstream_archive(self, package: str) -> Path:
        """The tar file of a source package as its authors released it, checked by apt, for the caller to delete."""
        folder = self._emptied()
        self._run("apt-get", "source", "-q", "--download-only", package, folder=folder)
        found = next(iter(folder.glob("*.orig.tar.*")), None)
        if found is None:
            raise NotInArchive(f"the source package {package} has no tar file of its authors'")
        return found

    def _emptied(self) -> Path:
        folder = self._folder / "packages"
        shutil.rmtree(folder)
        folder.mkdir()
        return folder
