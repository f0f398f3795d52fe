"""The sessions with which the kernel tests look at user stacks, and what the guest needs for them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions, start, stop
from ptap.kernel_module.session import write_session
from ptap.kernel_module.user_place import parse_user_point
from ptap_target.session_folder import DESCRIPTION, MESSAGES
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


def narrow_workload(folder: Path) -> Path:
    """The program of 32-bit code, which needs no library."""
    program = folder / "narrow_workload"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-fomit-frame-pointer", "-no-pie", "-fno-pic"]
    alone = ["-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"]
    command = ["gcc", *flags, *alone, "-Wl,--build-id", "-o", str(program), str(_HERE / "narrow_workload.c")]
    subprocess.run(command, check=True)
    return program


def write_user_sessions(
    headers: Path, vmlinux: ElfImage, system_map: str | None, workload: Path, folder: Path, ring_bytes: int
) -> None:
    """One for each way to record, one with returns of the program, one that wants some stacks, one without tables."""
    entry = f'process("{workload}").function("probed")'
    returns = [f'process("{workload}").function("{name}").return' for name in ("wide", "probed")]
    read, probed, *returned = [
        parse_user_point(text) if text.startswith("process") else parse_kernel_point(text)
        for text in (_READ, entry, *returns)
    ]
    program = [str(workload)]
    write_session(headers, vmlinux, [read, probed], RecordOptions(ring_bytes), folder / "words", system_map, program)
    write_session(
        headers, vmlinux, [read, probed, *returned], RecordOptions(ring_bytes), folder / "returns", system_map, program
    )
    when = 'user_caller("user_workload", "wide") and called_from("user_workload")'
    write_session(headers, vmlinux, [read], RecordOptions(ring_bytes), folder / "when", system_map, program, when=when)
    _write_other(folder, "frames", RecordOptions(ring_bytes, slices=Slices.FRAMES))
    _write_other(folder, "none", RecordOptions(ring_bytes, slices=Slices.NONE))
    _write_other(folder, "flat", RecordOptions(ring_bytes, slices=Slices.FLAT, flat_bytes=4096))
    _write_other(folder, "untold", RecordOptions(ring_bytes, flat_bytes=32768), tables=False)


def _write_other(folder: Path, name: str, options: RecordOptions, tables: bool = True) -> None:
    """The session `words`, with another way to record, and perhaps without tables: quicker than to make it anew."""
    shutil.copytree(folder / "words", folder / name)
    description = json.loads((folder / name / DESCRIPTION).read_text())
    content = (folder / name / MESSAGES).read_bytes()
    end = len(content) - len(stop())
    (folder / name / MESSAGES).write_bytes(content[: end - len(start(options))] + start(options) + content[end:])
    description["slices"] = options.slices.name
    for entry in description["files"].values():
        entry["table"] = entry["table"] if tables else None
    (folder / name / DESCRIPTION).write_text(json.dumps(description))
