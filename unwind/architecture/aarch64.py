"""Frames of aarch64 (AAPCS64 §6, DWARF for the Arm 64-bit Architecture §4.1), and what a signal leaves on its stack.

The kernel's code that returns from a handler has no usable call frame information: what it had led to the interrupted
code's x30 and not to its pc, and was taken out for that (Linux 5.8). It is known by its instructions, as gdb knows it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cfi_tables.aarch64 import ARCHITECTURE
from relay_reader.capture import MemoryReader
from unwind.architecture.frame_architecture import FrameArchitecture

_RT_SIGRETURN = bytes.fromhex("68 11 80 d2 01 00 00 d4")  # mov x8, #__NR_rt_sigreturn; svc #0
# struct rt_sigframe: siginfo (128), then ucontext: flags, link, stack (24), mask (128), and struct sigcontext, which is
# aligned to 16: fault_address, x0-x30, sp, pc.
_SIGCONTEXT_REGISTERS = 128 + 176 + 8
_REGISTERS = struct.Struct("<33Q")


def _interrupted(read: MemoryReader, pc: int, stack_pointer: int) -> Sequence[int] | None:
    if read(pc, len(_RT_SIGRETURN)) != _RT_SIGRETURN:
        return None
    context = read(stack_pointer + _SIGCONTEXT_REGISTERS, _REGISTERS.size)
    return _REGISTERS.unpack(context) if len(context) == _REGISTERS.size else None


FRAMES = FrameArchitecture(
    cfi=ARCHITECTURE,
    register_names=(*ARCHITECTURE.register_names, "pc"),
    frame_pointer=29,
    call_pushes=0,
    vector_names={64 + index: f"v{index}" for index in range(32)},
    quad_long_double=True,
    virtual_in_adjustment=True,
    # With 48 bits of address, and a tag in the highest byte: bit 55 tells the kernel's half (Arm ARM, D8.10).
    signature_mask=0xFF7F_0000_0000_0000,
    interrupted=_interrupted,
)
