"""i386: register names and defaults (System V ABI i386 supplement 1.1, §2.2.2 and table 2.14)."""

from __future__ import annotations

from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_386

ARCHITECTURE = Architecture(
    name="i386",
    machine=EM_386,
    address_size=4,
    register_names=("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "ra"),
    callee_saved=(3, 5, 6, 7),
    stack_pointer=4,
    return_column=8,
    program_counter="eip",
)
