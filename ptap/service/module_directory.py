"""The programs and libraries that the served files tell of, by the names that the Firefox Profiler has for them.

Owns which files symbols and sources may be of: no request names a path, it names a module that a capture has mapped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cached_property
from os.path import basename
from pathlib import Path
from typing import TYPE_CHECKING

from cfi_tables.debug_file import DEBUG_DIRECTORIES
from cfi_tables.elf_image import PT_LOAD, ElfError
from cfi_tables.table_check import TableError
from ptap.profile.firefox import breakpad_id
from ptap.profile.json_text import json_text
from relay_reader.capture import Mapping
from relay_reader.capture_file.reader import CaptureFile, CaptureFileError
from relay_reader.capture_kind import CaptureKind
from unwind.capture_file_images import CaptureFileImages
from unwind.symbolize.symbol_index import SymbolIndexError
from unwind.symbolize.symbolizer import Symbolizer

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from ptap.service.capture_facts import CaptureFacts
    from ptap.service.mapped_file import MappedFile


SYMBOL_ERRORS = (ElfError, SymbolIndexError, TableError)
"""What the symbols of a damaged module raise when they are asked."""


class UnknownModule(Exception):
    """No served file tells of the module, or its file cannot be used; the text says why."""


class ServedModule:
    """One module with its symbols."""

    def __init__(self, image: ElfImage, debug_directories: tuple[str, ...]) -> None:
        self.symbolizer = Symbolizer(image, debug_directories)
        self.base: int = next((each.address for each in image.segments if each.type == PT_LOAD), 0)
        """What offsets count from: the file virtual address of the first loaded segment."""

    @cached_property
    def source_files(self) -> frozenset[str]:
        """The source files that the debugging information names."""
        return frozenset(self.symbolizer.source_files())


class _Index:
    """The modules of some files by what requests name them by."""

    def __init__(self, facts: list[CaptureFacts]) -> None:
        self.facts = facts
        self.by_identity: dict[str, dict[MappedFile, None]] = {}
        self.unidentified: dict[str, dict[MappedFile, None]] = {}
        """By name, those whose build-ids the captures do not tell."""
        for module in (module for each in facts for module in each.modules):
            if module.build_id:
                self.by_identity.setdefault(breakpad_id(module.build_id.hex()), {})[module] = None
            else:
                self.unidentified.setdefault(json_text(basename(module.path)), {})[module] = None


def _are_same(some: list[CaptureFacts], others: list[CaptureFacts]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


class ModuleDirectory:
    """Modules of what `files` gives: paths of served files with their facts. At most `limit` are open at once.

    `sysroot` is where the files of the machine that was traced lie, but for those `named` by the user.
    """

    def __init__(
        self,
        files: Callable[[], Iterable[tuple[str, CaptureFacts]]],
        named: tuple[str, ...] = (),
        sysroot: str = "/",
        limit: int = 64,
    ) -> None:
        self._files = files
        self._limit = limit
        self._images = CaptureFileImages({}, self._kept_part, sysroot, as_they_are=named)
        own = tuple(str(Path(sysroot, each.lstrip("/"))) for each in DEBUG_DIRECTORIES)
        self._directories = tuple(dict.fromkeys([*own, *DEBUG_DIRECTORIES]))
        self._open: OrderedDict[MappedFile, ServedModule] = OrderedDict()
        self._index: _Index | None = None
        self._build_ids: dict[str, bytes | None] = {}
        """Of files whose captures do not tell them."""

    def find(self, name: str, identity: str) -> ServedModule:
        """The module with that breakpad id, or where it has none with that debug name. Raises UnknownModule."""
        index = self._current_index()
        fitting = list(index.by_identity.get(identity.upper(), ()))
        for module in index.unidentified.get(name, ()):
            build_id = self._found_build_id(module)
            if breakpad_id(build_id.hex() if build_id else None) == identity.upper():
                fitting.append(module)
        if not fitting:
            raise UnknownModule(f"no served file tells of a module {name!r} with id {identity!r}")
        if not identity and len(fitting) > 1:
            raise UnknownModule(f"{len(fitting)} modules are named {name!r} and have no build-id to tell them apart")
        return self._opened(fitting)

    def _current_index(self) -> _Index:
        """The modules of all served files as they are now."""
        facts = [each for _, each in self._files()]
        if self._index is None or not _are_same(self._index.facts, facts):
            self._index = _Index(facts)
        return self._index

    def _found_build_id(self, module: MappedFile) -> bytes | None:
        """The build-id of the file at the place of a module whose capture tells none, as reports have it."""
        if module.path not in self._build_ids:
            try:
                self._build_ids[module.path] = self._image(module).build_id
            except UnknownModule:
                self._build_ids[module.path] = None
        return self._build_ids[module.path]

    def _opened(self, modules: list[MappedFile]) -> ServedModule:
        """The first of the modules, all the same, that can be opened."""
        problems: list[str] = []
        for module in modules:
            if module not in self._open:
                try:
                    self._open[module] = ServedModule(self._image(module), self._directories)
                except UnknownModule as unknown:
                    problems.append(str(unknown))
                    continue
            self._open.move_to_end(module)
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
            return self._open[module]
        raise UnknownModule("; ".join(problems))

    def _image(self, module: MappedFile) -> ElfImage:
        try:
            image = self._images.open(Mapping(0, 0, 0, module.path, module.build_id), 0)
        except ElfError as error:
            raise UnknownModule(str(error)) from None
        except OSError as error:
            raise UnknownModule(f"{module.path}: {error.strerror}") from None
        if module.build_id is not None and image.build_id not in (None, module.build_id):
            raise UnknownModule(f"{module.path}: the file there is of another build than the one that ran")
        return image

    def _kept_part(self, build_id: bytes) -> bytes:
        """What a capture file has kept of a module, b"" for nothing."""
        for path, facts in self._files():
            if facts.kind != CaptureKind.CAPTURE.value or all(each.build_id != build_id for each in facts.modules):
                continue
            try:
                file = CaptureFile(path)
                file.read_blobs()
            except (CaptureFileError, OSError):
                continue
            for (_, name), content in file.blobs.items():
                if name == f"file {build_id.hex()}":
                    return content
        return b""
