"""Frames of i386 (System V ABI i386 supplement 1.1, §2.2 and table 2.14), and what a signal leaves on its stack."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cfi_tables.i386 import ARCHITECTURE
from relay_reader.capture import MemoryReader
from unwind.architecture.frame_architecture import FrameArchitecture

# arch/x86/entry/vdso/vdso32/sigreturn.S; glibc's __restore and __restore_rt are the same.
_SIGRETURN = bytes.fromhex("58 b8 77 00 00 00 cd 80")  # pop %eax; mov $__NR_sigreturn, %eax; int $0x80
_RT_SIGRETURN = bytes.fromhex("b8 ad 00 00 00 cd 80")  # mov $__NR_rt_sigreturn, %eax; int $0x80
# struct sigframe_ia32 without the return address, which the handler's return has taken: the signal's number, then
# sigcontext_32. struct rt_sigframe_ia32: number, two pointers, siginfo (128), then ucontext with its sigcontext at 20.
_SIGCONTEXT = 4
_UCONTEXT_POINTER = 8
_UCONTEXT_SIGCONTEXT = 20
# struct sigcontext_32: gs fs es ds di si bp sp bx dx cx ax trapno err ip; the word there of eax ecx edx ebx esp ebp esi
# edi eip.
_WORDS = struct.Struct("<15I")
_DWARF_ORDER = (11, 10, 9, 8, 7, 6, 5, 4, 14)


def _interrupted(read: MemoryReader, pc: int, stack_pointer: int) -> Sequence[int] | None:
    code = read(pc, len(_SIGRETURN))
    if code == _SIGRETURN:
        at = stack_pointer + _SIGCONTEXT
    elif code[: len(_RT_SIGRETURN)] == _RT_SIGRETURN:
        pointer = read(stack_pointer + _UCONTEXT_POINTER, 4)
        at = int.from_bytes(pointer, "little") + _UCONTEXT_SIGCONTEXT
    else:
        return None
    context = read(at, _WORDS.size)
    if len(context) < _WORDS.size:
        return None
    words = _WORDS.unpack(context)
    return [words[index] for index in _DWARF_ORDER]


FRAMES = FrameArchitecture(
    cfi=ARCHITECTURE,
    register_names=(*ARCHITECTURE.register_names[:-1], "eip"),
    frame_pointer=5,
    call_pushes=4,
    vector_names={11 + index: f"st{index}" for index in range(8)} | {21 + index: f"xmm{index}" for index in range(8)},
    interrupted=_interrupted,
)
