"""Names of a kernel's addresses by the symbol indexes of its files, for stacks that were walked again.

Debugging information of the kernel has units of thousands of functions. Where an index is there it says the same, of
one address at a time too. Without one a file's units are read as those of any other.
"""

from __future__ import annotations

import numpy as np

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.demangling import readable_name
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.symbolize.symbolizer import Symbolizer


class IndexedNames:
    """The frames at addresses of the kernel's files, as far as these have an index."""

    def __init__(self) -> None:
        self._symbolizers: dict[str, Symbolizer | None] = {}
        self._found: dict[tuple[str, int], list[SymbolFrame]] = {}

    def frames_at(self, image: ElfImage, address: int) -> list[SymbolFrame]:
        """Frames at a file virtual address, innermost first; [] without an index, and of what it does not know.

        Raises SymbolIndexError when the index was damaged after it was checked.
        """
        key = image.path, address
        found = self._found.get(key)
        if found is None:
            symbolizer = self._symbolizer(image)
            found = self._found[key] = _frames(symbolizer, address) if symbolizer is not None else []
        return found

    def _symbolizer(self, image: ElfImage) -> Symbolizer | None:
        if image.path not in self._symbolizers:
            symbolizer = Symbolizer(image)
            self._symbolizers[image.path] = symbolizer if symbolizer.has_index() else None
        return self._symbolizers[image.path]


def _frames(symbolizer: Symbolizer, address: int) -> list[SymbolFrame]:
    asked = np.array([address], dtype=np.uint64)
    found = symbolizer.frames(asked)
    offset = int(symbolizer.function_offsets(asked)[0])
    frames = []
    for row in range(len(found.names)):
        name, inlined = found.name_table[found.names[row]], bool(found.inlined[row])
        frames.append(
            SymbolFrame(
                function=readable_name(name) if name else None,
                linkage_name=None,
                offset=offset if offset >= 0 and not inlined else None,
                file=found.file_table[found.files[row]] or None,
                line=int(found.lines[row]) or None,
                column=int(found.columns[row]) or None,
                inlined=inlined,
            )
        )
    return frames
