"""What names the addresses of a kernel elsewhere: its lists of symbols, modules and sections, as a capture keeps them.

Taken from the running kernel while a capture is recorded; given back as the files that `KernelSources` names, in a
folder of their own, when the capture is read on another machine or after another boot.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cfi_tables.build_id_search import BuildIdError, find_build_id
from unwind.kernel.kernel_symbolizer import KernelSources

_KALLSYMS, _MODULES, _SECTIONS = "kallsyms", "modules", "sections"
_NOTE = ".note.gnu.build-id"


def kernel_lists() -> Iterator[tuple[str, bytes]]:
    """(name, content) of each list of the running kernel that can be read."""
    for name in (_KALLSYMS, _MODULES):
        try:
            yield name, Path("/proc", name).read_bytes()
        except OSError:
            continue  # a kernel without modules has no list of them
    yield _SECTIONS, json.dumps(_loaded_sections(Path("/sys/module"))).encode()


def _loaded_sections(folder: Path) -> dict[str, Any]:
    """Module -> address by section, and its build-id's note in hexadecimal digits."""
    found: dict[str, Any] = {}
    for module in sorted(folder.glob("*/sections")):
        sections = {}
        for file in module.iterdir():
            try:
                sections[file.name] = file.read_text().strip()
            except OSError:
                continue
        try:
            note = (module.parent / "notes" / _NOTE).read_bytes().hex()
        except OSError:
            note = ""
        found[module.parent.name] = {"sections": sections, "note": note}
    return found


class RecordedKernel:
    """The sources of a kernel whose lists are `lists`; they are files until `close`."""

    def __init__(
        self, lists: Mapping[str, bytes], build_id: bytes | None, vmlinux: str | None, module_folders: tuple[str, ...]
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ptap-kernel-")
        place = Path(self._folder.name)
        for name in (_KALLSYMS, _MODULES):
            (place / name).write_bytes(lists.get(name, b""))
        sections = place / "module"
        sections.mkdir()
        self._write_sections(sections, lists.get(_SECTIONS, b"{}"))
        self.sources = KernelSources(
            vmlinux=vmlinux or _vmlinux(build_id),
            kallsyms=str(place / _KALLSYMS),
            modules=str(place / _MODULES),
            sections=str(sections),
            module_folders=module_folders,
        )

    @staticmethod
    def _write_sections(folder: Path, content: bytes) -> None:
        try:
            told = json.loads(content)
            modules = {str(name): (dict(each["sections"]), bytes.fromhex(each["note"])) for name, each in told.items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            return  # modules' names come from kallsyms then
        for name, (sections, note) in modules.items():
            if not _is_plain(name):
                continue
            (folder / name / "sections").mkdir(parents=True)
            for section, address in sections.items():
                if _is_plain(section):
                    (folder / name / "sections" / section).write_text(str(address))
            if note:
                (folder / name / "notes").mkdir()
                (folder / name / "notes" / _NOTE).write_bytes(note)

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()


def _is_plain(name: str) -> bool:
    """Whether it is the name of a file in a folder, and nothing else."""
    return 0 < len(name) < 256 and "/" not in name and "\0" not in name and name not in (".", "..")


def _vmlinux(build_id: bytes | None) -> str | None:
    """The vmlinux of that build on this machine, or from a debuginfod server."""
    if build_id is None:
        return None
    try:
        return find_build_id(build_id).path
    except BuildIdError:
        return None
