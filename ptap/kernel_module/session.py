"""Making a session's folder: the module, the messages that it will be given, and the program that runs it elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ptap_target
from cfi_tables.cache import table_for
from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import open_image
from ptap.kernel_module import messages
from ptap.kernel_module.build import built_module
from ptap.kernel_module.kernel_point import KernelPoint
from ptap.kernel_module.messages import RecordOptions
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.module_session import ModuleSession
from ptap.kernel_module.places import KernelPlace, KernelSymbols
from ptap.kernel_module.program_tables import write_tables
from ptap.kernel_module.resolve import KernelResolver
from ptap.kernel_module.user_place import UserPlace, user_places
from ptap.kernel_module.wanted_stacks import SessionFile, WantedStacks, wanted_stacks
from ptap.probe.point import ProbeKind, ProbePoint
from ptap.probe.resolve import ProbeNotFound, Resolver
from ptap_target.session_folder import DESCRIPTION, FORMAT, MESSAGES, MODULE
from relay_reader import record_layout as layout

RUNNER = "run.pyz"
_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)
_KINDS = {
    ProbeKind.RETURN: layout.ProbeKind.RETURN,
    ProbeKind.TRACEPOINT: layout.ProbeKind.TRACEPOINT,
    ProbeKind.TIMER: layout.ProbeKind.TIMER,
}
"""What the module calls the kinds of probes; all others are instructions of the kernel."""


def write_session(
    headers: Path,
    vmlinux: ElfImage,
    points: Sequence[KernelPoint | ProbePoint],
    options: RecordOptions,
    folder: Path,
    system_map: str | None = None,
    programs: Sequence[str] = (),
    module_files: ModuleFiles | None = None,
    when: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    resolver: Resolver | None = None,
) -> list[KernelPlace | UserPlace]:
    """Write a session to `folder`, which is made; the places of its probes. Symbols are vmlinux's or `system_map`'s.

    User stacks are walked at the probe in `programs`, those that are probed, and the libraries that they need; frames
    in modules where `module_files` names them or a probe is in them. `when` tells which stacks are recorded; `tell`
    gets what is to be said of it. `resolver` knows the target where programs are named by what it runs.
    Raises PredicateSyntaxError, ProgramError, ProbeNotFound, ModuleBuildError, ElfError, TableError and OSError.
    """
    in_kernel = KernelResolver(vmlinux, system_map, module_files)
    resolver = resolver or Resolver((), ())
    places: list[KernelPlace | UserPlace] = []
    for point in points:
        places += in_kernel.places(point) if isinstance(point, KernelPoint) else user_places(resolver, point)
    names = set(module_files.named if module_files else ())
    names |= {point.module for point in points if isinstance(point, KernelPoint) and point.module}
    modules = [ModuleSession.of(name, in_kernel.module(name)) for name in sorted(names)]
    folder.mkdir(parents=True, exist_ok=True)
    files = write_tables([*programs, *_probed_files(places)], vmlinux, folder)
    wanted = None
    if when is not None:
        inside = not all(_is_at_entry_or_return(place) for place in places)
        known = [SessionFile(each["path"], bytes.fromhex(key)) for key, each in files.items() if each["table"]]
        wanted = wanted_stacks(when, vmlinux, system_map, inside, known, tell)
    built = built_module(headers)
    shutil.copyfile(built, folder / MODULE)
    # By the file that stays: the folder may go when the run ends, before its stacks are looked at.
    own = ModuleSession.own(open_image(built))
    modules += [own] if own is not None else []
    told = _messages(in_kernel.symbols, vmlinux, places, options, modules, wanted)
    (folder / MESSAGES).write_bytes(b"".join(content for _, content in told))
    description = {
        "format": FORMAT,
        "build_id": vmlinux.build_id.hex() if vmlinux.build_id else None,
        "vmlinux": str(Path(vmlinux.path).absolute()),
        "system_map": str(Path(system_map).absolute()) if system_map else None,
        "placement": messages.placement_head().hex(),
        "modules": [module.description for module in modules],
        "probes": [_probe_description(place) for place in places],
        "files": files,
        "when": when,
        "slices": options.slices.name,
        "messages": [{"what": what, "bytes": len(content)} for what, content in told],
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    _write_runner(folder / RUNNER)
    return places


def _messages(
    symbols: KernelSymbols,
    vmlinux: ElfImage,
    places: list[KernelPlace | UserPlace],
    options: RecordOptions,
    modules: list[ModuleSession],
    wanted: WantedStacks | None,
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
        if isinstance(place, UserPlace):
            told.append((place.name, messages.probe(number, place.kind, place.symbol, place.offset, 0)))
            continue
        kind = _KINDS.get(place.point.kind, layout.ProbeKind.ENTRY)
        content = messages.probe(number, kind, place.symbol, place.offset, place.address, optional=place.optional)
        told.append((place.name, content))
    if wanted is not None:
        told.append((f"--when {wanted.text!r}", messages.predicate(wanted.program)))
    return [*told, ("the start", messages.start(options)), ("the end", messages.stop())]


def _probe_description(place: KernelPlace | UserPlace) -> dict[str, Any]:
    described: dict[str, Any] = {"name": place.name, "function": place.function, "address": place.address}
    if isinstance(place, UserPlace):
        described |= {"path": place.symbol, "build_id": place.build_id}
    return described


def _is_at_entry_or_return(place: KernelPlace | UserPlace) -> bool:
    """Whether no inlined call holds the place: where functions begin or return none has begun."""
    return ".function(" in place.name and not place.name.endswith(".inline")


def _probed_files(places: Sequence[KernelPlace | UserPlace]) -> list[str]:
    return [place.symbol for place in places if isinstance(place, UserPlace)]


def _write_runner(target: Path) -> None:
    """One file that any Python runs: the package of the traced machine, which needs its standard library only."""
    package = Path(ptap_target.__file__).parent
    files = {f"{package.name}/{path.name}": path.read_bytes() for path in sorted(package.glob("*.py"))}
    files["__main__.py"] = f"from {package.name}.__main__ import main\n\nmain()\n".encode()
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                # Dates of a checkout may be any; those before 1980 are none for an archive.
                archive.writestr(zipfile.ZipInfo(name, _EARLIEST_DATE), content)
    target.chmod(0o755)
