"""A kernel booted in QEMU, without acceleration, to run a script and give back what it wrote.

Results leave the guest through a virtio port as one tar archive; the console is kept for when there are none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kernel.initramfs import base_archive, kernel_archive, test_archive
from kernel.kernel_package import KernelPackage
from programs.debian_archive import NotInArchive

_QEMU = "qemu-system-x86_64"
_COMMAND_LINE = "console=ttyS0 panic=-1 oops=panic quiet loglevel=4 no_timer_check"
"""A machine under load gives a timer too few ticks in the time in which the kernel counts them, which then gives up."""
_ACCELERATOR = ("-accel", "tcg,thread=single")
"""One thread for all processors. With one each, QEMU before 8.1 can keep a translation of code that another processor
has changed meanwhile: a breakpoint that is long gone is hit, which the kernel takes for a probe's."""
_COMPLAINT = re.compile(
    r"BUG|WARNING|Oops|Call Trace|soft lockup|rcu.*(stall|kthread starved)|KASAN: |UBSAN: |INFO: (task|trying)|"
    r"suspicious RCU|general protection|unable to handle|hung task|kmemleak: [1-9]"
)


class GuestFailed(Exception):
    """The guest gave no results; the text ends with its console's last lines."""


@dataclass(frozen=True, slots=True)
class GuestRun:
    """What a guest has left."""

    results: Path
    """The folder with what the script has written to /results."""
    status: int
    """Of the script."""
    output: str
    console: str

    @property
    def kernel_log(self) -> str:
        """What dmesg says."""
        return (self.results / "dmesg").read_text(errors="replace")


def complaints(kernel_log: str) -> list[str]:
    """Lines of dmesg that tell of something wrong, by any of the kernel's own checks."""
    return [line for line in kernel_log.splitlines() if _COMPLAINT.search(line)]


def run_guest(
    kernel: KernelPackage,
    files: dict[str, Path],
    script: str,
    folder: Path,
    *,
    processors: int = 2,
    command_line: str = "",
    options: tuple[str, ...] = _ACCELERATOR,
    processor: str = "qemu64",
    disk: Path | None = None,
) -> GuestRun:
    """Boot `kernel` and run `script` (for busybox's sh) in /guest; `disk` is /dev/vda, what is written to it is lost.

    Raises GuestFailed and NotInArchive.
    """
    if shutil.which(_QEMU) is None:
        raise NotInArchive(f"{_QEMU} is not installed (Debian: apt install qemu-system-x86)")
    folder.mkdir(parents=True, exist_ok=True)
    initramfs, archive, console = folder / "initramfs", folder / "results.tar", folder / "console"
    initramfs.write_bytes(base_archive() + kernel_archive(kernel) + test_archive(files, script))
    command = [
        *(_QEMU, "-M", "q35", *options, "-cpu", processor, "-smp", str(processors), "-m", kernel.memory),
        *("-kernel", str(kernel.vmlinuz), "-initrd", str(initramfs), "-append", f"{_COMMAND_LINE} {command_line}"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-serial", f"file:{console}"),
        *("-device", "virtio-serial-pci", "-chardev", f"file,id=results,path={archive}"),
        *("-device", "virtserialport,chardev=results,name=results"),
    ]
    if disk is not None:
        command += ["-drive", f"file={disk},format=raw,if=virtio,snapshot=on"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=kernel.patience)
        problem = done.stderr.strip()
    except subprocess.TimeoutExpired:
        problem = f"no end after {kernel.patience} s"
    initramfs.unlink()
    said = console.read_text(errors="replace") if console.exists() else ""
    results = folder / "results"
    try:
        # tarfile's filters came in the middle of Python 3.11.
        results.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", results], check=True, capture_output=True)
        status = int((results / "status").read_text())
    except (OSError, ValueError, subprocess.CalledProcessError):
        last = "\n".join(said.splitlines()[-40:])
        raise GuestFailed(f"kernel {kernel.build} gave no results: {problem}\n{last}") from None
    return GuestRun(results, status, (results / "output").read_text(errors="replace"), said)
