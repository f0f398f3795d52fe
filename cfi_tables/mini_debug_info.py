"""MiniDebugInfo: a symbol table that distributions leave in stripped programs, xz-compressed, in .gnu_debugdata.

Owns its unwrapping. The section holds an ELF file whose .symtab has the functions that .dynsym has not (gdb's
manual, "Debugging information in a special section"), so the two are given as one table. No lines are in it.
"""

from __future__ import annotations

import numpy as np

from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import expand
from cfi_tables.symbol_table import SymbolTable, symbols

SECTION = ".gnu_debugdata"


def mini_debug_image(image: ElfImage) -> ElfImage | None:
    """The ELF file in .gnu_debugdata, None where there is no such section. Raises ElfError when it is damaged."""
    if not image.has(SECTION):
        return None
    name = f"{image.path} ({SECTION})"
    return ElfImage.from_bytes(expand(image.section_data(SECTION).tobytes(), name), name)


def mini_debug_symbols(image: ElfImage) -> SymbolTable | None:
    """The symbols of .gnu_debugdata and of .dynsym in one table, with the section indices of `image`.

    None where there is no .gnu_debugdata, or no symbols in it. Raises ElfError when something is damaged.
    """
    inner = mini_debug_image(image)
    found = symbols(inner) if inner is not None else None
    if inner is None or found is None:
        return None
    # Stripping may have renumbered the sections; one without a counterpart counts as not there.
    indices = np.zeros(1 << 16, dtype=np.uint16)
    for section in inner.section_list[: 1 << 16]:
        counterpart = image.sections.get(section.name)
        if counterpart is not None and counterpart.address == section.address:
            indices[section.index] = counterpart.index
    found = SymbolTable(
        found.name_offset, found.value, found.size, found.type, found.bind, indices[found.section], found.strings
    )
    dynamic = symbols(image, ".dynsym")
    return found if dynamic is None else _joined(dynamic, found)


def _joined(first: SymbolTable, second: SymbolTable) -> SymbolTable:
    return SymbolTable(
        name_offset=np.concatenate([first.name_offset, second.name_offset + np.uint32(len(first.strings))]),
        value=np.concatenate([first.value, second.value]),
        size=np.concatenate([first.size, second.size]),
        type=np.concatenate([first.type, second.type]),
        bind=np.concatenate([first.bind, second.bind]),
        section=np.concatenate([first.section, second.section]),
        strings=first.strings + second.strings,
    )
