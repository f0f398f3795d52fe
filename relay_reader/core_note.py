"""The notes of core files: threads, the process, mapped files, the auxiliary vector.

Owns their layouts, which are the kernel's (include/uapi/linux/elfcore.h, struct elf_prstatus and elf_prpsinfo;
fs/binfmt_elf.c, fill_files_note); gdb's gcore writes the same. They depend on the size of a word; which registers stand
where is the architecture's (`core_layout`). Every length is checked against the note; what does not fit raises
NoteError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay_reader.core_layout import CoreLayout

NT_PRSTATUS = 1
NT_PRFPREG = 2
NT_PRPSINFO = 3
NT_AUXV = 6
NT_FILE = 0x46494C45
NT_SIGINFO = 0x53494749
NT_ARM_PAC_MASK = 0x406

AT_PHDR = 3
AT_PHNUM = 5
AT_BASE = 7
AT_ENTRY = 9
AT_EXECFN = 31
AT_SYSINFO_EHDR = 33

_WORD = {4: "I", 8: "Q"}
_STATUS_SIGNAL = 12
# By the size of a word: the offsets of pr_pid and pr_reg in elf_prstatus, of pr_pid and pr_fname in elf_prpsinfo.
_STATUS_PID = {4: 24, 8: 32}
_STATUS_REGISTERS = {4: 72, 8: 112}
_PROCESS_PID = {4: 12, 8: 24}
_PROCESS_NAME = {4: 28, 8: 40}
_NAME_SIZE = 16


class NoteError(Exception):
    """A note is shorter than what it is to hold."""


@dataclass(frozen=True, slots=True)
class ThreadStatus:
    """NT_PRSTATUS: one thread as it was stopped."""

    tid: int
    signal: int
    """The number of the signal that stopped it, 0 for none. The kernel writes the fatal one for every thread."""
    registers: tuple[int, ...]
    """In DWARF order, as in `relay_reader.capture.Sample`."""


@dataclass(frozen=True, slots=True)
class MappedFile:
    """One entry of NT_FILE: `[start, end)` maps `path` from byte `file_offset` on."""

    start: int
    end: int
    file_offset: int
    path: str


def read_status(data: bytes, layout: CoreLayout) -> ThreadStatus:
    """NT_PRSTATUS. Raises NoteError."""
    at, size = _STATUS_REGISTERS[layout.word_size], layout.word_size
    if len(data) < at + size * layout.register_words:
        raise NoteError
    registers = struct.unpack_from(f"<{layout.register_words}{_WORD[size]}", data, at)
    return ThreadStatus(
        tid=struct.unpack_from("<i", data, _STATUS_PID[size])[0],
        signal=struct.unpack_from("<h", data, _STATUS_SIGNAL)[0],
        registers=tuple(registers[index] for index in layout.dwarf_order),
    )


def read_process(data: bytes, word_size: int) -> tuple[int, str]:
    """NT_PRPSINFO: (pid, the program's name, which the kernel cuts at 15 bytes). Raises NoteError."""
    at = _PROCESS_NAME[word_size]
    if len(data) < at + _NAME_SIZE:
        raise NoteError
    name = data[at : at + _NAME_SIZE].split(b"\0")[0]
    return struct.unpack_from("<i", data, _PROCESS_PID[word_size])[0], name.decode("utf-8", "replace")


def read_signature_mask(data: bytes) -> int:
    """NT_ARM_PAC_MASK: the bits of a code pointer that its signature takes (struct user_pac_mask). Raises NoteError."""
    if len(data) < 16:
        raise NoteError
    return int.from_bytes(data[8:16], "little")


def read_auxiliary_vector(data: bytes, word_size: int) -> dict[int, int]:
    """NT_AUXV: values by type; what follows a torn pair is left out."""
    pair = struct.Struct(f"<2{_WORD[word_size]}")
    return dict(pair.iter_unpack(data[: len(data) // pair.size * pair.size]))


def read_mapped_files(data: bytes, word_size: int) -> list[MappedFile]:
    """NT_FILE: count and page size, then (start, end, offset in pages) each, then the names. Raises NoteError."""
    head, entry = struct.Struct(f"<2{_WORD[word_size]}"), struct.Struct(f"<3{_WORD[word_size]}")
    if len(data) < head.size:
        raise NoteError
    count, page_size = head.unpack_from(data)
    names_at = head.size + entry.size * count
    if names_at > len(data):
        raise NoteError
    names = data[names_at:].split(b"\0")
    if len(names) <= count:
        raise NoteError
    return [
        MappedFile(start, end, (offset * page_size) & 0xFFFF_FFFF_FFFF_FFFF, name.decode("utf-8", "surrogateescape"))
        for (start, end, offset), name in zip(entry.iter_unpack(data[head.size : names_at]), names, strict=False)
        if start < end
    ]
