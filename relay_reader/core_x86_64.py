"""x86-64 core files: registers of NT_PRSTATUS (arch/x86/include/asm/user_64.h) and of NT_PRFPREG (FXSAVE)."""

from __future__ import annotations

from relay_reader import fxsave
from relay_reader.core_layout import CoreLayout
from relay_reader.core_note import NT_PRFPREG, NoteError

FIRST_XMM, _XMM_COUNT = 17, 16
"""xmm0's DWARF number (System V ABI AMD64, figure 3.36)."""


def _xmm(area: bytes) -> dict[int, bytes]:
    if len(area) < fxsave.area_size(_XMM_COUNT):
        raise NoteError
    return fxsave.xmm_registers(area, FIRST_XMM, _XMM_COUNT)


LAYOUT = CoreLayout(
    name="x86-64",
    machine=62,
    word_size=8,
    # struct user_regs_struct is r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp
    # ss fs_base gs_base ds es fs gs.
    register_words=27,
    dwarf_order=(10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0, 16),
    vector_notes={NT_PRFPREG: _xmm},
)
