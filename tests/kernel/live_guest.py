"""A guest with the whole of ptap, in which live_scenario.py runs the command as users do.

What takes long under emulation is made here before: the module, unwind tables and the symbol index are put into the
cache that the guest gets. So nothing is compiled in it, and the disk has neither a compiler nor numba.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from kernel.disk_image import DiskImage
from kernel.guest import GuestRun, run_guest
from kernel.kernel_package import KernelPackage, debug_vmlinux, kernel_headers, kernel_package

from cfi_tables.cache import table_for, table_path, tables_directory
from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import open_image
from ptap.backend.kernel_module.running_kernel import unpacked
from ptap.kernel_module.build import built_module
from unwind.symbolize.index_cache import index_path
from unwind.symbolize.symbolizer import Symbolizer

RELEASE = "6.1"
_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE.parents[1]
_PARTS = ("cfi_tables", "relay_reader", "runtime_c", "unwind", "ptap", "ptap_target")
_OF_HEADERS = ("Makefile", ".config", "Module.symvers", "include/generated/utsrelease.h", "include/generated/compile.h")
"""What tells which kernel they are for: enough, where the module was built before."""
PROGRAMS = ("reader", "busy_reader")
_SCENARIO = ("live_scenario.py", "live_recordings.py", "guest_ptap.py")
_PROCESSOR = "Nehalem"
"""One with all that NumPy asks for."""
_SECONDS = 900
_SCRIPT = """mkdir -p /disk
mount -t ext4 /dev/vda /disk || exit 1
mount -t tracefs tracefs /sys/kernel/tracing
for each in proc sys sys/kernel/tracing dev results; do mount --bind /$each /disk/$each || exit 1; done
mount -t tmpfs tmpfs /disk/tmp
export PYTHONPATH={path} XDG_CACHE_HOME=/cache HOME=/tmp PATH=/usr/bin:/bin LC_ALL=C.UTF-8
chroot /disk {python} /guest/live_scenario.py /results
"""


def run_live(release: str, folder: Path) -> GuestRun:
    """Boot the kernel with the disk and run the scenario. Raises GuestFailed and NotInArchive."""
    package, headers, vmlinux = kernel_package(release), kernel_headers(release), debug_vmlinux(release)
    folder.mkdir(parents=True, exist_ok=True)
    programs = [_built(name, folder) for name in PROGRAMS]
    disk = DiskImage(folder / "disk")
    cache = tables_directory().parent.parent
    for file in _cached(package, headers, vmlinux, programs):
        disk.add(file, Path("/cache", file.relative_to(cache)))
    name = f"{package.build}-cloud-amd64"
    disk.add(vmlinux, f"/usr/lib/debug/boot/vmlinux-{name}")
    disk.add(package.vmlinuz, f"/boot/vmlinuz-{name}")
    for part in _OF_HEADERS:
        if (headers / part).exists():
            disk.add(headers / part, f"/lib/modules/{name}/build/{part}")
    for part in _PARTS:
        disk.add_folder(_PROJECT / part, f"/project/{part}")
    for path in (*programs, *(_HERE / name for name in _SCENARIO)):
        disk.add(path, f"/guest/{path.name}")
    python, packages = disk.add_python()
    image = folder / "disk.ext4"
    disk.write(image)
    script = _SCRIPT.format(python=python, path=f"/project:{packages}")
    try:
        return run_guest(
            *(replace(package, memory="2G", patience=_SECONDS), {}, script, folder / "guest"),
            processor=_PROCESSOR,
            disk=image,
        )
    finally:
        image.unlink()


def said(run: GuestRun, name: str) -> str:
    """What a run of ptap has said."""
    return (run.results / f"{name}.err").read_text()


def _built(name: str, folder: Path) -> Path:
    target = folder / name
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-static", "-Wl,--build-id"]
    subprocess.run(["gcc", *flags, "-o", str(target), str(_HERE / f"{name}.c")], check=True)
    return target


def _cached(package: KernelPackage, headers: Path, vmlinux: Path, programs: list[Path]) -> list[Path]:
    """Files of this machine's cache that hold what takes the guest long to make: made now, where they are not there."""
    whole = open_image(vmlinux)
    Symbolizer(whole).build_index()
    bare = unpacked(package.vmlinuz, whole.build_id)
    images = [whole, bare, *map(ElfImage.open, programs)]
    for image in images:
        table_for(image)
    return [built_module(headers), index_path(whole, None), Path(bare.path), *map(table_path, images)]
