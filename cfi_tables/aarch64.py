"""aarch64: register names and defaults (DWARF for the Arm 64-bit Architecture §4.1, AAPCS64 §6.1.1).

The return address is in x30 until a function saves it, so x30 counts as unchanged where the CFI says nothing.

d8-d15, the low halves of v8-v15, are left out on purpose, though AAPCS64 §6.1.2 preserves them too: no CFA and no
return address is ever in them, so no walk needs them; their numbers (72-79) do not fit the six bits of a rule's entry;
and rules that differ in them only would be kept apart. What they hold in a caller, a floating-point variable, is
unknown; it is never given as certain.

That a return address is signed (the pseudo-register RA_SIGN_STATE) is a flag of the rule. Of the vendor's call frame
instructions (§4.4), negate_ra_state turns it, negate_ra_state_with_pc too, and set_ra_state sets it. All say that a
signature must be cleared; what it was made with only matters to those who check it, and is passed over.
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
