"""aarch64: register names and defaults (DWARF for the Arm 64-bit Architecture §4.1, AAPCS64 §6.1.1).

The return address is in x30 until a function saves it, so x30 counts as unchanged where the CFI says nothing. The
low halves of v8-v15, which AAPCS64 preserves too, are not held: no return address or CFA is ever in them. That a
return address is signed (the pseudo-register RA_SIGN_STATE) is a flag of the rule.
"""

from __future__ import annotations

from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_AARCH64

ARCHITECTURE = Architecture(
    name="aarch64",
    machine=EM_AARCH64,
    address_size=8,
    register_names=(*(f"x{number}" for number in range(31)), "sp"),
    callee_saved=tuple(range(19, 31)),
    stack_pointer=31,
    return_column=30,
    program_counter="x30",
)
