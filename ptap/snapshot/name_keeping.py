"""What a report has read of the names of modules, kept for the next one: an index of all where that takes a moment.

Otherwise the frames of the addresses that were asked for are kept.
"""

from __future__ import annotations

from contextlib import suppress

from cfi_tables.debug_file import separate_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.table import TableError
from unwind.module import ModuleCatalog
from unwind.symbolize.kept_frames import KeptFrames, NamedFrame
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbolizer import Symbolizer

_LARGEST = 64 << 20
"""Bytes of .debug_info that are indexed without being asked, in about two seconds."""


def keep_names(catalog: ModuleCatalog) -> None:
    """Keep the names of the modules of which some were asked."""
    for module in catalog.opened():
        if module.image is None or "symbols" not in module.__dict__ or module.symbols is None:
            continue
        if module.symbols.problems or module.symbols.go_table is not None:
            continue  # what is damaged is told each time; Go's own table is quick
        searched = separate_debug_file(module.image)
        debug = None if searched is None else searched.image
        with suppress(ElfError, TableError, OSError):
            symbolizer = Symbolizer(module.image)
            if symbolizer.has_index():
                continue
            if _takes_long(module.image if searched is None else debug):
                _keep_frames(module.symbols, debug)
            else:
                symbolizer.build_index()


def _keep_frames(symbols: ModuleSymbols, debug: ElfImage | None) -> None:
    """Keep the frames that were asked for, beside those that are kept already."""
    if symbols.lacks_files:
        return  # they may come, and tell more
    has_debug = symbols.debug_info is not None
    kept = KeptFrames.load(symbols.image, debug) or KeptFrames(has_debug, {})
    found = {
        address: [
            NamedFrame(each.function, each.offset, each.file, each.line, each.column, each.inlined) for each in frames
        ]
        for address, frames in symbols.known_frames().items()
    }
    kept.add(found, symbols.image, debug)


def _takes_long(debug: ElfImage | None) -> bool:
    """Whether an index takes more than a moment: for its size, or because what makes it is to be compiled first."""
    from unwind.symbolize.unit_scan import scan_units

    section = None if debug is None else debug.sections.get(".debug_info")
    loop: object = compiled(scan_units)
    return not getattr(loop, "is_kept", False) or (section is not None and section.size > _LARGEST)
