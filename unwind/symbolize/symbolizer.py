"""Batches of addresses of one module → frames in columns: by the module's symbol index, or without one.

The index is taken from the cache, or built and put there when a batch is large enough that it pays. A few addresses
without an index are answered from the units that they lie in, and nothing else is read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfi_tables.debug_file import DEBUG_DIRECTORIES, DebugFile, separate_debug_file
from cfi_tables.elf_image import ElfImage
from unwind.symbolize.address_source import ModuleLabel
from unwind.symbolize.index_cache import cached_index, keep_index
from unwind.symbolize.index_lookup import AddressFrames, IndexLookup

if TYPE_CHECKING:
    from unwind.arguments.argument_reader import Argument
    from unwind.symbolize.function_ranges import FunctionRanges
    from unwind.symbolize.missing_debug import MissingDebug
    from unwind.symbolize.module_symbols import ModuleSymbols

FEW = 16
"""Addresses up to which no index is built: they take less time than the whole module."""


class Symbolizer:
    """Symbolizes addresses of one ELF file; made by `open`."""

    def __init__(self, image: ElfImage, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> None:
        self.image = image
        self.problems: list[str] = []
        """What of the debugging information could not be used, where that was noticed."""
        self._directories = debug_directories
        self._lookup: IndexLookup | None = None
        self._asked = 0

    @classmethod
    def open(cls, path: str | Path, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES) -> Symbolizer:
        """The symbolizer of the ELF file at `path`. Raises ElfError or OSError when it cannot be opened."""
        return cls(ElfImage.open(path), debug_directories)

    @cached_property
    def _searched(self) -> DebugFile | None:
        return separate_debug_file(self.image, self._directories)

    @property
    def _debug_image(self) -> ElfImage | None:
        """The separate debug file, None where the file has its own debugging information or there is none."""
        return None if self._searched is None else self._searched.image

    @cached_property
    def _symbols(self) -> ModuleSymbols:
        from unwind.symbolize.module_symbols import ModuleSymbols

        return ModuleSymbols.from_files(self.image, self._searched, self._directories)

    def has_index(self) -> bool:
        """Whether there is an index, here or in the cache."""
        if self._lookup is None:
            index = cached_index(self.image, self._debug_image)
            if index is not None:
                self._lookup = IndexLookup(index)
        return self._lookup is not None

    def build_index(self) -> None:
        """Have an index: that of the cache, or one built now and put there. Raises TableError (`size_limit`).

        One that lacks what is in a file that is not there (a split file, one shared by dwz) is not kept: the file may
        come. A Go program without DWARF needs none: its own line table is sorted by address.
        """
        if self.has_index():
            return
        from unwind.symbolize.index_build import build_lookup, load_sections

        # Before anything is read: what is asked for first would be decompressed alone.
        load_sections(self._debug_image or self.image)
        if self._symbols.go_table is not None:
            return
        lookup = build_lookup(self._symbols)
        self.problems = self._symbols.problems
        if not self._symbols.lacks_files:
            keep_index(lookup.index, self.image, self._debug_image)
        self._lookup = lookup

    def frames(self, addresses: NDArray[np.uint64]) -> AddressFrames:
        """The frames at `addresses`: file virtual addresses, in any order.

        An address of which nothing is known, or whose unit is damaged, has no frames but a reason. Raises
        SymbolIndexError when the index was damaged after it was checked.
        """
        self._asked += len(addresses)
        if not self.has_index() and self._asked > FEW:
            self.build_index()
        if self._lookup is not None:
            return self._lookup.frames(addresses)
        from unwind.symbolize.unit_frames import unit_frames

        found = unit_frames(self._symbols, addresses)
        self.problems = self._symbols.problems
        return found

    @property
    def has_debug_information(self) -> bool:
        """Whether the file or its separate debug file has lines."""
        return (self._debug_image or self.image).has(".debug_info")

    @property
    def missing(self) -> MissingDebug | None:
        """Why the file has no lines, and the remedy; None where it has."""
        return self._symbols.missing

    def function_ranges(self, pattern: str, file: str | None = None) -> FunctionRanges | None:
        """Where the functions of that name are, see `function_ranges.function_ranges`; an index is made for it.

        None where a module can have no index, and nothing is known. Raises SymbolIndexError and TableError.
        """
        from unwind.symbolize.function_ranges import function_ranges

        self.build_index()
        return None if self._lookup is None else function_ranges(self._lookup, pattern, file)

    def function_names(self) -> set[str]:
        """The names, linkage names where there are, of the functions that the index tells of, which is made for it."""
        self.build_index()
        return set() if self._lookup is None else {name for name in self._lookup.names if name}

    def source_files(self) -> set[str]:
        """The source files that the index tells of, which is made for it."""
        self.build_index()
        return set() if self._lookup is None else {path for path in self._lookup.files if path}

    def symbol_start(self, address: int) -> int | None:
        """Where the symbol that covers an address begins, a part's own (`f.cold`) too; None where none does."""
        found = self._symbols.symbol_names.at(address)
        return None if found is None else found.address

    names_with_offsets = False

    def labels(self, addresses: NDArray[np.uint64]) -> list[ModuleLabel]:
        """The file, for each address."""
        build_id = self.image.build_id
        return [ModuleLabel(self.image.path, build_id.hex() if build_id else None)] * len(addresses)

    def arguments(self, address: int) -> list[list[Argument]]:
        """The parameters of each frame at an address, innermost first, read from the unit that it lies in.

        Of their values only constants are known; the others say why they are not. [] where DWARF knows no function.
        """
        from unwind.arguments.argument_reader import arguments_of
        from unwind.arguments.frame_state import state_of_address

        frames = self._symbols.frames_at(address)
        state = state_of_address(address, frames[-1].die if frames else None)
        return [[] if frame.die is None else arguments_of(frame.die, state) for frame in frames]

    def function_offsets(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """How far each address lies behind its function's entry, -1 where that is not known (as in cold parts)."""
        if self._lookup is not None:
            return self._lookup.function_offsets(addresses)
        from unwind.symbolize.unit_frames import unit_function_offsets

        return unit_function_offsets(self._symbols, addresses)


def symbolize(path: str | Path, addresses: NDArray[np.uint64]) -> AddressFrames:
    """The frames at `addresses` of the ELF file at `path`, see `Symbolizer.frames`. Raises ElfError and OSError."""
    return Symbolizer.open(path).frames(np.asarray(addresses, dtype=np.uint64))
