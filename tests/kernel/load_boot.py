"""A boot of its own for what the module has to stand: it takes as long as all else, and goes on beside that."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kernel.damage import TABLE_AT, USER_TABLE_AT, Damage, damages, module_table_at, random_damages
from kernel.every_kind import EveryKind, write_every_kind
from kernel.guest import GuestRun, run_guest
from kernel.kernel_package import KernelPackage
from kernel.wrong_fields import wrong_fields

from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import open_image
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.session import write_session
from ptap_target.session_folder import SessionFolder
from ptap_target.space_messages import user_table
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
CHECKED_LOAD = {"reads": 2000, "reads too fast": 4000, "cycles": 10, "refused": 40, "stale": 8, "sound": 4}
"""How much guest_load.py does: reads by each of two processes, loads of the module, damaged tables that are refused,
that have the checksum of what they were, and that are sound. Less in a kernel that checks itself, which is slow."""
_PART = 4
"""Of the tables of a program and of a module a fourth of that."""
ENDURANCE_S, LONG_ENDURANCE_S = 10, 60
"""How long all kinds of probes are on at once; long where PTAP_TEST_ENDURANCE is set."""


@dataclass(frozen=True)
class Loaded:
    """A kernel with what guest_load.py has done in its boot."""

    package: KernelPackage
    load: dict[str, int]
    """How much was done."""
    damages: list[Damage]
    """Of the kernel's table, in the order in which they were sent."""
    user_damages: list[Damage]
    """Of a program's."""
    module_damages: list[Damage]
    every_kind: EveryKind
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
    workload = folder / "workload"
    subprocess.run(["gcc", *flags, "-o", str(workload), str(_HERE / "workload.c")], check=True)
    every = write_every_kind(headers, image, listed, folder, sessions / "everything")
    load = CHECKED_LOAD if "ptap-debug" in package.build else LOAD
    everything = SessionFolder.open(sessions / "everything")
    part = {kind: load[kind] // _PART for kind in ("refused", "stale", "sound")}
    module = _message(everything, "module probed")
    harm = damages(
        _message(SessionFolder.open(sessions / "counted"), "the kernel's unwind table"),
        TABLE_AT,
        1,
        **{kind: load[kind] for kind in part},
    )
    user_harm = damages(_user_table_message(everything, every.workload), USER_TABLE_AT, 2, **part)
    module_harm = damages(module, module_table_at(module), 3, **part)
    plan = {
        **load,
        "damages": [damage.as_dict() for damage in harm],
        "user damages": [damage.as_dict() for damage in user_harm],
        "module damages": [damage.as_dict() for damage in module_harm],
        "predicate damages": random_damages(_message(everything, "--when"), 4, load["sound"]),
        "fields": wrong_fields(),
        "endurance": LONG_ENDURANCE_S if os.environ.get("PTAP_TEST_ENDURANCE") else ENDURANCE_S,
    }
    told = folder / "plan.json"
    told.write_text(json.dumps(plan))
    files = {path.name: path for path in (sessions, program, told, workload, every.workload, every.module)}
    files |= {path.name: path for path in _HERE.glob("guest_*.py")}
    run = run_guest(package, files, "python3 guest_load.py /results\n", folder)
    assert run.status == 0, f"{run.output}\n{run.kernel_log[-4000:]}"
    return Loaded(package, load, harm, user_harm, module_harm, every, run)


def _message(session: SessionFolder, what: str) -> bytes:
    """The first of the session's messages that is of that."""
    return next(message.content for message in session.messages if message.what.startswith(what))


def _user_table_message(session: SessionFolder, program: Path) -> bytes:
    """That with the program's table."""
    build_id = open_image(program).build_id
    assert build_id is not None
    content = session.table_of(build_id.hex())
    assert content is not None
    return user_table(1, content)
