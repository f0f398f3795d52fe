"""What names the addresses of a kernel elsewhere: its lists of symbols, modules and sections, as a capture keeps them.

Taken from the running kernel while a capture is recorded; they name its chains when the capture is read on another
machine or after another boot.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cfi_tables.build_id_search import BuildIdError, find_build_id
from cfi_tables.elf_image import ElfError
from relay_reader.capture import KernelCodeNamed, MappingAdded
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_chain import KernelChain, KernelNames
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.kernel_symbolizer import KernelSources, KernelSymbolizer
from unwind.trace import TraceFrame

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


class KeptKernel:
    """Names the chains of the kernel that a capture file is of.

    While that kernel still runs (`is_running`), by what it says itself; else by the lists that `lists` gives at the
    first chain; and where there are none, by `otherwise`.
    """

    def __init__(
        self,
        lists: Callable[[], Mapping[str, bytes]],
        otherwise: KernelNames,
        *,
        is_running: bool,
        build_id: bytes | None,
        vmlinux: str | None,
        module_folders: tuple[str, ...],
    ) -> None:
        self._lists = lists
        self._otherwise = otherwise
        self._is_running = is_running
        self._build_id = build_id
        self._vmlinux = vmlinux
        self._module_folders = module_folders
        self._names: KernelNames | None = None
        self._problems: list[str] = []

    def apply(self, event: MappingAdded | KernelCodeNamed) -> None:
        """Follow where the kernel's code lies, as far as the lists do not tell it."""
        self._otherwise.apply(event)

    def frames(self, chain: tuple[int, ...]) -> list[TraceFrame]:
        """The frames of a chain, innermost first: the interrupted pc, then return addresses. Inlined calls too."""
        if self._names is None:
            self._names = self._open()
        return self._names.frames(chain)

    def all_problems(self) -> list[str]:
        """What of names and lines was not to be had."""
        return self._problems + (self._names.all_problems() if self._names is not None else [])

    def _open(self) -> KernelNames:
        lists = self._lists()
        if self._is_running and self._vmlinux is None:
            return KernelChain()
        if _KALLSYMS not in lists:
            return self._otherwise
        with tempfile.TemporaryDirectory(prefix="ptap-kernel-") as folder:
            sources = self._written(lists, Path(folder))
            try:
                return KernelChain(KernelSymbolizer.open(sources))
            except (KernelError, ElfError, OSError) as error:
                kallsyms = Kallsyms.open(str(sources.kallsyms))
                self._problems.append(kallsyms.problem or str(error))
                return KernelChain(KernelSymbolizer.of_names(kallsyms))

    def _written(self, lists: Mapping[str, bytes], folder: Path) -> KernelSources:
        """The lists as the files that they were; they are read when they are opened, and not needed any more."""
        for name in (_KALLSYMS, _MODULES):
            (folder / name).write_bytes(lists.get(name, b""))
        sections = folder / "module"
        sections.mkdir()
        self._write_sections(sections, lists.get(_SECTIONS, b"{}"))
        return KernelSources(
            vmlinux=self._vmlinux or _vmlinux(self._build_id),
            kallsyms=str(folder / _KALLSYMS),
            modules=str(folder / _MODULES),
            sections=str(sections),
            module_folders=self._module_folders,
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
