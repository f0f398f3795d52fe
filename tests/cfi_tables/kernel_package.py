"""A Debian kernel image package and the objtool that belongs to it, downloaded and unpacked once a test run."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class NoKernelPackage(Exception):
    """The package cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class KernelPackage:
    """Paths into the unpacked packages."""

    vmlinuz: Path
    modules: list[Path]
    """Sorted; .ko or compressed."""
    objtool: Path


def kernel_package(folder: Path) -> KernelPackage:
    """The newest cloud kernel that apt offers (27 MB, the smallest), unpacked in `folder`. Raises NoKernelPackage."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoKernelPackage("kernel packages are fetched by apt-get and dpkg-deb, which are not here")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share it
        root = folder / "root"
        if not root.exists():
            _download(folder)
    vmlinuz = next(root.glob("boot/vmlinuz-*"), None)
    objtools = [path for path in root.glob("usr/lib/linux-kbuild-*/tools/objtool/objtool*") if path.is_file()]
    # Newer packages have one for each architecture behind a script.
    objtool = next((path for path in objtools if path.name.endswith("x86")), None) or next(iter(objtools), None)
    if vmlinuz is None or objtool is None:
        raise NoKernelPackage("the kernel packages hold no vmlinuz or no objtool")
    return KernelPackage(vmlinuz, sorted(root.glob("**/kernel/**/*.ko*")), objtool)


def _download(folder: Path) -> None:
    image = _first_dependency("linux-image-cloud-amd64", r"linux-image-[0-9]\S*")
    version = re.match(r"linux-image-(\d+\.\d+)", image)
    assert version is not None
    unpacked = folder / "unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in (image, f"linux-kbuild-{version[1]}"):
        done = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise NoKernelPackage(f"{package} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
    for path in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(path), str(unpacked)], check=True)
    unpacked.rename(folder / "root")


def _first_dependency(package: str, pattern: str) -> str:
    listed = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True).stdout
    found = re.search(rf"Depends: ({pattern})", listed)
    if found is None:
        raise NoKernelPackage(f"apt knows no {package}: run apt-get update, or this is no Debian for amd64")
    return found[1]
