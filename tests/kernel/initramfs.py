"""The file system that a guest boots from: busybox, Python with its standard library, kernel modules, a test's files.

It is one cpio archive ("newc"; the kernel's Documentation/driver-api/early-userspace/buffer-format.rst) after another:
the kernel unpacks them all. What every guest has is made once.
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kernel.kernel_package import KernelPackage
from programs.debian_archive import NotInArchive

_TRANSPORT = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_console",
    "virtio_blk",
)  # fmt: skip
"""What the port for results and disks need, in the order of loading; kernels with that built in have none of these."""
_NOT_NEEDED = re.compile(
    r"(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|dist-packages|config-.*|pydoc_data|"
    r"distutils|unittest|asyncio|multiprocessing|sqlite3|xml|xmlrpc|curses|dbm|wsgiref|venv|_test.*|.*\.opt-[12]\.pyc)$"
)
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod $module; done
mkdir -p /results
cd /guest
sh ./script > /results/output 2>&1
echo $? > /results/status
dmesg > /results/dmesg
tar -c -C /results . > /dev/vport0p1
poweroff -f
"""


class Archive:
    """A cpio archive as it grows."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._number = 0
        self._folders: set[str] = set()

    def add(self, path: str, content: bytes, mode: int = stat.S_IFREG | 0o755) -> None:
        """Add a file, or with S_IFLNK a link, and the folders that it lies in."""
        parent = os.path.dirname(path.strip("/"))
        if parent and parent not in self._folders:
            self._folders.add(parent)
            self.add(parent, b"", stat.S_IFDIR | 0o755)
        self._number += 1
        name = path.strip("/").encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._parts += [head.ljust(-(-len(head) // 4) * 4, b"\0"), content, bytes(-len(content) % 4)]

    def add_file(self, path: str, file: Path) -> None:
        """Add the contents of `file`."""
        self.add(path, file.read_bytes(), stat.S_IFREG | stat.S_IMODE(file.stat().st_mode))

    def finished(self) -> bytes:
        """The archive's bytes."""
        self.add("TRAILER!!!", b"", 0)
        whole = b"".join(self._parts)
        return whole.ljust(-(-len(whole) // 512) * 512, b"\0")


@cache
def base_archive() -> bytes:
    """What every guest has. Raises NotInArchive when busybox is missing."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise NotInArchive("busybox is not installed (Debian: apt install busybox-static)")
    archive = Archive()
    archive.add_file("bin/busybox", Path(busybox))
    archive.add("init", _INIT.encode())
    interpreter = Path(sys.executable).resolve()
    library = list(standard_library(Path(sysconfig.get_path("stdlib"))))
    extensions = [path for path in library if path.suffix == ".so"]
    for path in (interpreter, *library, *libraries([interpreter, *extensions])):
        archive.add_file(str(path), path)
    archive.add("bin/python3", str(interpreter).encode(), stat.S_IFLNK | 0o777)
    return archive.finished()


def libraries(programs: list[Path]) -> Iterable[Path]:
    """The shared libraries of programs, by the names that they are linked with."""
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in sorted(set(re.findall(r"(/\S+) \(0x", listed)))]


def standard_library(folder: Path) -> Iterable[Path]:
    """The files of the standard library without those parts that no guest needs."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _NOT_NEEDED.match(name))
        yield from (Path(directory, name) for name in sorted(files) if not _NOT_NEEDED.match(name))


def kernel_archive(kernel: KernelPackage) -> bytes:
    """The modules of a kernel that the lab itself needs."""
    archive = Archive()
    by_name = {re.sub(r"\.ko(\.\w+)?$", "", path.name).replace("-", "_"): path for path in kernel.modules}
    for number, name in enumerate(_TRANSPORT):
        path = by_name.get(name)
        if path is not None:
            content = path.read_bytes()
            content = lzma.decompress(content) if path.suffix == ".xz" else content
            archive.add(f"modules/{number}-{name}.ko", content)
    return archive.finished()


def test_archive(files: dict[str, Path], script: str) -> bytes:
    """A test's own files, in /guest, and the script that runs there."""
    archive = Archive()
    for name, path in files.items():
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    archive.add_file(f"guest/{name}/{file.relative_to(path)}", file)
        else:
            archive.add_file(f"guest/{name}", path)
    archive.add("guest/script", script.encode())
    return archive.finished()


test_archive.__test__ = False  # type: ignore[attr-defined]
