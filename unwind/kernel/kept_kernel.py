"""What names a kernel's addresses elsewhere: of its lists of symbols, modules and sections what a capture needs.

Taken from the running kernel while a capture is recorded; they name its chains when the capture is read on another
machine or after another boot.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
_ANCHORS = (b"_stext", b"_text", b"_etext")
_DIGITS = 16
_MANY = 256
"""New addresses that are worth telling at once."""


class RunningKernelLists:
    """What of the running kernel's lists names the addresses of a capture, told as they come: a part, not megabytes."""

    def __init__(self, kallsyms: bytes | None = None) -> None:
        """`kallsyms` stands for /proc/kallsyms, which is read at the first address."""
        self._text = kallsyms
        self._known: set[int] = set()
        self._waiting: list[int] = []
        self._told: set[int] = set()
        self._starts = self._order = np.zeros(0, dtype=np.int64)
        self._addresses = np.zeros(0, dtype=np.uint64)
        self._pieces = 0

    def need(self, chain: tuple[int, ...]) -> bool:
        """Take note of the addresses of a chain; whether so many are new that they are to be told."""
        for address in chain:
            if address not in self._known:
                self._known.add(address)
                self._waiting.append(address)
        return len(self._waiting) >= _MANY or (bool(self._waiting) and not self._pieces)

    def take(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of what has to be told for the addresses that were noted."""
        if not self._waiting:
            return
        if not self._pieces:
            self._read()
            for name, content in (
                (_MODULES, _content("/proc/modules")),
                (_SECTIONS, json.dumps(_loaded_sections(Path("/sys/module"))).encode()),
            ):
                if content:
                    yield name, content
        yield f"{_KALLSYMS} {self._pieces}", self._lines(self._waiting)
        self._waiting = []
        self._pieces += 1

    def _read(self) -> None:
        """Find the lines and their addresses, which have 16 digits."""
        text = self._text = _content("/proc/kallsyms") if self._text is None else self._text
        letters = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(letters == ord("\n")) + 1
        starts = np.concatenate((np.zeros(1, dtype=np.int64), ends))
        self._starts = starts[starts + _DIGITS < len(letters)]
        values = np.zeros(256, dtype=np.uint64)
        for digit in range(16):
            values[[ord(f"{digit:x}"), ord(f"{digit:X}")]] = digit
        addresses = np.zeros(len(self._starts), dtype=np.uint64)
        for place in range(_DIGITS):
            addresses = (addresses << np.uint64(4)) | values[letters[self._starts + place]]
        self._order = np.argsort(addresses, kind="stable")
        self._addresses = addresses[self._order]

    def _lines(self, waiting: list[int]) -> bytes:
        """The lines of the symbols that hold the addresses, of all at their places, and of those that end them."""
        assert self._text is not None
        # A return address is looked up by the call before it.
        asked = np.array([each - behind for each in waiting for behind in (0, 1) if each > behind], dtype=np.uint64)
        holders = np.searchsorted(self._addresses, asked, side="right") - 1
        wanted: set[int] = set() if self._pieces else self._anchors()
        for holder in np.unique(holders[holders >= 0]).tolist():
            first = int(np.searchsorted(self._addresses, self._addresses[holder], side="left"))
            wanted.update(range(first, min(holder + 2, len(self._addresses))))
        new = sorted(wanted - self._told)
        self._told.update(new)
        found = []
        for row in new:
            start = int(self._starts[self._order[row]])
            end = self._text.find(b"\n", start)
            found.append(self._text[start : end if end >= 0 else None])
        return b"\n".join(found) + b"\n"

    def _anchors(self) -> set[int]:
        """The rows of the symbols that tell where the kernel's own code begins and ends."""
        assert self._text is not None
        rows = np.empty(len(self._order), dtype=np.int64)
        rows[self._order] = np.arange(len(self._order))
        found = set()
        for name in _ANCHORS:
            at = self._text.find(b" " + name + b"\n")
            if at >= 0:
                line = int(np.searchsorted(self._starts, at, side="right")) - 1
                found.add(int(rows[line]))
        return found


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""  # a kernel without modules has no list of them


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
        pieces = sorted((name for name in lists if name.startswith(_KALLSYMS)), key=lambda name: (len(name), name))
        if not pieces:
            return self._otherwise
        with tempfile.TemporaryDirectory(prefix="ptap-kernel-") as folder:
            kallsyms = b"".join(lists[name] for name in pieces)
            sources = self._written({**lists, _KALLSYMS: kallsyms}, Path(folder))
            try:
                return KernelChain(KernelSymbolizer.open(sources))
            except (KernelError, ElfError, OSError) as error:
                listed = Kallsyms.open(str(sources.kallsyms))
                self._problems.append(listed.problem or str(error))
                return KernelChain(KernelSymbolizer.of_names(listed))

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
