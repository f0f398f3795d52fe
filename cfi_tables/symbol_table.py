"""ELF symbol tables as columns (System V gABI, "Symbol Table").

Owns the reading of .symtab and .dynsym. Data comes from an `ElfImage`; it goes, as NumPy arrays with one
element a symbol, to symbol sources and to probe resolution. Names are decoded only when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import ElfError, ElfImage

STT_OBJECT = 1
STT_FUNC = 2
STT_TLS = 6
STT_GNU_IFUNC = 10
STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2
SHN_UNDEF = 0


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """The symbols of one table, one array element a symbol, in file order (element 0 is the null one)."""

    name_offset: NDArray[np.uint32]
    """Bytes from the start of `strings`."""
    value: NDArray[np.uint64]
    """Virtual address (in ET_REL: offset in the section)."""
    size: NDArray[np.uint64]
    """Bytes; 0 where unknown."""
    type: NDArray[np.uint8]
    """STT_*."""
    bind: NDArray[np.uint8]
    """STB_*."""
    section: NDArray[np.uint16]
    """Section index, SHN_UNDEF for a symbol that is defined elsewhere."""
    strings: bytes

    def __len__(self) -> int:
        return len(self.value)

    def name_bytes(self, index: int) -> bytes:
        """The raw name of symbol `index`; b"" when its offset lies outside of the string table."""
        start = int(self.name_offset[index])
        end = self.strings.find(b"\0", start)
        return self.strings[start:end] if end >= 0 else b""

    def name(self, index: int) -> str:
        """The name of symbol `index`, not demangled; bytes that are no UTF-8 are shown as escapes."""
        return self.name_bytes(index).decode("utf-8", "backslashreplace")

    def names(self) -> list[str]:
        """All names, in order."""
        return [self.name(index) for index in range(len(self))]

    def find(self, name: str) -> NDArray[np.int64]:
        """Indices of all symbols with exactly this name, found without decoding the others."""
        wanted = name.encode("utf-8", "surrogateescape") + b"\0"
        starts: list[int] = []
        at = self.strings.find(wanted)
        while at >= 0:
            starts.append(at)  # a tail of a longer string counts too: linkers share suffixes
            at = self.strings.find(wanted, at + 1)
        matching = np.isin(self.name_offset, np.array(starts, dtype=np.uint32))
        return np.flatnonzero(matching).astype(np.int64)


def symbols(image: ElfImage, section: str = ".symtab") -> SymbolTable | None:
    """The symbols of `.symtab` or `.dynsym`; None when the image has no such section.

    Raises ElfError when the table is damaged.
    """
    if not image.has(section):
        return None
    header = image.sections[section]
    order = image.byte_order
    if image.is_64bit:
        fields = [
            ("name", "u4"),
            ("info", "u1"),
            ("other", "u1"),
            ("shndx", "u2"),
            ("value", "u8"),
            ("size", "u8"),
        ]
    else:
        fields = [
            ("name", "u4"),
            ("value", "u4"),
            ("size", "u4"),
            ("info", "u1"),
            ("other", "u1"),
            ("shndx", "u2"),
        ]
    dtype = np.dtype([(name, order + kind) for name, kind in fields])
    data = image.section_data(section)
    if header.link == 0 or header.link >= len(image.section_list):
        raise ElfError(f"{image.path}: section {section} names no string table; the file is damaged, install it again")
    strings = image.contents(image.section_list[header.link]).tobytes()
    rows = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
    info = rows["info"].astype(np.uint8)
    return SymbolTable(
        name_offset=rows["name"].astype(np.uint32),
        value=rows["value"].astype(np.uint64),
        size=rows["size"].astype(np.uint64),
        type=(info & 15).astype(np.uint8),
        bind=(info >> 4).astype(np.uint8),
        section=rows["shndx"].astype(np.uint16),
        strings=strings,
    )
