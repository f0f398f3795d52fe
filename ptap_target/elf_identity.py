"""What an ELF file says of itself, as far as its mappings need: build-id, and where its code belongs. No libraries."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PT_LOAD, _PT_NOTE, _PF_X = 1, 4, 1
_NT_GNU_BUILD_ID = 3
_PAGE = 4096
_HEAD_BYTES = 1 << 16
"""What is read of a file: the headers, and in nearly all files the notes, too (the longest are 1 KiB behind them)."""


@dataclass(frozen=True)
class _Shape:
    """Where an ELF class has what is read (gABI chapters 4 and 5)."""

    address: str
    table_at: int
    entry_size_at: int
    header: struct.Struct
    fields: tuple[str, ...]


_SHAPES = {
    1: _Shape(
        "<I", 28, 42, struct.Struct("<8I"),
        ("type", "offset", "address", "physical", "size", "in_memory", "flags", "align"),
    ),
    2: _Shape(
        "<Q", 32, 54, struct.Struct("<IIQQQQQQ"),
        ("type", "flags", "offset", "address", "physical", "size", "in_memory", "align"),
    ),
}  # fmt: skip
"""By e_ident[EI_CLASS]."""


@dataclass(frozen=True)
class ElfIdentity:
    """One little-endian ELF file."""

    build_id: str | None
    """Hexadecimal digits."""
    code: tuple[tuple[int, int, int], ...]
    """(file offset, size in the file, address) of each executable segment."""

    def bias(self, start: int, file_offset: int) -> int | None:
        """Run-time address minus address in the file, of a mapping; None when it maps no code of the file."""
        for offset, size, address in self.code:
            if offset - offset % _PAGE <= file_offset < offset + max(size, 1):
                return start - (address - offset + file_offset)
        return None


def is_narrow(content: bytes) -> bool:
    """Whether the ELF file that begins with `content` is of 32-bit code."""
    return content[4:5] == b"\x01"


def elf_identity(content: bytes) -> ElfIdentity | None:
    """The identity of the file that begins with `content` (_HEAD_BYTES of it); None for what is no such file."""
    if len(content) < 64 or content[:4] != b"\x7fELF" or content[4] not in _SHAPES or content[5] != 1:
        return None
    shape = _SHAPES[content[4]]
    (table,) = struct.unpack_from(shape.address, content, shape.table_at)
    entry_size, count = struct.unpack_from("<HH", content, shape.entry_size_at)
    build_id = None
    code = []
    for number in range(count):
        at = table + number * entry_size
        if entry_size < shape.header.size or at + shape.header.size > len(content):
            break
        fields = dict(zip(shape.fields, shape.header.unpack_from(content, at), strict=True))
        kind, offset, size = fields["type"], fields["offset"], fields["size"]
        if kind == _PT_LOAD and fields["flags"] & _PF_X:
            code.append((offset, size, fields["address"]))
        elif kind == _PT_NOTE and build_id is None:
            build_id = _build_id(content[offset : offset + size], 8 if fields["align"] == 8 else 4)
    return ElfIdentity(build_id, tuple(code))


def _build_id(notes: bytes, align: int) -> str | None:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        begin = at + 12 + -(-name_size // 4) * 4
        begin = -(-begin // align) * align
        if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0" and begin + size <= len(notes):
            return notes[begin : begin + size].hex()
        at = -(-(begin + size) // align) * align
    return None


def read_identity(path: str) -> ElfIdentity | None:
    """That of the file at `path`. Raises OSError."""
    with open(path, "rb") as file:
        return elf_identity(file.read(_HEAD_BYTES))
