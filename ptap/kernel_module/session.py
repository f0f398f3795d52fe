"""Making a session's folder: the module, the messages that it will be given, and the program that runs it elsewhere."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipapp
from collections.abc import Sequence
from pathlib import Path

import ptap_target
from cfi_tables.cache import table_for
from cfi_tables.elf_image import ElfImage
from ptap.kernel_module import messages
from ptap.kernel_module.build import built_module
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.module_session import ModuleSession
from ptap.kernel_module.places import KernelPlace, KernelSymbols
from ptap.kernel_module.resolve import KernelResolver
from ptap.probe.point import ProbeKind
from ptap.probe.resolve import ProbeNotFound
from ptap_target.session_folder import DESCRIPTION, FORMAT, MESSAGES, MODULE
from relay_reader import record_layout as layout

RUNNER = "run.pyz"
_KINDS = {
    ProbeKind.RETURN: layout.ProbeKind.RETURN,
    ProbeKind.TRACEPOINT: layout.ProbeKind.TRACEPOINT,
    ProbeKind.TIMER: layout.ProbeKind.TIMER,
}
"""What the module calls the kinds of probes; all others are instructions of the kernel."""


def write_session(
    headers: Path,
    vmlinux: ElfImage,
    points: Sequence[KernelPoint],
    options: RecordOptions,
    folder: Path,
    system_map: str | None = None,
    module_files: ModuleFiles | None = None,
) -> list[KernelPlace]:
    """Write a session to `folder`, which is made; the places of its probes. Symbols are vmlinux's or `system_map`'s.

    Frames in modules are walked through where `module_files` names them or a probe is in them.
    Raises ProbeNotFound, ModuleBuildError, ElfError, TableError and OSError.
    """
    resolver = KernelResolver(vmlinux, system_map, module_files)
    places = [place for point in points for place in resolver.places(point)]
    names = {*(module_files.named if module_files else ()), *(point.module for point in points if point.module)}
    modules = [ModuleSession.of(name, resolver.module(name)) for name in sorted(names)]
    told = _messages(resolver.symbols, vmlinux, places, options, modules)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(built_module(headers), folder / MODULE)
    (folder / MESSAGES).write_bytes(b"".join(content for _, content in told))
    description = {
        "format": FORMAT,
        "build_id": vmlinux.build_id.hex() if vmlinux.build_id else None,
        "vmlinux": str(Path(vmlinux.path).absolute()),
        "system_map": str(Path(system_map).absolute()) if system_map else None,
        "placement": messages.placement_head().hex(),
        "modules": [module.description for module in modules],
        "probes": [{"name": place.name, "function": place.function, "address": place.address} for place in places],
        "messages": [{"what": what, "bytes": len(content)} for what, content in told],
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    _write_runner(folder / RUNNER)
    return places


def _messages(
    symbols: KernelSymbols,
    vmlinux: ElfImage,
    places: list[KernelPlace],
    options: RecordOptions,
    modules: list[ModuleSession],
) -> list[tuple[str, bytes]]:
    """(what it is, the bytes) of each message; the last one stops."""
    told = []
    for name in messages.ANCHORS:
        address = symbols.address(name)
        if address is not None:
            told.append((f"the symbol {name}", messages.anchor(name, address)))
    if len(told) < 2:
        raise ProbeNotFound(f"{vmlinux.path} is no kernel: it has none of {', '.join(messages.ANCHORS)}")
    table = table_for(vmlinux)
    told.append(("the kernel's unwind table", messages.table(*table.text_range, table.data.tobytes())))
    for name in messages.TRAMPOLINES:
        address = symbols.address(name)
        if address is not None:
            told.append((name, messages.trampoline(address)))
    told += [(f"module {module.name}", module.message(number)) for number, module in enumerate(modules)]
    for number, place in enumerate(places):
        kind = _KINDS.get(place.point.kind, layout.ProbeKind.ENTRY)
        content = messages.probe(number, kind, place.symbol, place.offset, place.address, optional=place.optional)
        told.append((place.name, content))
    return [*told, ("the start", messages.start(options)), ("the end", messages.stop())]


def _write_runner(target: Path) -> None:
    """One file that any Python runs: the package of the traced machine, which needs its standard library only."""
    package = Path(ptap_target.__file__).parent
    with tempfile.TemporaryDirectory(prefix="ptap-run-") as folder:
        shutil.copytree(package, Path(folder, package.name), ignore=shutil.ignore_patterns("__pycache__"))
        zipapp.create_archive(folder, target, "/usr/bin/env python3", "ptap_target.__main__:main")
    target.chmod(0o755)
