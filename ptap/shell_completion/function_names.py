"""Names of functions in a file, for completion: of its symbol index when one is kept, else of its symbol tables.

Nothing is built, compiled or fetched for this: the user waits with a finger on the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cfi_tables.elf_image import ElfError, ElfImage

_MOST_DEMANGLED = 50_000
"""Mangled names that are made readable for one completion; a tenth of a second."""


def function_names(path: str, prefix: str) -> set[str]:
    """The functions of the file at `path` whose names, as probes have them, begin with `prefix`.

    Empty for a file that cannot be read. Of a file with very many mangled names not all are looked at.
    """
    from unwind.symbolize.demangling import MANGLED, demangled
    from unwind.symbolize.function_name import without_parameters

    found: set[str] = set()
    # What was written of the function's own name occurs in a mangled name as it is; a scope may not (`std` is `St`).
    piece = re.split(r"\W", prefix)[-1] if "operator" not in prefix else ""
    left = _MOST_DEMANGLED
    for name in _names(path):
        if name.startswith(MANGLED):
            if (piece and piece not in name and not "std".startswith(piece)) or not left:
                continue
            left -= 1
            readable = without_parameters(demangled(name))
        else:
            readable = name.partition("@")[0].partition(".")[0]
        if readable.startswith(prefix) and '"' not in readable and readable:
            found.add(readable)
    return found


def _names(path: str) -> Iterator[str]:
    from cfi_tables.debug_file import separate_debug_file
    from unwind.symbolize.index_cache import cached_index
    from unwind.symbolize.index_lookup import Strings

    try:
        image = ElfImage.open(path)
        separate = separate_debug_file(image)
        debug = None if separate is None else separate.image
        index = cached_index(image, debug)
    except (ElfError, OSError):
        return
    if index is not None:
        arrays, count = index.arrays, index.counts["name_count"]
        yield from Strings(arrays["names"], arrays["name_begins"], count)
    yield from _symbols([image] if debug is None else [image, debug])


def _symbols(images: list[ElfImage]) -> Iterator[str]:
    """The names of the functions that the symbol tables of a file define."""
    import numpy as np

    from cfi_tables.mini_debug_info import mini_debug_symbols
    from cfi_tables.symbol_table import SHN_UNDEF, STT_FUNC, STT_GNU_IFUNC, symbols

    for image in images:
        for read in (lambda each: symbols(each, ".symtab"), lambda each: symbols(each, ".dynsym"), mini_debug_symbols):
            try:
                table = read(image)
            except ElfError:
                continue
            if table is not None:
                wanted = ((table.type == STT_FUNC) | (table.type == STT_GNU_IFUNC)) & (table.section != SHN_UNDEF)
                yield from map(table.name, np.flatnonzero(wanted).tolist())
