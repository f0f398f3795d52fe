"""General registers of a stopped thread: struct user_regs_struct (sys/user.h) and its DWARF order.

A register file here is a list of 27 unsigned integers in the order of the structure, as the kernel gives it.
"""

from __future__ import annotations

import ctypes
import operator
from typing import Final

from ptap.backend.ptrace.syscalls import GETFPREGS, GETREGS, POKEUSER, SETREGS, ptrace

_COUNT: Final = 27

# Indices in the structure.
RAX: Final = 10
RDI: Final = 14
ORIG_RAX: Final = 15
RIP: Final = 16
CS: Final = 17
EFLAGS: Final = 18
RSP: Final = 19
FS_BASE: Final = 21
GS_BASE: Final = 22

RBP: Final = 4

CS_64: Final = 0x33
"""The code segment of 64-bit user mode (__USER_CS)."""

BY_ENCODING: Final = (10, 11, 12, 5, RSP, RBP, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0)
"""Index in the structure by the number that instructions use: rax rcx rdx rbx rsp rbp rsi rdi r8-r15."""

dwarf_order: Final = operator.itemgetter(10, 12, 11, 5, 13, 14, RBP, RSP, 9, 8, 7, 6, 3, 2, 1, 0, RIP)
"""The 17 values of a sample: rax rdx rcx rbx rsi rdi rbp rsp r8-r15 rip (System V ABI AMD64, figure 3.36)."""

RSP_COLUMN: Final = 7
RIP_COLUMN: Final = 16
"""Where a sample's values have the stack pointer and the pc."""

ALL_KNOWN: Final = (1 << 17) - 1

_buffer = (ctypes.c_ulonglong * _COUNT)()
_address = ctypes.addressof(_buffer)

# struct user_fpregs_struct is the FXSAVE area: xmm0 at byte 160, 16 bytes each.
_FPREGS_SIZE: Final = 512
_XMM_OFFSET: Final = 160
_XMM_DWARF: Final = 17


def read_registers(tid: int) -> list[int]:
    """All general registers of a stopped thread. Raises OSError (ESRCH when it has been killed)."""
    ptrace(GETREGS, tid, 0, _address)
    return _buffer[:]


def write_registers(tid: int, values: list[int]) -> None:
    """Set all general registers of a stopped thread. Raises OSError."""
    _buffer[:] = values  # type: ignore[assignment]
    ptrace(SETREGS, tid, 0, _address)


def write_pc(tid: int, address: int) -> None:
    """Set rip alone. Raises OSError."""
    ptrace(POKEUSER, tid, RIP * 8, address)


def read_vector_registers(tid: int) -> dict[int, bytes]:
    """xmm0-xmm15 of a stopped thread by DWARF number (17-32), 16 bytes each. Raises OSError."""
    area = ctypes.create_string_buffer(_FPREGS_SIZE)
    ptrace(GETFPREGS, tid, 0, ctypes.addressof(area))
    raw = area.raw
    return {_XMM_DWARF + n: raw[_XMM_OFFSET + 16 * n : _XMM_OFFSET + 16 * n + 16] for n in range(16)}
