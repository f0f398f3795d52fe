"""aarch64 core files: registers of NT_PRSTATUS and NT_PRFPREG (arch/arm64/include/uapi/asm/ptrace.h)."""

from __future__ import annotations

from relay_reader.core_layout import CoreLayout
from relay_reader.core_note import NT_PRFPREG, NoteError

FIRST_VECTOR, _VECTOR_COUNT, _VECTOR_SIZE = 64, 32, 16
"""v0's DWARF number (DWARF for the Arm 64-bit Architecture §4.1)."""


def _vectors(area: bytes) -> dict[int, bytes]:
    """struct user_fpsimd_state: v0-v31, then fpsr and fpcr."""
    if len(area) < _VECTOR_SIZE * _VECTOR_COUNT:
        raise NoteError
    return {FIRST_VECTOR + index: area[_VECTOR_SIZE * index :][:_VECTOR_SIZE] for index in range(_VECTOR_COUNT)}


LAYOUT = CoreLayout(
    name="aarch64",
    machine=183,
    word_size=8,
    # struct user_pt_regs is x0-x30 sp pc pstate. DWARF numbers x0-x30 and sp so; pc follows.
    register_words=34,
    dwarf_order=tuple(range(33)),
    vector_notes={NT_PRFPREG: _vectors},
)
