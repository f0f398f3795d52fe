"""A boot of its own for what the module has to stand: it takes as long as all else, and goes on beside that."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kernel.damage import Damage, damages
from kernel.guest import GuestRun, run_guest
from kernel.kernel_package import KernelPackage

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.session import write_session
from ptap_target.session_folder import SessionFolder
from relay_reader.record_layout import Slices

_HERE = Path(__file__).resolve().parent
_POINTS = {
    "stacks": ('kernel.function("vfs_read")', 'kernel.function("vfs_write").return'),
    "counted": ('kernel.function("vfs_read")',),
    "small": ('kernel.function("vfs_read")',),
}
"""Session -> what it probes."""
_OPTIONS = {
    "stacks": RecordOptions(),
    "counted": RecordOptions(ring_bytes=8 << 20, slices=Slices.NONE, user=False),
    "small": RecordOptions(ring_bytes=1 << 18, user=False),
}
LOAD = {"reads": 60_000, "reads too fast": 60_000, "cycles": 200, "refused": 300, "stale": 60, "sound": 25}
CHECKED_LOAD = {"reads": 4000, "reads too fast": 4000, "cycles": 20, "refused": 60, "stale": 10, "sound": 5}
"""How much guest_load.py does: reads by each of two processes, loads of the module, damaged tables that are refused,
that have the checksum of what they were, and that are sound. Less in a kernel that checks itself, which is slow."""


@dataclass(frozen=True)
class Loaded:
    """A kernel with what guest_load.py has done in its boot."""

    package: KernelPackage
    load: dict[str, int]
    """How much was done."""
    damages: list[Damage]
    """Of the kernel's table, in the order in which they were sent."""
    run: GuestRun

    @cached_property
    def seen(self) -> dict[str, Any]:
        """What was noted."""
        found: dict[str, Any] = json.loads((self.run.results / "load.json").read_text())
        return found


def boot_for_load(package: KernelPackage, headers: Path, image: ElfImage, listed: str | None, folder: Path) -> Loaded:
    """Boot `package`, whose vmlinux `image` is, for the load. Raises NotInArchive and GuestFailed."""
    sessions = folder / "sessions"
    for name, texts in _POINTS.items():
        points = [parse_kernel_point(text) for text in texts]
        write_session(headers, image, points, _OPTIONS[name], sessions / name, listed)
    program = folder / "counted_reads"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-static"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(_HERE / "counted_reads.c")], check=True)
    load = CHECKED_LOAD if "ptap-debug" in package.build else LOAD
    harm = _damages(sessions / "counted", load)
    plan = folder / "plan.json"
    plan.write_text(json.dumps({**load, "damages": [damage.as_dict() for damage in harm]}))
    files = {path.name: path for path in (sessions, program, plan, _HERE / "guest_load.py")}
    run = run_guest(package, files, "python3 guest_load.py /results\n", folder)
    assert run.status == 0, f"{run.output}\n{run.kernel_log[-4000:]}"
    return Loaded(package, load, harm, run)


def _damages(folder: Path, load: dict[str, int]) -> list[Damage]:
    """Damaged copies of the session's table."""
    messages = SessionFolder.open(folder).messages
    table = next(message for message in messages if message.what == "the kernel's unwind table")
    return damages(table.content, seed=1, **{kind: load[kind] for kind in ("refused", "stale", "sound")})
