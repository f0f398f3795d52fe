"""x86-64: register names and defaults (System V ABI AMD64, §3.2.1 and figure 3.36)."""

from __future__ import annotations

from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_X86_64

MACHINE = EM_X86_64
REGISTER_NAMES = (
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra",
)  # fmt: skip
"""By DWARF number; 16 is the return address column."""

CALLEE_SAVED = (3, 6, 12, 13, 14, 15)
"""Registers that a call leaves unchanged: rbx, rbp, r12-r15."""
STACK_POINTER = 7
RETURN_ADDRESS = 16

ARCHITECTURE = Architecture(
    name="x86-64",
    machine=MACHINE,
    address_size=8,
    register_names=REGISTER_NAMES,
    callee_saved=CALLEE_SAVED,
    stack_pointer=STACK_POINTER,
    return_column=RETURN_ADDRESS,
    program_counter="rip",
)
