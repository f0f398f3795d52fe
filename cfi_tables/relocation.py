"""Relocatable objects and kernel modules (ET_REL): addresses for their sections, and relocations applied.

Owns the *link view*: where each section of an object counts as lying, so that a table can be built before the
object is linked or loaded. Sections that hold code come first, one after the other in the order of the section
headers, from address 0, each aligned as its header asks; then all other sections that have memory. Debug
sections are at 0, as in a linked file: what refers to them means an offset.
A loader that knows where it put a section finds a row's place as section base + (address - `addresses[section]`).

Symbols that are not defined in the object get `unresolved`, an address behind all sections: what refers to them
describes no code of this object. Relocation types are those that compilers write into CFI, debug and ORC
sections (psABIs of x86-64 §4.4, i386 §4.4, ELF for the Arm 64-bit Architecture §5.7).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import (
    EM_386,
    EM_AARCH64,
    EM_X86_64,
    ET_REL,
    SHF_ALLOC,
    SHF_EXECINSTR,
    ElfError,
    ElfImage,
    Section,
)
from cfi_tables.symbol_table import SymbolTable

SHT_SYMTAB = 2
SHT_RELA = 4
SHT_REL = 9
SHT_SYMTAB_SHNDX = 18
SHN_LORESERVE = 0xFF00
SHN_ABS = 0xFFF1
SHN_XINDEX = 0xFFFF

# Relocation type -> (bytes, whether the place's address is subtracted). None does nothing.
_TYPES: dict[int, dict[int, tuple[int, bool] | None]] = {
    EM_X86_64: {
        0: None, 1: (8, False), 2: (4, True), 4: (4, True), 10: (4, False), 11: (4, False), 24: (8, True),
        # Places in thread-local storage (DTPOFF64, DTPOFF32), which only the linker lays out: not told here.
        17: None, 21: None,
    },
    EM_386: {0: None, 1: (4, False), 2: (4, True), 4: (4, True)},
    EM_AARCH64: {
        0: None, 256: None, 257: (8, False), 258: (4, False), 259: (2, False), 260: (8, True), 261: (4, True),
        262: (2, True),
    },
}  # fmt: skip
_LARGEST = 1 << 40


@dataclass(frozen=True, slots=True)
class LinkView:
    """Where the sections of one object count as lying."""

    addresses: tuple[int, ...]
    """By section index; 0 for sections that have no memory."""
    unresolved: int
    """What symbols of other objects count as."""
    code_ranges: tuple[tuple[int, int], ...]
    """Of the sections that hold code."""


@lru_cache(maxsize=8)
def link_view(image: ElfImage) -> LinkView:
    """The link view of an ET_REL image. Raises ElfError when its sections cannot be laid out."""
    addresses = [0] * len(image.section_list)
    code: list[tuple[int, int]] = []
    at = 0
    for kind in (SHF_ALLOC | SHF_EXECINSTR, SHF_ALLOC):
        for section in image.section_list:
            if section.index == 0 or section.flags & (SHF_ALLOC | SHF_EXECINSTR) != kind:
                continue
            if section.alignment > 1:
                if section.alignment & (section.alignment - 1):
                    raise ElfError(
                        f"{image.path}: section {section.name} has the alignment {section.alignment}, no power of "
                        "two; the file is damaged, build it again"
                    )
                at = at + section.alignment - 1 & -section.alignment
            addresses[section.index] = at
            if kind & SHF_EXECINSTR and section.size:
                code.append((at, at + section.size))
            at += section.size
            if at > _LARGEST:
                raise ElfError(
                    f"{image.path}: section {section.name} would end at {at:#x}; the file is damaged, build it again"
                )
    return LinkView(tuple(addresses), at + 0x1000, tuple(code))


def section_addresses(image: ElfImage) -> tuple[int, ...]:
    """Where each section lies, by its index: as its header says, or in an object's link view. Raises ElfError."""
    if image.file_type == ET_REL:
        return link_view(image).addresses
    return tuple(section.address for section in image.section_list)


def placed_symbols(image: ElfImage, table: SymbolTable) -> SymbolTable:
    """`table` with addresses: the values of an ET_REL image, which count from their section, in its link view.

    Raises ElfError.
    """
    if image.file_type != ET_REL:
        return table
    bases = np.zeros(1 << 16, dtype=np.uint64)
    addresses = section_addresses(image)[:SHN_LORESERVE]
    bases[: len(addresses)] = addresses
    return replace(table, value=table.value + bases[table.section])


def relocated_contents(image: ElfImage, section: Section) -> NDArray[np.uint8]:
    """The contents of `section`, decompressed, with its relocations applied in the link view.

    Raises ElfError for a relocation that is not known or lies outside of its section or symbol table.
    """
    contents = image.contents(section)
    for table in image.section_list:
        if table.type in (SHT_RELA, SHT_REL) and table.info == section.index and table.size:
            contents = _apply(image, section, contents, table)
    return contents


def _apply(image: ElfImage, section: Section, contents: NDArray[np.uint8], table: Section) -> NDArray[np.uint8]:
    known = _TYPES.get(image.machine)
    if known is None:
        raise ElfError(f"{image.path}: relocations of ELF machine {image.machine} are not known; link the object")
    view = link_view(image)
    offsets, types, numbers, addends = _read_relocations(image, table)
    symbols = _symbol_values(image, table, view)
    if len(numbers) and int(numbers.max()) >= len(symbols):
        raise ElfError(f"{image.path}: section {table.name} names a symbol that is not there; build the file again")
    contents = contents.copy()
    for number in np.unique(types).tolist():
        if number not in known:
            raise ElfError(
                f"{image.path}: section {table.name} has relocations of type {number} (ELF machine "
                f"{image.machine}), which is not known for call frame information; link the object first"
            )
        how = known[number]
        if how is None:
            continue
        size, relative = how
        chosen = types == number
        places = offsets[chosen]
        if (places > len(contents) - size).any():
            raise ElfError(f"{image.path}: section {table.name} relocates behind the end of {section.name}")
        cells = places[:, None] + np.arange(size)
        values = symbols[numbers[chosen]]
        if addends is None:  # REL: the addend is what stands at the place
            values = values + _read(contents[cells], size, image.byte_order)
        else:
            values = values + addends[chosen]
        if relative:
            values = values - (places + view.addresses[section.index])
        as_bytes = values.astype(f"{image.byte_order}i8").view(np.uint8).reshape(-1, 8)
        contents[cells] = as_bytes[:, :size] if image.little_endian else as_bytes[:, 8 - size :]
    return contents


def _read(cells: NDArray[np.uint8], size: int, byte_order: str) -> NDArray[np.int64]:
    """Signed integers from rows of bytes."""
    flat = np.ascontiguousarray(cells).reshape(-1)
    return flat.view(f"{byte_order}i{size}").astype(np.int64)


def _read_relocations(
    image: ElfImage, table: Section
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64] | None]:
    """(offset, type, symbol number, addend or None for REL), one element a relocation."""
    word = f"{image.byte_order}i{image.address_size}"
    fields = [("offset", word), ("info", word)]
    if table.type == SHT_RELA:
        fields.append(("addend", word))
    dtype = np.dtype(fields)
    data = image.contents(table)
    if len(data) % dtype.itemsize:
        raise ElfError(f"{image.path}: section {table.name} is no whole number of entries; build the file again")
    rows = data.view(dtype)
    offsets, info = rows["offset"].astype(np.int64), rows["info"].astype(np.int64)
    if len(offsets) and int(offsets.min()) < 0:
        raise ElfError(f"{image.path}: section {table.name} has a negative offset; build the file again")
    addends = rows["addend"].astype(np.int64) if table.type == SHT_RELA else None
    if image.is_64bit:
        return offsets, info & 0xFFFFFFFF, (info >> 32) & 0xFFFFFFFF, addends
    return offsets, info & 0xFF, (info >> 8) & 0xFFFFFF, addends


def _symbol_values(image: ElfImage, table: Section, view: LinkView) -> NDArray[np.int64]:
    """The address of each symbol that the relocations of `table` may name."""
    if not 0 < table.link < len(image.section_list) or image.section_list[table.link].type != SHT_SYMTAB:
        raise ElfError(f"{image.path}: section {table.name} names no symbol table; build the file again")
    layout = struct.Struct(image.byte_order + ("IBBHQQ" if image.is_64bit else "IIIBBH"))
    data = image.contents(image.section_list[table.link])
    count = len(data) // layout.size
    fields = (
        [("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2"), ("value", "i8"), ("size", "i8")]
        if image.is_64bit
        else [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")]
    )
    rows = data[: count * layout.size].view(np.dtype([(name, image.byte_order + kind) for name, kind in fields]))
    sections = rows["section"].astype(np.int64)
    if (sections == SHN_XINDEX).any():
        sections = np.where(sections == SHN_XINDEX, _extended_sections(image, table.link, count), sections)
    values = rows["value"].astype(np.int64)
    bases = np.array(view.addresses, dtype=np.int64)
    defined = (sections > 0) & (sections < len(bases))
    absolute = rows["section"] == SHN_ABS
    found = np.full(count, view.unresolved, dtype=np.int64)
    found[defined] = values[defined] + bases[sections[defined]]
    found[absolute] = values[absolute]
    found[:1] = 0  # the null symbol: a relocation without a symbol
    return found


def _extended_sections(image: ElfImage, link: int, count: int) -> NDArray[np.int64]:
    """Section indices of an object with more sections than 16 bits hold (SHT_SYMTAB_SHNDX)."""
    for section in image.section_list:
        if section.type == SHT_SYMTAB_SHNDX and section.link == link:
            words = image.contents(section)
            if len(words) >= 4 * count:
                return words[: 4 * count].view(f"{image.byte_order}u4").astype(np.int64)
    raise ElfError(f"{image.path}: the section indices of its symbols are missing; build the file again")
