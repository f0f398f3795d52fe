"""Core files with more notes than their writer gave them: what the kernel writes and QEMU's user emulation does not.

A note is (name, type, contents). They go to the end of the file, behind a copy of the notes that are there, and the
program header of the notes is made to point to them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from relay_reader.core_note import NT_ARM_PAC_MASK, NT_FILE, NT_PRFPREG, MappedFile

PT_NOTE = 4
Note = tuple[bytes, int, bytes]


def _packed(name: bytes, kind: int, content: bytes) -> bytes:
    named = name + b"\0"
    padded = b"".join(part + bytes(-len(part) % 4) for part in (named, content))
    return struct.pack("<III", len(named), len(content), kind) + padded


def with_notes(core: Path, made: Path, notes: Iterable[Note]) -> Path:
    """`made`, a copy of the 64-bit core file `core` with more notes."""
    data = bytearray(core.read_bytes())
    (table,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    for at in range(table, table + 56 * count, 56):
        (kind,) = struct.unpack_from("<I", data, at)
        if kind == PT_NOTE:
            (offset,) = struct.unpack_from("<Q", data, at + 8)
            (size,) = struct.unpack_from("<Q", data, at + 32)
            whole = bytes(data[offset : offset + size]) + b"".join(_packed(*note) for note in notes)
            data += bytes(-len(data) % 16)
            struct.pack_into("<Q", data, at + 8, len(data))
            struct.pack_into("<Q", data, at + 32, len(whole))
            made.write_bytes(data + whole)
            return made
    raise AssertionError(f"{core} has no notes")


def mapped_files(files: list[MappedFile]) -> Note:
    """NT_FILE, offsets in bytes."""
    entries = b"".join(struct.pack("<QQQ", each.start, each.end, each.file_offset) for each in files)
    names = b"".join(each.path.encode() + b"\0" for each in files)
    return b"CORE", NT_FILE, struct.pack("<QQ", len(files), 1) + entries + names


def signature_mask(mask: int) -> Note:
    """NT_ARM_PAC_MASK."""
    return b"LINUX", NT_ARM_PAC_MASK, struct.pack("<QQ", mask, mask)


def vector_registers(values: list[int]) -> Note:
    """NT_PRFPREG of aarch64: v0-v31."""
    return b"CORE", NT_PRFPREG, b"".join(value.to_bytes(16, "little") for value in values) + bytes(16)
