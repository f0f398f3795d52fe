"""The session of the endurance test: a probe of each kind, in the kernel, a module and a program, at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.probed_module import probed_module
from kernel.user_sessions import built_workload

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.places import KernelPlace
from ptap.kernel_module.session import write_session
from ptap.kernel_module.user_place import UserPlace, parse_user_point

_HERE = Path(__file__).resolve().parent
_STATEMENT = "return innermost(value)"
INITIAL, INNERMOST = 'module("probed").function("initial_part")', 'module("probed").function("innermost")'
_POINTS = (
    'kernel.function("vfs_read")',
    'kernel.function("vfs_write").return',
    "timer.profile(997)",
    'kernel.trace("sys_enter")',
    'kernel.trace("sched:sched_switch")',
    INITIAL,
    INNERMOST,
    'module("probed").function("outer").return',
    'module("probed").function("folded").inline',
    'kernel.trace("ptap_probed_shown")',
)
WHEN = 'not caller("*_pread64")'
"""What is read by pread is not wanted."""
_OPTIONS = RecordOptions(ring_bytes=1 << 23, flat_bytes=1024)
"""Of short-lived programs, which are never told in time, little is copied."""


@dataclass(frozen=True)
class EveryKind:
    """The session's parts."""

    places: list[KernelPlace | UserPlace]
    """By probe number."""
    module: Path
    workload: Path


def write_every_kind(
    headers: Path, vmlinux: ElfImage, system_map: str | None, folder: Path, session: Path
) -> EveryKind:
    """Write the session to `session`; what else it needs is built in `folder`."""
    module, workload = probed_module(headers, folder / "probed"), built_workload(folder)
    points = [parse_kernel_point(text) for text in (*_POINTS, _statement())]
    entry = f'process("{workload}").function("probed")'
    in_program = [parse_user_point(text) for text in (entry, f"{entry}.return")]
    places = write_session(
        headers,
        vmlinux,
        [*points, *in_program],
        _OPTIONS,
        session,
        system_map,
        [str(workload)],
        ModuleFiles([module]),
        when=WHEN,
    )
    return EveryKind(places, module, workload)


def _statement() -> str:
    """That of the probed module from which another function is called."""
    lines = (_HERE / "ptap_probed.c").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if _STATEMENT in line)
    return f'module("probed").statement("outer@ptap_probed.c:{number}")'
