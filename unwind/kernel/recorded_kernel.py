"""The kernel of a recording: which one it was, where its code lay, and what names its addresses now.

A recording tells the kernel's build-id, the run-time address of one of its symbols, where modules were loaded, and the
names of code made at run time. That kernel may be the one that runs here, with the same addresses; or another, or this
one before it was started again and lay elsewhere: then its vmlinux answers, or the list of symbols that perf has kept.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfi_tables.build_id_search import BuildIdError, find_build_id
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.image_file import open_image
from cfi_tables.symbol_table import SHN_UNDEF, symbols
from relay_reader.capture import KernelCodeNamed, Mapping, MappingAdded
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.kernel_files import KernelFiles, running_build_id
from unwind.kernel.loaded_modules import LoadedModule
from unwind.trace import TraceFrame

if TYPE_CHECKING:
    from unwind.kernel.kernel_chain import KernelChain

_KERNEL = "[kernel]"
_OWN_CODE = re.compile(r"\[kernel\.[a-z]+\](\w*)")
_RUNNING = "/proc/kallsyms"
_PERF_STORE = "~/.debug"
_PLACES = (
    "boot/vmlinux-{}",
    "usr/lib/debug/boot/vmlinux-{}",
    "usr/lib/debug/lib/modules/{}/vmlinux",
    "lib/modules/{}/vmlinux",
)
_MODULE_FOLDERS = ("lib/modules", "usr/lib/modules", "usr/lib/debug/lib/modules", "usr/lib/debug/usr/lib/modules")


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Where the kernel's own code lay."""

    symbol: str
    address: int
    """Of that symbol at run time."""
    build_id: bytes | None


class RecordedKernel:
    """Names chains of the kernel that a recording tells of by `apply`.

    `vmlinux` is the user's word on its file, `sysroot` where the files of its machine lie, `release` what `uname -r`
    said there ("": not told).
    """

    def __init__(self, vmlinux: str | None = None, sysroot: str = "/", release: str = "") -> None:
        self.release = release
        self._given = vmlinux
        self._sysroot = sysroot
        self._anchor: _Anchor | None = None
        self._modules: list[Mapping] = []
        self._made: list[KernelCodeNamed] = []
        self._chain: KernelChain | None = None
        self._problems: list[str] = []
        self._opened = False

    def apply(self, event: MappingAdded | KernelCodeNamed) -> None:
        """Follow where the kernel's code lies, and how it is called."""
        if isinstance(event, KernelCodeNamed):
            end = event.address + event.size
            self._made = [
                each for each in self._made if each.address >= end or each.address + each.size <= event.address
            ]
            if not event.gone:
                self._made.append(event)
            return
        own = _OWN_CODE.fullmatch(event.mapping.path)
        if own is None:
            self._modules.append(event.mapping)
            self._opened = False
        elif own[1] and event.mapping.file_offset:
            self._anchor = _Anchor(own[1], event.mapping.file_offset, event.mapping.build_id)
            self._opened = False

    def frames(self, chain: tuple[int, ...]) -> list[TraceFrame]:
        """The frames of a chain, innermost first: the interrupted pc, then return addresses. Inlined calls too."""
        if not self._opened:
            self._chain = self._open()
            self._opened = True
        named = self._chain.frames(chain) if self._chain is not None else [self._bare(address) for address in chain]
        return [self._run_time_name(frame) for frame in named] if self._made else named

    def all_problems(self) -> list[str]:
        """What of names and lines was not to be had."""
        return self._problems + (self._chain.all_problems() if self._chain is not None else [])

    def _bare(self, address: int) -> TraceFrame:
        module = next((each for each in self._modules if each.start <= address < each.end), None)
        return TraceFrame("kernel", address, _module_name(module.path) if module is not None else _KERNEL)

    def _run_time_name(self, frame: TraceFrame) -> TraceFrame:
        for each in self._made:
            if each.address <= frame.address <= each.address + each.size and not frame.inlined:
                label = "[bpf]" if each.name.startswith("bpf_") else _KERNEL
                return TraceFrame(
                    "kernel", frame.address, label, function=each.name, offset=frame.address - each.address
                )
        return frame

    # --- which kernel it was

    def _open(self) -> KernelChain | None:
        """What names its addresses; None, and a problem says why, where nothing does."""
        from unwind.kallsyms import Kallsyms
        from unwind.kernel.kernel_chain import KernelChain
        from unwind.kernel.kernel_symbolizer import KernelSymbolizer

        self._problems = []
        if self._anchor is None:
            self._problems.append(
                "kernel frames without names: the recording does not tell where the kernel lay (kernel.kptr_restrict); "
                "record as root"
            )
            return None
        if self._given is None and self.is_running():
            return KernelChain()
        try:
            image = self._vmlinux(self._anchor)
            if image is None:
                return self._by_kept_list(self._anchor)
            slide = self._anchor.address - _symbol_address(image, self._anchor.symbol)
        except (KernelError, ElfError) as error:
            self._problems.append(f"kernel frames without names: {error}")
            return None
        loaded = {}
        for mapping in self._modules:
            name = _module_name(mapping.path)
            size = mapping.end - mapping.start
            loaded[name] = LoadedModule(name, mapping.start, size, build_id=mapping.build_id)
        folders = tuple(Path(self._sysroot, each, self.release) for each in _MODULE_FOLDERS) if self.release else ()
        return KernelChain(KernelSymbolizer(Kallsyms(""), image, slide, loaded, KernelFiles(folders)))

    def is_running(self) -> bool:
        """Whether it is the kernel that runs here, since it was started: the same build at the same address."""
        anchor = self._anchor
        if anchor is None or self._sysroot != "/":
            return False
        running = running_build_id()
        if anchor.build_id is not None and running is not None:
            same = anchor.build_id == running
        else:
            same = self.release == os.uname().release
        return same and _listed_address(_RUNNING, anchor.symbol) == anchor.address

    def _vmlinux(self, anchor: _Anchor) -> ElfImage | None:
        """Its vmlinux; None where there is none. Raises KernelError when the user's is another kernel's, ElfError."""
        if self._given is not None:
            image = open_image(self._given)
            if anchor.build_id is not None and image.build_id not in (anchor.build_id, None):
                raise KernelError(
                    f"{self._given} is of another build than the kernel that was recorded, whose build-id is "
                    f"{anchor.build_id.hex()}"
                )
            return image
        for place in _PLACES if self.release else ():
            path = str(Path(self._sysroot, place.format(self.release)))
            if os.path.isfile(path):
                image = ElfImage.open(path)
                if anchor.build_id in (None, image.build_id):
                    return image
        try:
            return find_build_id(anchor.build_id) if anchor.build_id is not None else None
        except BuildIdError:
            return None

    def _by_kept_list(self, anchor: _Anchor) -> KernelChain | None:
        """Names by the copy of /proc/kallsyms that `perf record` keeps, without those of modules."""
        from unwind.kallsyms import Kallsyms
        from unwind.kernel.kernel_chain import KernelChain
        from unwind.kernel.kernel_symbolizer import KernelSymbolizer

        path = Path(os.path.expanduser(_PERF_STORE), "[kernel.kallsyms]", (anchor.build_id or b"").hex(), "kallsyms")
        release = f" {self.release}" if self.release else ""
        build_id = f" with build-id {anchor.build_id.hex()}" if anchor.build_id else ""
        missing = f"no vmlinux of the recorded kernel{release}{build_id}: name it with --vmlinux"
        listed = _listed_address(str(path), anchor.symbol) if anchor.build_id is not None else None
        if listed is None:
            self._problems.append(f"kernel frames without names: {missing}")
            return None
        self._problems.append(f"kernel frames without lines: {missing}")
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
        own = Kallsyms("\n".join(line for line in text.splitlines() if "[" not in line), str(path))
        own.move(anchor.address - listed)
        return KernelChain(KernelSymbolizer.of_names(own))


def _symbol_address(vmlinux: ElfImage, name: str) -> int:
    """Where a symbol lies in vmlinux. Raises KernelError and ElfError."""
    table = symbols(vmlinux)
    rows = [row for row in table.find(name).tolist() if table.section[row] != SHN_UNDEF] if table is not None else []
    if table is None or not rows:
        raise KernelError(f"{vmlinux.path} has no symbol {name}: name the vmlinux that has the debugging information")
    return int(table.value[rows[0]])


def _listed_address(path: str, name: str) -> int | None:
    """The address of the kernel's own symbol `name` in a list as /proc/kallsyms; None where it is not shown."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) == 3 and fields[2] == name:
                    return int(fields[0], 16) or None
    except (OSError, ValueError):
        pass
    return None


def _module_name(path: str) -> str:
    """The name of the module that perf's record of its mapping calls `path`: `[NAME]`, or that of its file."""
    if path.startswith("["):
        return path.strip("[]")
    return os.path.basename(path).split(".ko", 1)[0].replace("-", "_")
