"""i386 core files: registers of NT_PRSTATUS (arch/x86/include/asm/user_32.h), and x87 and SSE registers.

These stand in three notes. The kernel writes NT_PRFPREG, which is x87's alone (FSAVE, Intel SDM volume 1, 8.1.10),
NT_PRXFPREG (FXSAVE) and NT_X86_XSTATE, which begins as FXSAVE; gdb writes the last one only.
"""

from __future__ import annotations

from relay_reader import fxsave
from relay_reader.core_layout import CoreLayout
from relay_reader.core_note import NT_PRFPREG, NoteError

NT_PRXFPREG = 0x46E62B7F
NT_X86_XSTATE = 0x202

FIRST_ST, FIRST_XMM, _COUNT = 11, 21, 8
"""The DWARF numbers of st(0) and xmm0 (System V ABI i386, table 2.14), and how many there are of each."""
_FSAVE_ST0, _ST_SIZE = 28, 10


def _fsave(area: bytes) -> dict[int, bytes]:
    if len(area) < _FSAVE_ST0 + _ST_SIZE * _COUNT:
        raise NoteError
    return {FIRST_ST + index: area[_FSAVE_ST0 + _ST_SIZE * index :][:_ST_SIZE] for index in range(_COUNT)}


def _fxsave(area: bytes) -> dict[int, bytes]:
    if len(area) < fxsave.area_size(_COUNT):
        raise NoteError
    return fxsave.st_registers(area, FIRST_ST, _COUNT) | fxsave.xmm_registers(area, FIRST_XMM, _COUNT)


LAYOUT = CoreLayout(
    name="i386",
    machine=3,
    word_size=4,
    # struct user_regs_struct is ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss.
    register_words=17,
    dwarf_order=(6, 1, 2, 0, 15, 5, 3, 4, 12),
    vector_notes={
        NT_PRFPREG: _fsave,
        NT_PRXFPREG: _fxsave,
        NT_X86_XSTATE: _fxsave,
    },
)
