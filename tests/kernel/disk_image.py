"""A disk for a guest: an ext4 file system of files of this machine, at the places where they are here.

The whole of ptap runs from it: Python with the packages that ptap needs, programs to be traced with their libraries,
kernel headers, vmlinux, and a cache that was filled here. Written by mke2fs, which needs no mount.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from kernel.initramfs import libraries, standard_library
from programs.debian_archive import NotInArchive

_PACKAGES = ("numpy", "numpy.libs", "click", "construct", "elftools", "pydemumble", "zstandard")
"""Of Python's packages, those that a run needs which compiles nothing."""
_PACKAGES_PLACE = Path("/packages")
"""Where they are in the guest: their own place may be below /tmp, which is another file system there."""
_LINKED = ("bin", "sbin", "lib", "lib64")
"""Folders of the root that may be links into /usr."""
_LEFT_OUT = re.compile(r"(tests?|.*\.pyi|.*\.a)$")


class DiskImage:
    """The files of a disk as they are gathered, in a folder on the file system where they mostly are."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        for name in _LINKED:
            if Path("/", name).is_symlink():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(os.readlink(f"/{name}"))
        for name in ("proc", "sys", "dev", "tmp", "results"):
            (folder / name).mkdir(parents=True)

    def add(self, file: Path, place: str | Path | None = None) -> None:
        """Add a file's contents, at its own place or another."""
        target = self._at(place or file)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.resolve(), target)
            except OSError:  # another file system
                shutil.copy2(file.resolve(), target)

    def _at(self, place: str | Path) -> Path:
        """Where in the folder a place of the guest is: links of the root are followed."""
        parent = os.path.realpath(os.path.dirname(place))
        return self._root / parent.lstrip("/") / os.path.basename(place)

    def add_folder(self, folder: Path, place: str | Path | None = None) -> None:
        """Add what is in a folder and below it."""
        for directory, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not _LEFT_OUT.match(name)]
            for name in files:
                file = Path(directory, name)
                if not _LEFT_OUT.match(name) and file.exists():
                    self.add(file, Path(place or folder, file.relative_to(folder)))

    def add_programs(self, programs: Iterable[Path]) -> None:
        """Add programs with the libraries that they are linked with."""
        wanted = list(programs)
        for path in (*wanted, *libraries(wanted)):
            self.add(path)

    def add_python(self) -> tuple[Path, Path]:
        """Add the interpreter with ptap's packages; the places of both."""
        interpreter = Path(sys.executable).resolve()
        library = Path(sysconfig.get_path("stdlib")).resolve()
        files = list(standard_library(library))
        for file in files:
            self.add(file)
        packages = Path(sysconfig.get_path("purelib"))
        for name in _PACKAGES:
            if (packages / name).is_dir():
                self.add_folder(packages / name, _PACKAGES_PLACE / name)
                files += (packages / name).rglob("*.so")
        self.add_programs([interpreter, *(file for file in files if file.suffix == ".so")])
        for file in packages.glob("*.py"):
            self.add(file, _PACKAGES_PLACE / file.name)
        return interpreter, _PACKAGES_PLACE

    def write(self, target: Path) -> None:
        """Make the file system. Raises NotInArchive when mke2fs is missing."""
        mke2fs = shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if mke2fs is None:
            raise NotInArchive("mke2fs is not installed (Debian: apt install e2fsprogs)")
        used = int(
            subprocess.run(["du", "-sk", self._root], capture_output=True, text=True, check=True).stdout.split()[0]
        )
        options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0"]
        size = f"{used * 5 // 4 + (128 << 10)}k"
        subprocess.run([mke2fs, *options, "-d", str(self._root), str(target), size], check=True, capture_output=True)
