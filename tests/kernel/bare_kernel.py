"""A kernel of which Debian keeps no build with DWARF: its boot image has ORC, and it lists its symbols itself."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

from kernel.guest import run_guest
from kernel.kernel_package import cache_folder, kernel_package

from cfi_tables.image_file import open_image


def bare_kernel(release: str) -> tuple[Path, Path]:
    """(vmlinux, System.map) of the kernel that `kernel_package` gives: it is booted once to list its symbols.

    Nothing moves it in that boot, so the addresses are those that it was linked to. Raises NotInArchive.
    """
    package = kernel_package(release)
    folder = cache_folder() / f"{release}-bare"
    vmlinux, system_map = folder / "vmlinux", folder / "System.map"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not system_map.exists():
            open_image(package.vmlinuz).data.tofile(vmlinux)
            with tempfile.TemporaryDirectory(prefix="ptap-kernel-") as work:
                script = "cat /proc/kallsyms > /results/kallsyms\n"
                run = run_guest(package, {}, script, Path(work), command_line="nokaslr")
                system_map.write_bytes((run.results / "kallsyms").read_bytes())
    return vmlinux, system_map
