"""Addresses of a running kernel → frames: by vmlinux and the modules' files, else by the names that kallsyms lists.

The kernel's own addresses lose its slide, a module's go back to the sections of its .ko; then each file's symbolizer
answers. What a file does not know, or what has no file that belongs to it, kallsyms names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.image_file import open_image
from unwind.kallsyms import Kallsyms
from unwind.kernel.kernel_error import KernelError
from unwind.kernel.kernel_files import KernelFiles, find_vmlinux, kernel_debug_remedy
from unwind.kernel.kernel_slide import find_slide
from unwind.kernel.loaded_modules import LoadedModule, add_sections, read_modules
from unwind.kernel.module_placement import ModulePlacement
from unwind.symbolize.address_source import ModuleLabel
from unwind.symbolize.frame_columns import chosen_frames, joined_frames, named_frames
from unwind.symbolize.index_lookup import AddressFrames
from unwind.symbolize.symbolizer import Symbolizer

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument

Int64s = NDArray[np.int64]
Uint64s = NDArray[np.uint64]

_KERNEL = "[kernel]"
_NONE, _ITSELF = -1, 0


@dataclass(frozen=True, slots=True)
class KernelSources:
    """What a user says of a kernel; what is None is looked for on this machine, where that can be right."""

    vmlinux: str | None = None
    kallsyms: str | None = None
    system_map: str | None = None
    modules: str | None = None
    """As /proc/modules."""
    sections: str | None = None
    """A folder as /sys/module."""
    module_folders: tuple[str, ...] = ()
    slide: int | None = None

    @property
    def running(self) -> bool:
        """Whether the kernel is the one that runs here: nothing was named that tells of another's addresses."""
        return self.kallsyms is None and self.system_map is None and self.slide is None


@dataclass(slots=True)
class _Module:
    """The file of one module and where it is loaded."""

    symbolizer: Symbolizer
    placement: ModulePlacement


@dataclass(slots=True)
class _Answer:
    """What is known of the addresses of one batch."""

    addresses: Uint64s
    frames: AddressFrames
    offsets: Int64s
    labels: list[ModuleLabel]


class KernelSymbolizer:
    """Frames of one kernel's addresses; made by `open`."""

    names_with_offsets = True

    def __init__(
        self,
        kallsyms: Kallsyms,
        vmlinux: ElfImage | None,
        slide: int,
        loaded: dict[str, LoadedModule],
        files: KernelFiles,
    ) -> None:
        self.slide = slide
        self._kallsyms = kallsyms
        self._vmlinux = Symbolizer(vmlinux) if vmlinux is not None else None
        self._loaded = loaded
        self._files = files
        self._modules: dict[str, _Module | None] = {}
        self._problems: list[str] = []
        self._last: _Answer | None = None

    @classmethod
    def open(cls, sources: KernelSources) -> KernelSymbolizer:
        """The symbolizer of the kernel that `sources` describes. Raises KernelError, ElfError and OSError."""
        problems: list[str] = []
        vmlinux = open_image(sources.vmlinux) if sources.vmlinux is not None else None
        if vmlinux is None and sources.running:
            looked_at: list[str] = []
            refused: list[str] = []
            vmlinux = find_vmlinux(looked_at, refused)
            if vmlinux is None:
                problems.append(_no_vmlinux(looked_at, refused))
        kallsyms = _symbol_list(sources)
        slide = find_slide(kallsyms, vmlinux) if vmlinux is not None and len(kallsyms) else sources.slide or 0
        if sources.slide not in (None, slide):
            raise KernelError(
                f"{kallsyms.path} shows the kernel moved by {slide:#x}, not by {sources.slide:#x} as --slide says; "
                "leave --slide out"
            )
        files = KernelFiles(tuple(Path(each) for each in sources.module_folders))
        if sources.running and not sources.module_folders:
            files = KernelFiles.of_this_kernel()
        found = cls(kallsyms, vmlinux, slide, _loaded_modules(sources), files)
        found._problems = problems
        return found

    @classmethod
    def of_names(cls, kallsyms: Kallsyms) -> KernelSymbolizer:
        """The symbolizer of a kernel of which nothing but that list is known."""
        return cls(kallsyms, None, 0, {}, KernelFiles(()))

    @property
    def problems(self) -> list[str]:
        """Files that were missing or refused, and what of the others could not be used."""
        found = list(self._problems)
        if self._kallsyms.damaged:
            found.append(f"{self._kallsyms.path}: {self._kallsyms.damaged} lines of another form were left out")
        symbolizers = [module.symbolizer for module in self._modules.values() if module is not None]
        for symbolizer in [*([self._vmlinux] if self._vmlinux is not None else []), *symbolizers]:
            found += [f"{symbolizer.image.path}: {problem}" for problem in symbolizer.problems]
        return found

    # --- what addresses belong to

    def _owners(self, addresses: Uint64s, rows: Int64s) -> tuple[Int64s, list[str]]:
        """What each address belongs to, a number in the list of names (0: the kernel itself), -1 for nothing.

        `rows` are the addresses' symbols in kallsyms, -1 for none.
        """
        names = [name or _KERNEL for name in self._kallsyms.owner_names]
        owners = np.full(len(addresses), _NONE, dtype=np.int64)
        owners[rows >= 0] = self._kallsyms.owners[rows[rows >= 0]]
        for name, start, end in self._extents:
            inside = (rows < 0) & (addresses >= start) & (addresses < end)
            if inside.any():
                if name not in names:
                    names.append(name)
                owners[inside] = names.index(name)
        if self._vmlinux is not None:
            # What no list names may still be code of the kernel.
            owners[owners == _NONE] = _ITSELF
        return owners, names

    @cached_property
    def _extents(self) -> list[tuple[str, np.uint64, np.uint64]]:
        """Memory of modules by what is known of them beside their symbols."""
        found = []
        for module in self._loaded.values():
            if module.base is not None:
                found.append((module.name, np.uint64(module.base), np.uint64(module.base + module.size)))
        return found

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = self._open_module(name)
        return self._modules[name]

    def _open_module(self, name: str) -> _Module | None:
        """The module's file that belongs to what is loaded, one with debugging information if there is one."""
        paths = self._files.module_paths(name)
        if not paths and name in self._loaded:  # what is no module (a BPF program) has no file to be missed
            self._problems.append(_no_module(name, self._files))
        loaded = self._loaded.get(name) or LoadedModule(name)
        refused: list[str] = []
        without_lines: _Module | None = None
        for path in paths:
            try:
                image = open_image(path)
                found = _Module(Symbolizer(image), ModulePlacement(image, loaded, self._kallsyms))
            except (KernelError, ElfError) as error:
                refused.append(str(error))
            except OSError as error:
                refused.append(f"{path}: {error.strerror}")
            else:
                if found.symbolizer.has_debug_information:
                    return found
                without_lines = without_lines or found
        if without_lines is None:
            self._problems += refused
        return without_lines

    # --- as a source of frames

    def frames(self, addresses: Uint64s) -> AddressFrames:
        """The frames at `addresses` as the kernel has them: run-time addresses."""
        return self._answer(addresses).frames

    def function_offsets(self, addresses: Uint64s) -> Int64s:
        """How far each address lies behind its function's entry, -1 where that is not known."""
        return self._answer(addresses).offsets

    def arguments(self, address: int) -> list[list[Argument]]:
        """The parameters of each frame at an address, see `Symbolizer.arguments`."""
        addresses = np.array([address], dtype=np.uint64)
        owners, names = self._owners(addresses, self._kallsyms.rows_at(addresses))
        if owners[0] < 0:
            return []
        owner = int(owners[0])
        symbolizer, in_file, inside = self._in_file(owner, names[owner], addresses)
        return symbolizer.arguments(int(in_file[0])) if symbolizer is not None and inside[0] else []

    def labels(self, addresses: Uint64s) -> list[ModuleLabel]:
        """`[kernel]` or the module's name, and the build-id of the file that was used."""
        return self._answer(addresses).labels

    def _answer(self, addresses: Uint64s) -> _Answer:
        """Everything about a batch at once; the answer to the last one is kept, as each is asked several things."""
        if self._last is not None and np.array_equal(self._last.addresses, addresses):
            return self._last
        rows = self._kallsyms.rows_at(addresses)
        owners, names = self._owners(addresses, rows)
        parts: list[tuple[Int64s, AddressFrames]] = []
        offsets = np.full(len(addresses), -1, dtype=np.int64)
        labels = [ModuleLabel(_KERNEL)] * len(addresses)
        left = np.ones(len(addresses), dtype=bool)
        for owner in np.unique(owners[owners >= 0]).tolist():
            places = np.flatnonzero(owners == owner)
            symbolizer, in_file, inside = self._in_file(owner, names[owner], addresses[places])
            build_id = symbolizer.image.build_id if symbolizer is not None else None
            label = ModuleLabel(names[owner], build_id.hex() if build_id else None)
            for place in places.tolist():
                labels[place] = label
            if symbolizer is None:
                continue
            # What lies in none of a module's sections is not its, whatever symbol comes before.
            rows[places[~inside]] = -1
            places, in_file = places[inside], in_file[inside]
            frames = symbolizer.frames(in_file)
            # kallsyms may know what the file does not; where neither does, the file's reason says more.
            told = (np.diff(frames.offsets) > 0) | (rows[places] < 0)
            offsets[places] = symbolizer.function_offsets(in_file)
            parts.append((places[told], chosen_frames(frames, told)))
            left[places[told]] = False
        rest = np.flatnonzero(left)
        parts.append((rest, named_frames([self._listed_name(row) for row in rows[rest].tolist()])))
        listed = rest[rows[rest] >= 0]
        begins = np.array([self._kallsyms.address(row) for row in rows[listed].tolist()], dtype=np.uint64)
        offsets[listed] = (addresses[listed] - begins).astype(np.int64)
        self._last = _Answer(addresses, joined_frames(len(addresses), parts), offsets, labels)
        return self._last

    def _in_file(
        self, owner: int, name: str, addresses: Uint64s
    ) -> tuple[Symbolizer | None, Uint64s, NDArray[np.bool_]]:
        """(symbolizer of an owner's file, addresses in the file, which of them it may know)."""
        if owner == _ITSELF:
            moved = addresses - np.uint64(self.slide % (1 << 64))
            return self._vmlinux, moved, np.ones(len(addresses), dtype=bool)
        module = self._module(name)
        if module is None:
            return None, addresses, np.zeros(len(addresses), dtype=bool)
        return module.symbolizer, *module.placement.file_addresses(addresses)

    def _listed_name(self, row: int) -> str | None:
        return self._kallsyms.name(row) if row >= 0 else None


def _symbol_list(sources: KernelSources) -> Kallsyms:
    """The symbols that the kernel lists; none at all where the slide is known without them."""
    path = sources.kallsyms or sources.system_map
    if path is None and sources.slide is not None:
        return Kallsyms("")
    kallsyms = Kallsyms.open(path or "/proc/kallsyms")
    if kallsyms.problem is not None:
        raise KernelError(
            kallsyms.problem + ("; or say how far the kernel was moved (--slide)" if path is None else "")
        )
    if sources.system_map is not None and sources.slide:
        kallsyms.move(sources.slide)
    return kallsyms


def _loaded_modules(sources: KernelSources) -> dict[str, LoadedModule]:
    """By name, from the lists that were named or those of this kernel."""
    path = sources.modules or ("/proc/modules" if sources.running else None)
    folder = sources.sections or ("/sys/module" if sources.running else None)
    loaded: dict[str, LoadedModule] = {}
    if path is not None:
        try:
            loaded = read_modules(Path(path).read_text(encoding="utf-8", errors="backslashreplace"))
        except OSError:
            if sources.modules is not None:  # a kernel without modules has no /proc/modules
                raise
    if folder is not None:
        names = loaded or ([each.name for each in Path(folder).iterdir()] if Path(folder).is_dir() else [])
        for name in list(names):
            module = loaded.get(name) or LoadedModule(name)
            add_sections(module, Path(folder))
            if module.sections:
                loaded[name] = module
    return loaded


def _no_vmlinux(looked_at: list[str], refused: list[str]) -> str:
    why = f"{'; '.join(refused)}; " if refused else ""
    return (
        f"no vmlinux with debugging information, so names have no lines: {why}looked at {', '.join(looked_at)}; "
        f"{kernel_debug_remedy()}, name the file (--vmlinux), or have it fetched (DEBUGINFOD_URLS)"
    )


def _no_module(name: str, files: KernelFiles) -> str:
    if not files.module_folders:
        return f"module {name} has no lines: name the folder of that kernel's modules (--module-dir)"
    return f"no file of module {name} in {', '.join(map(str, files.module_folders))}; name its folder (--module-dir)"
