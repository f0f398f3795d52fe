"""The headers of an ELF file of either class (gABI, chapters 4 and 5), as far as a core file's reader needs them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ELF_MAGIC = b"\x7fELF"
IDENTIFICATION_SIZE = 16
_NOTE = struct.Struct("<III")
_NT_GNU_BUILD_ID = 3
_LARGEST_BUILD_ID = 64


@dataclass(frozen=True, slots=True)
class ElfHeader:
    """What follows the identification."""

    kind: int
    machine: int
    table: int
    """Offset of the program headers."""
    sections: int
    entry_size: int
    count: int


@dataclass(frozen=True, slots=True)
class ProgramHeader:
    """One program header; sizes and addresses in bytes."""

    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class ElfClass:
    """ELFCLASS32 or ELFCLASS64, little-endian."""

    number: int
    header: struct.Struct
    segment: struct.Struct
    segment_order: tuple[int, int, int, int, int, int]
    """Where kind, flags, offset, address, file size and memory size stand in a program header."""
    first_section_info: int
    """Offset of sh_info in a section header."""

    def read_header(self, data: bytes) -> ElfHeader:
        """The header in `data`, which begins behind the identification and is long enough."""
        kind, machine, _, _, table, sections, _, _, entry_size, count, _, _, _ = self.header.unpack_from(data)
        return ElfHeader(kind, machine, table, sections, entry_size, count)

    def read_program_headers(self, data: bytes) -> list[ProgramHeader]:
        """The whole program headers in `data`."""
        whole = len(data) // self.segment.size * self.segment.size
        return [
            ProgramHeader(*(row[place] for place in self.segment_order))
            for row in self.segment.iter_unpack(data[:whole])
        ]


_CLASSES = {
    1: ElfClass(1, struct.Struct("<HHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), (0, 6, 1, 2, 4, 5), 28),
    2: ElfClass(2, struct.Struct("<HHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), (0, 1, 2, 3, 5, 6), 44),
}


def elf_class(number: int) -> ElfClass | None:
    """The class that byte 4 of an identification tells; None for a number that is none."""
    return _CLASSES.get(number)


def build_id_in(notes: bytes) -> bytes | None:
    """The build-id among the notes of an ELF image."""
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, content_size, kind = _NOTE.unpack_from(notes, at)
        content = at + _NOTE.size + (name_size + 3 & ~3)
        if content + content_size > len(notes):
            return None
        if kind == _NT_GNU_BUILD_ID and notes[at + _NOTE.size : at + _NOTE.size + 4] == b"GNU\0":
            return notes[content : content + content_size] if 0 < content_size <= _LARGEST_BUILD_ID else None
        at = content + content_size + 3 & ~3
    return None
