"""Frames of x86-64 (System V ABI AMD64, §3.2 and figure 3.36)."""

from __future__ import annotations

from cfi_tables.x86_64 import ARCHITECTURE, REGISTER_NAMES
from unwind.architecture.frame_architecture import FrameArchitecture

FIRST_VECTOR_REGISTER = 17
VECTOR_REGISTER_COUNT = 16

FRAMES = FrameArchitecture(
    cfi=ARCHITECTURE,
    register_names=(*REGISTER_NAMES[:-1], "rip"),
    frame_pointer=6,
    call_pushes=8,
    vector_names={FIRST_VECTOR_REGISTER + index: f"xmm{index}" for index in range(VECTOR_REGISTER_COUNT)},
)
