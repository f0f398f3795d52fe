"""The files behind the mappings of a running process: the very ones that are mapped, whatever their names mean now.

A file may be deleted or replaced, or lie in another mount namespace. /proc/PID/map_files leads to the mapped file
itself, for root; /proc/PID/exe to the program, for whoever may trace it; /proc/PID/root to the process's own view of a
path, which counts when it is the file that is mapped, by its inode number or by the build-id in the process's memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import suppress

from cfi_tables.elf_image import PT_NOTE, ElfError, ElfImage, build_id_of_notes
from ptap.backend.ptrace.memory_map import MapRow
from ptap.snapshot.memory_copy import copy_memory
from relay_reader.capture import Mapping
from unwind.vdso import read_vdso

REMEDY = "it was replaced after the program started: start the program again, or run ptap as root"
_PAGE = 4096
_DELETED = " (deleted)"
_PROGRAM_OFFSET = 32
_PROGRAM_COUNT = 56
_PROGRAM_SIZE = 56
"""Bytes of a program header, and where the ELF header tells how many there are and where (gABI, 64-bit)."""


class MappedFiles:
    """Opens images for a `ModuleCatalog`: those that a process has mapped, by the rows of its snapshot.

    `pid` is the process, or a thread by which /proc tells of it.
    """

    def __init__(self, pid: int, rows: Sequence[MapRow]) -> None:
        self._pid = pid
        self._rows = {row.start: row for row in rows}

    def open(self, mapping: Mapping, pid: int) -> ElfImage:
        """The image behind `mapping`. Raises ElfError and OSError."""
        if mapping.path == "[vdso]":
            return read_vdso(self._pid, mapping)
        plain = mapping.path.removesuffix(_DELETED)
        row = self._rows.get(mapping.start)
        for link in (f"map_files/{mapping.start:x}-{mapping.end:x}", "exe"):
            path = f"/proc/{self._pid}/{link}"
            with suppress(OSError):
                if os.readlink(path) == mapping.path:
                    image = ElfImage.open(path)
                    image.path = plain
                    return image
        return self._by_name(plain, row)

    def _by_name(self, plain: str, row: MapRow | None) -> ElfImage:
        """The file that has that name now, if it is the one that is mapped."""
        path = f"/proc/{self._pid}/root{plain}"
        try:
            status = os.stat(path)
        except OSError:
            path = plain  # the process has ended
            status = os.stat(path)
        image = ElfImage.open(path)
        image.path = plain
        if row is not None and status.st_ino != row.inode:
            running = self._build_id_in_memory(row)
            if running is None or running != image.build_id:
                raise ElfError(f"{plain}: {REMEDY}")
        return image

    def _build_id_in_memory(self, mapped: MapRow) -> bytes | None:
        """The build-id of a mapped file as its first page in the process's memory tells it, None where it does not."""
        first = next(
            (row for row in self._rows.values() if row.inode == mapped.inode and row.path == mapped.path), mapped
        )
        if first.file_offset:
            return None
        page = bytes(copy_memory(self._pid, [(first.start, _PAGE)])[0][1])
        if len(page) < _PAGE or page[:5] != b"\x7fELF\x02":
            return None
        (at,) = struct.unpack_from("<Q", page, _PROGRAM_OFFSET)
        (count,) = struct.unpack_from("<H", page, _PROGRAM_COUNT)
        for index in range(count):
            header = page[at + index * _PROGRAM_SIZE : at + (index + 1) * _PROGRAM_SIZE]
            if len(header) == _PROGRAM_SIZE and header[:4] == struct.pack("<I", PT_NOTE):
                offset, size = struct.unpack_from("<Q", header, 8)[0], struct.unpack_from("<Q", header, 32)[0]
                found = build_id_of_notes(page[offset : offset + size], "<")
                if found is not None:
                    return found
        return None
