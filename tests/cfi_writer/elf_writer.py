"""ELF files put together from sections (System V gABI, chapters 4 and 5): little endian, 32 and 64 bits.

What lies at an address is mapped by one PT_LOAD segment of code a section, so file offsets and addresses are free.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

PROGBITS = 1
STRTAB = 3
NOBITS = 8
ALLOC = 2
EXECUTE = 4
COMPRESSED = 0x800


@dataclass(frozen=True)
class ElfSection:
    """One section; without `flags` it is not in memory."""

    name: str
    data: bytes = b""
    address: int = 0
    flags: int = 0
    type: int = PROGBITS
    size: int | None = None
    """Of NOBITS; else that of the data."""


def write_elf(machine: int, sections: Sequence[ElfSection], is_64bit: bool = True, file_type: int = 3) -> bytes:
    """The file; section i + 1 of it is `sections[i]`, the last one the section names."""
    names = bytearray(b"\0")
    places = []
    for each in (*sections, ElfSection(".shstrtab")):
        places.append(len(names))
        names += each.name.encode() + b"\0"
    every = [*sections, ElfSection(".shstrtab", bytes(names), type=STRTAB)]
    loaded = [each for each in sections if each.flags & EXECUTE]
    header_size, segment_size, section_size = (64, 56, 64) if is_64bit else (52, 32, 40)
    out = bytearray(header_size + segment_size * len(loaded))
    offsets = []
    for each in every:
        out += bytes(-len(out) % 16)
        offsets.append(len(out))
        out += each.data
    out += bytes(-len(out) % 16)
    table = len(out)
    out += bytes(section_size)
    for each, name, offset in zip(every, places, offsets, strict=True):
        size = len(each.data) if each.size is None else each.size
        out += struct.pack(
            "<IIQQQQIIQQ" if is_64bit else "<IIIIIIIIII",
            name, each.type, each.flags, each.address, offset, size, 0, 0, 1, 0,
        )  # fmt: skip
    identification = b"\x7fELF" + bytes([2 if is_64bit else 1, 1, 1]) + bytes(9)
    out[:header_size] = identification + struct.pack(
        "<HHIQQQIHHHHHH" if is_64bit else "<HHIIIIIHHHHHH",
        file_type, machine, 1, 0, header_size if loaded else 0, table, 0,
        header_size, segment_size, len(loaded), section_size, len(every) + 1, len(every),
    )  # fmt: skip
    for number, each in enumerate(loaded):
        size = len(each.data) if each.size is None else each.size
        offset = offsets[every.index(each)]
        in_file = 0 if each.type == NOBITS else size
        values = (offset, each.address, each.address, in_file, size)
        segment = struct.pack("<IIQQQQQQ", 1, 5, *values, 1) if is_64bit else struct.pack("<8I", 1, *values, 5, 1)
        at = header_size + number * segment_size
        out[at : at + segment_size] = segment
    return bytes(out)
