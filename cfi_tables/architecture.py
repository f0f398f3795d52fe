"""Architectures: what CFI means on each, as values that the decoder, the table and its readers share.

Owns the choice by ELF machine number. The numbers themselves stand in one file an architecture (`x86_64`,
`i386`, `aarch64`), with the ABI document that they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module

MAXIMUM_REGISTERS = 32
"""No architecture's rules hold more."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One ABI's DWARF registers and defaults."""

    name: str
    machine: int
    """EM_*."""
    address_size: int
    """Bytes."""
    register_names: tuple[str, ...]
    """By DWARF number; rules hold these registers and no others."""
    callee_saved: tuple[int, ...]
    """Registers that are unchanged where the CFI says nothing."""
    stack_pointer: int
    """Is the CFA in the caller where the CFI says nothing."""
    return_column: int
    """The register that stands for the return address."""
    program_counter: str
    """What an expression reads that names the return column's register in the frame itself."""

    @property
    def same_mask(self) -> int:
        """Bit r set: register r is one of `callee_saved`."""
        return sum(1 << register for register in self.callee_saved)

    def register_name(self, number: int) -> str:
        """The ABI's name of a DWARF register, `r<number>` for one that rules do not hold."""
        return self.register_names[number] if number < len(self.register_names) else f"r{number}"


_MODULES = {62: "x86_64", 3: "i386", 183: "aarch64"}


@cache
def architecture_of(machine: int) -> Architecture | None:
    """The architecture of an ELF machine number; None where tables are not built for it."""
    name = _MODULES.get(machine)
    if name is None:
        return None
    found = import_module(f"cfi_tables.{name}").ARCHITECTURE
    assert isinstance(found, Architecture)
    return found


def supported() -> str:
    """The names of all architectures, for messages."""
    return ", ".join(architecture.name for machine in _MODULES if (architecture := architecture_of(machine)))
