"""The sessions with which the kernel tests look at user stacks, and what the guest needs for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.session import write_session
from ptap.kernel_module.user_place import parse_user_point
from relay_reader.record_layout import Slices

_HERE = Path(__file__).resolve().parent
_READ = 'kernel.function("vfs_read")'


def built_workload(folder: Path) -> Path:
    """The program, at fixed addresses, so that one run's are another's."""
    program = folder / "user_workload"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-fomit-frame-pointer", "-no-pie"]
    command = ["gcc", *flags, "-Wl,--build-id", "-o", str(program), str(_HERE / "user_workload.c")]
    subprocess.run(command, check=True)
    return program


def write_user_sessions(
    headers: Path, vmlinux: ElfImage, system_map: str | None, workload: Path, folder: Path
) -> None:
    """One session for each way to record, and one whose program is known only afterwards."""
    entry = f'process("{workload}").function("probed")'
    returns = [f'process("{workload}").function("{name}").return' for name in ("wide", "probed")]
    sessions = {
        "words": ([_READ, entry], RecordOptions(), [str(workload)]),
        "returns": ([_READ, entry, *returns], RecordOptions(), [str(workload)]),
        "untold": ([_READ], RecordOptions(flat_bytes=32768), []),
        "frames": ([_READ], RecordOptions(slices=Slices.FRAMES), [str(workload)]),
        "flat": ([_READ], RecordOptions(slices=Slices.FLAT, flat_bytes=4096), [str(workload)]),
        "none": ([_READ], RecordOptions(slices=Slices.NONE), [str(workload)]),
    }
    for name, (texts, options, programs) in sessions.items():
        points = [
            parse_user_point(text) if text.startswith("process") else parse_kernel_point(text) for text in texts
        ]
        write_session(headers, vmlinux, points, options, folder / name, system_map, programs)
