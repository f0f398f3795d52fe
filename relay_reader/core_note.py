"""The notes of x86-64 core files: threads, the process, mapped files, the auxiliary vector.

Owns their layouts, which are the kernel's (include/uapi/linux/elfcore.h, struct elf_prstatus and elf_prpsinfo of
arch/x86; fs/binfmt_elf.c, fill_files_note; the FXSAVE area of Intel's SDM, volume 1, 10.5.1); gdb's gcore writes the
same. Every length is checked against the note; what does not fit raises NoteError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NT_PRSTATUS = 1
NT_PRFPREG = 2
NT_PRPSINFO = 3
NT_AUXV = 6
NT_FILE = 0x46494C45
NT_SIGINFO = 0x53494749

AT_PHDR = 3
AT_SYSINFO_EHDR = 33

# struct user_regs_struct is r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
# fs_base gs_base ds es fs gs; here the index there of each register in DWARF order.
_DWARF_ORDER = (10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16)
_REGISTERS = struct.Struct("<27Q")
_FS_BASE = 21
_PRSTATUS_SIGNAL = 12
_PRSTATUS_PID = 32
_PRSTATUS_REGISTERS = 112
_PRPSINFO_PID = 24
_PRPSINFO_NAME = 40
_NAME_SIZE = 16
_FXSAVE_XMM0 = 160
_XMM_COUNT = 16
FIRST_VECTOR_REGISTER = 17
"""xmm0's DWARF number (System V ABI AMD64, figure 3.36)."""


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
    thread_pointer: int


@dataclass(frozen=True, slots=True)
class MappedFile:
    """One entry of NT_FILE: `[start, end)` maps `path` from byte `file_offset` on."""

    start: int
    end: int
    file_offset: int
    path: str


def read_status(data: bytes) -> ThreadStatus:
    """NT_PRSTATUS. Raises NoteError."""
    if len(data) < _PRSTATUS_REGISTERS + _REGISTERS.size:
        raise NoteError
    registers = _REGISTERS.unpack_from(data, _PRSTATUS_REGISTERS)
    return ThreadStatus(
        tid=struct.unpack_from("<i", data, _PRSTATUS_PID)[0],
        signal=struct.unpack_from("<h", data, _PRSTATUS_SIGNAL)[0],
        registers=tuple(registers[index] for index in _DWARF_ORDER),
        thread_pointer=registers[_FS_BASE],
    )


def read_process(data: bytes) -> tuple[int, str]:
    """NT_PRPSINFO: (pid, the program's name, which the kernel cuts at 15 bytes). Raises NoteError."""
    if len(data) < _PRPSINFO_NAME + _NAME_SIZE:
        raise NoteError
    name = data[_PRPSINFO_NAME : _PRPSINFO_NAME + _NAME_SIZE].split(b"\0")[0]
    return struct.unpack_from("<i", data, _PRPSINFO_PID)[0], name.decode("utf-8", "replace")


def read_vector_registers(data: bytes) -> dict[int, bytes]:
    """NT_PRFPREG: 16 bytes of each xmm register by DWARF number. Raises NoteError."""
    if len(data) < _FXSAVE_XMM0 + 16 * _XMM_COUNT:
        raise NoteError
    return {
        FIRST_VECTOR_REGISTER + index: data[_FXSAVE_XMM0 + 16 * index : _FXSAVE_XMM0 + 16 * (index + 1)]
        for index in range(_XMM_COUNT)
    }


def read_auxiliary_vector(data: bytes) -> dict[int, int]:
    """NT_AUXV: values by type; what follows a torn pair is left out."""
    return dict(struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]))


def read_mapped_files(data: bytes) -> list[MappedFile]:
    """NT_FILE: count and page size, then (start, end, offset in pages) each, then the names. Raises NoteError."""
    if len(data) < 16:
        raise NoteError
    count, page_size = struct.unpack_from("<QQ", data)
    names_at = 16 + 24 * count
    if names_at > len(data):
        raise NoteError
    names = data[names_at:].split(b"\0")
    if len(names) <= count:
        raise NoteError
    return [
        MappedFile(start, end, (offset * page_size) & 0xFFFF_FFFF_FFFF_FFFF, name.decode("utf-8", "surrogateescape"))
        for (start, end, offset), name in zip(struct.iter_unpack("<QQQ", data[16:names_at]), names, strict=False)
        if start < end
    ]
