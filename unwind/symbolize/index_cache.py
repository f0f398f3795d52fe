"""Symbol indices kept on disk, beside the unwind tables, so that a module's debugging information is read once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cfi_tables.cache import cached_path, keep, note_use
from cfi_tables.elf_image import ElfImage
from unwind.symbolize.index_layout import FORMAT_VERSION
from unwind.symbolize.symbol_index import SymbolIndex, SymbolIndexError

_BUILD_ID_LENGTH = 32


def index_path(image: ElfImage, debug: ElfImage | None) -> Path:
    """Where the index of `image`, made with the separate file `debug`, is kept."""
    return cached_path(image, debug, FORMAT_VERSION, "symbols")


def cached_index(image: ElfImage, debug: ElfImage | None) -> SymbolIndex | None:
    """The index of `image` in the cache, None when there is none that can be used."""
    path = index_path(image, debug)
    with suppress(OSError, SymbolIndexError):
        index = SymbolIndex.load(path)
        if index.machine == image.machine and index.build_id == (image.build_id or b"")[:_BUILD_ID_LENGTH]:
            note_use(path)
            return index
    return None


def keep_index(index: SymbolIndex, image: ElfImage, debug: ElfImage | None) -> None:
    """Put an index into the cache; that it cannot be written is no error."""
    keep(index_path(image, debug), len(index.data), index.save)
