"""The kernel of the project's own configuration, which checks itself: Debian's source, debug_kernel.config.

It is built once for a configuration and a version of the source, which takes a quarter of an hour of one processor,
and stays in the cache of the tests' kernels. `python -m kernel.debug_kernel` builds it and prints where it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from kernel.kernel_package import KernelPackage, cache_folder
from programs.debian_archive import NotInArchive

RELEASE = "debug"
CONFIGURATION = Path(__file__).with_name("debug_kernel.config")
SOURCE = "linux-source-6.1"
"""Debian's package; its archive unpacks to a folder of this name."""
_ARCHIVE = Path("/usr/src") / f"{SOURCE}.tar.xz"
_COMPILER = "gcc-12"
_PATIENCE_S = 3000


def debug_kernel() -> tuple[KernelPackage, Path, Path]:
    """(the kernel, the tree that modules are built with, vmlinux), built when it was not. Raises NotInArchive."""
    if not _ARCHIVE.exists():
        raise NotInArchive(f"{_ARCHIVE} is missing: apt install {SOURCE} flex bison bc libssl-dev libelf-dev gcc-12")
    version = subprocess.run(["dpkg-query", "-Wf${Version}", SOURCE], capture_output=True, text=True, check=True).stdout
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(CONFIGURATION.read_bytes() + version.encode()).hexdigest()[:16]
    root = folder.resolve() / f"{RELEASE}-{key}"
    with open(folder / f"{RELEASE}-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            unpacked = root.with_name(f"{root.name}.building")
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir()
            _build(unpacked)
            unpacked.rename(root)
    tree = root / SOURCE
    package = KernelPackage(
        build=f"{(tree / 'include/config/kernel.release').read_text().strip()} (Debian {version})",
        vmlinuz=tree / "arch/x86/boot/bzImage",
        modules=[],
        objtool=(str(tree / "tools/objtool/objtool"),),
        patience=_PATIENCE_S,
    )
    return package, tree, tree / "vmlinux"


def options_not_taken(tree: Path) -> list[str]:
    """Lines of the configuration that the kernel was not built with."""
    built = (tree / ".config").read_text().splitlines()
    return [line for line in CONFIGURATION.read_text().splitlines() if re.match("CONFIG_", line) and line not in built]


def _build(folder: Path) -> None:
    subprocess.run(["tar", "-xf", str(_ARCHIVE), "-C", str(folder)], check=True)
    tree = folder / SOURCE
    make = ["nice", "-n", "10", "make", "-C", str(tree), f"CC={_COMPILER}"]
    for goals in ([f"KCONFIG_ALLCONFIG={CONFIGURATION}", "allnoconfig"], ["bzImage", "vmlinux", "modules"]):
        done = subprocess.run([*make, *goals], capture_output=True, text=True)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise NotInArchive(f"{SOURCE} does not build ({' '.join(goals)}):\n{last}")


if __name__ == "__main__":
    print(debug_kernel()[1])
