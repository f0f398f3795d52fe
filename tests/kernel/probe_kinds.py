"""The session in which there is a probe of each kind, those in a module before it is loaded."""

from __future__ import annotations

from pathlib import Path

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.places import KernelPlace
from ptap.kernel_module.resolve import KernelResolver
from ptap.kernel_module.session import write_session

_POINTS = (
    "timer.profile(97)",
    'kernel.trace("sys_enter")',
    'kernel.trace("sched:sched_switch")',
    'kernel.function("schedule_timeout_uninterruptible")',
    'kernel.function("pipe_re*").call',
    'module("probed").function("initial_part")',
    'module("probed").function("innermost")',
    'module("probed").function("outer").return',
    'module("probed").function("twice")',
    'module("probed").function("folded").inline',
    'module("probed").trace("ptap_probed:ptap_probed_shown")',
)
_WITH_DWARF = ('kernel.function("do_open").inline', 'kernel.function("do_open@fs/namei.c")')


def write_kinds(
    headers: Path, vmlinux: ElfImage, module: Path, folder: Path, system_map: str | None, options: RecordOptions
) -> list[KernelPlace]:
    """Write the session to `folder`; its places."""
    texts = list(_POINTS)
    if vmlinux.has(".debug_info"):
        texts += [*_WITH_DWARF, _statement(vmlinux), _instruction(vmlinux)]
    points = [parse_kernel_point(text) for text in texts]
    return write_session(headers, vmlinux, points, options, folder, system_map, module_files=ModuleFiles([module]))


def _statement(vmlinux: ElfImage) -> str:
    """A statement inside of vfs_write."""
    search = KernelResolver(vmlinux).vmlinux.search
    assert search is not None
    (function,) = (each for each in search.functions("vfs_write") if not each.inlined)
    assert function.line is not None
    line = next(each for each in search.nearest_lines("vfs_write", None, function.line, 9) if each > function.line)
    return f'kernel.statement("vfs_write@read_write.c:{line}")'


def _instruction(vmlinux: ElfImage) -> str:
    """The address of one inside of vfs_write."""
    (place, *_) = KernelResolver(vmlinux).places(parse_kernel_point(_statement(vmlinux)))
    return f"kernel.statement({place.address:#x})"
