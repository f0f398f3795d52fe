"""Places in a kernel that a log names → lookups in its vmlinux and the files of its modules.

Which kernel it is the user says, else it is the one that runs here. One of another release or build than the log's is
refused, and so is a function whose size is not the one that the log has.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.image_file import open_image
from cfi_tables.symbol_table import symbols
from ptap.text_log.logged_frame import KernelPlace, LoggedKernel
from ptap.text_log.lookup import Lookup, Miss
from unwind.kernel.function_places import FunctionPlaces
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.kernel_files import KernelFiles, find_vmlinux, kernel_debug_remedy
from unwind.kernel.kernel_symbolizer import KernelSources, KernelSymbolizer
from unwind.kernel.loaded_modules import LoadedModule, add_sections
from unwind.symbolize.symbolizer import Symbolizer

_KERNEL = "[kernel]"
_BANNER = re.compile(rb"Linux version (\S+) ")
_MADE_AT_RUN_TIME = frozenset({"bpf", "ftrace", "kprobe", "__builtin__ftrace", "__builtin__kprobes"})
"""What kernels name as the modules of code that they make themselves."""
_PAGE = 4096
_TOP = 1 << 64


@dataclass
class _KernelFile:
    """vmlinux, or one module's file."""

    symbolizer: Symbolizer

    @property
    def image(self) -> ElfImage:
        return self.symbolizer.image

    @cached_property
    def functions(self) -> FunctionPlaces:
        return FunctionPlaces(self.image)

    @cached_property
    def release(self) -> str | None:
        """What `uname -r` says in this kernel; None where vmlinux does not hold it (a debug file has no data)."""
        table = symbols(self.image)
        rows = [] if table is None else table.find("linux_banner").tolist()
        text = self.image.read(int(table.value[rows[0]]), 256) if table is not None and rows else b""
        found = _BANNER.match(text)
        return found[1].decode("ascii", "replace") if found else None


class KernelSource:
    """The kernel of one log. Raises ElfError and OSError for a file that was named and cannot be opened.

    What it looks for itself is opened when a frame needs it.
    """

    def __init__(self, sources: KernelSources) -> None:
        self._sources = sources
        self._named = None if sources.vmlinux is None else _KernelFile(Symbolizer(open_image(sources.vmlinux)))
        for path in (sources.kallsyms, sources.system_map, sources.modules):
            if path is not None:
                os.stat(path)
        self._modules: dict[tuple[str, str | None], _KernelFile | Miss] = {}
        self._slides: dict[LoggedKernel, int] = {}
        """What addresses that stand beside names tell, where the log does not tell it itself."""

    def lookup(self, place: KernelPlace) -> Lookup | Miss:
        """Where to look, or why nowhere."""
        try:
            if place.name is None:
                return self._by_address(place)
            return self._by_name(place)
        except ElfError as error:
            return Miss(str(error))

    def problems(self) -> list[str]:
        """What of the files could not be used."""
        opened = [*(self._modules.values()), *([self._vmlinux] if "_vmlinux" in self.__dict__ else [])]
        return [
            f"{file.image.path}: {problem}"
            for file in opened
            if isinstance(file, _KernelFile)
            for problem in file.symbolizer.problems
        ]

    # --- by name

    def _by_name(self, place: KernelPlace) -> Lookup | Miss:
        file = self._checked_vmlinux(place.kernel) if place.module is None else self._module(place)
        if isinstance(file, Miss):
            return file
        named = file.functions.named(place.name or "")
        starts = [each.address for each in named if each.may_print(place.size)]
        if not starts:
            if not named:
                return Miss(f"{file.image.path} is of another build than the log: it lacks functions", place.name)
            sizes = " and ".join(sorted({f"{each.size:#x}" for each in named}))
            return Miss(
                f"{file.image.path} is of another build than the log: functions have other sizes",
                f"{place.name} has {sizes} bytes there, in the log {place.size:#x}",
            )
        slide = place.kernel.slide
        if place.module is None and place.address is not None:
            moved = [place.address - place.offset - start for start in starts]
            if slide is None and len(starts) == 1 and moved[0] % _PAGE == 0:
                slide = self._slides.setdefault(place.kernel, moved[0])
            slide = self._slides.get(place.kernel) if slide is None else slide
            if slide is not None:
                starts = [start for start, by in zip(starts, moved, strict=True) if by == slide] or starts
        behind = 0 if place.exact else 1
        shown = tuple((start + place.offset + (slide or 0)) % _TOP for start in starts)
        found = tuple((start + place.offset - behind) % _TOP for start in starts)
        return Lookup(file.symbolizer, found, shown, behind, "kernel", place.module or _KERNEL)

    def _checked_vmlinux(self, kernel: LoggedKernel) -> _KernelFile | Miss:
        """vmlinux, if it is of the log's kernel."""
        other = self._other_release(kernel)
        if other is not None:
            return other
        file = self._vmlinux
        if isinstance(file, Miss):
            return file
        theirs = file.image.build_id.hex() if file.image.build_id else None
        if kernel.build_id is not None and theirs is not None and theirs != kernel.build_id:
            return Miss(
                f"{file.image.path} is of another build than the log's kernel: its build-id is {theirs}, the log's "
                f"{kernel.build_id}"
            )
        if kernel.release is not None and file.release not in (None, kernel.release):
            return Miss(
                f"{file.image.path} is of kernel {file.release}, the log of {kernel.release}: name that one's vmlinux"
            )
        return file

    def _other_release(self, kernel: LoggedKernel) -> Miss | None:
        """Why the kernel that runs here says nothing of the log, where nothing was said of the log's."""
        here = os.uname().release
        if kernel.release in (None, here) or not self._is_here:
            return None
        return Miss(f"the log is of kernel {kernel.release}, and {here} runs here: name that one's vmlinux (--vmlinux)")

    @property
    def _is_here(self) -> bool:
        return self._sources.running and self._sources.vmlinux is None

    @cached_property
    def _vmlinux(self) -> _KernelFile | Miss:
        if self._named is not None:
            return self._named
        if not self._sources.running:
            return Miss("functions of the kernel have no lines: name its vmlinux (--vmlinux)")
        looked_at: list[str] = []
        refused: list[str] = []
        image = find_vmlinux(looked_at, refused)
        if image is not None:
            return _KernelFile(Symbolizer(image))
        why = f"{'; '.join(refused)}; " if refused else ""
        return Miss(
            f"no vmlinux with debugging information, so functions of the kernel have no lines: {why}looked at "
            f"{', '.join(looked_at)}; {kernel_debug_remedy()}, name the file (--vmlinux), or have it fetched "
            "(DEBUGINFOD_URLS)"
        )

    @cached_property
    def _files(self) -> KernelFiles:
        if self._is_here and not self._sources.module_folders:
            return KernelFiles.of_this_kernel()
        return KernelFiles(tuple(Path(each) for each in self._sources.module_folders))

    def _module(self, place: KernelPlace) -> _KernelFile | Miss:
        if place.module in _MADE_AT_RUN_TIME:
            return Miss("code that a kernel makes at run time is in no file", f"{place.name} [{place.module}]")
        other = None if self._sources.module_folders else self._other_release(place.kernel)
        if other is not None:
            return other
        name = (place.module or "").replace("-", "_")
        key = (name, place.build_id)
        if key not in self._modules:
            self._modules[key] = self._open_module(name, place.build_id)
        return self._modules[key]

    def _open_module(self, name: str, build_id: str | None) -> _KernelFile | Miss:
        """The file of a module, one with debugging information if there is one, or why there is none."""
        if build_id is None and self._is_here:
            loaded = LoadedModule(name)
            add_sections(loaded, Path("/sys/module"))
            build_id = loaded.build_id.hex() if loaded.build_id else None
        refused: list[str] = []
        without_lines: _KernelFile | None = None
        for path in self._files.module_paths(name):
            try:
                file = _KernelFile(Symbolizer(open_image(path)))
            except (ElfError, OSError) as error:
                refused.append(str(error))
                continue
            theirs = file.image.build_id.hex() if file.image.build_id else None
            if build_id is not None and theirs != build_id:
                refused.append(
                    f"{path} is of another build than the log's module {name}: its build-id is {theirs or 'none'}, the "
                    f"log's {build_id}"
                )
            elif file.symbolizer.has_debug_information:
                return file
            else:
                without_lines = without_lines or file
        if without_lines is not None:
            return without_lines
        if refused:
            return Miss("; ".join(refused))
        if not self._files.module_folders:
            return Miss(f"module {name} has no lines: name the folder of that kernel's modules (--module-dir)")
        folders = ", ".join(map(str, self._files.module_folders))
        return Miss(f"no file of module {name} in {folders}; name its folder (--module-dir)")

    # --- by address

    def _by_address(self, place: KernelPlace) -> Lookup | Miss:
        address = place.address or 0
        behind = 0 if place.exact else 1
        slide = place.kernel.slide
        if slide is None:
            slide = self._sources.slide if self._sources.slide is not None else self._slides.get(place.kernel)
        listed = self._sources.kallsyms is not None or self._sources.system_map is not None
        if slide is not None and not listed:
            file = self._checked_vmlinux(place.kernel)
            if isinstance(file, Miss):
                return file
            found = ((address - slide - behind) % _TOP,)
            return Lookup(file.symbolizer, found, (address,), behind, "kernel", _KERNEL)
        other = self._other_release(place.kernel)
        if other is not None:
            return other
        if not self._sources.running and not listed:
            return Miss(
                "an address alone tells nothing of a kernel: name its symbols (--kallsyms) or its slide (--slide)"
            )
        if self._sources.vmlinux is not None and not listed:
            return Miss(
                "an address alone tells nothing of a kernel that was moved: name its symbols (--kallsyms), or say how "
                "far it was moved ('Kernel Offset', --slide)"
            )
        symbolizer = self._symbolizer
        if isinstance(symbolizer, Miss):
            return symbolizer
        return Lookup(symbolizer, ((address - behind) % _TOP,), (address,), behind, "kernel")

    @cached_property
    def _symbolizer(self) -> KernelSymbolizer | Miss:
        try:
            return KernelSymbolizer.open(self._sources)
        except (KernelError, ElfError) as error:
            return Miss(str(error))
        except OSError as error:
            return Miss(f"{error.filename}: {error.strerror}")
