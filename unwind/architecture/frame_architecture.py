"""What of an architecture counts in a stack frame: its registers' names, its words, what a call leaves.

Owns the choice by ELF machine number. The numbers stand in one file an architecture (`x86_64`, `i386`, `aarch64`);
what call frame information says of it is `cfi_tables.architecture`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from cfi_tables.architecture import Architecture
from relay_reader.capture import EM_X86_64, MemoryReader

_MODULES = {62: "x86_64", 3: "i386", 183: "aarch64"}

Interrupted = Callable[[MemoryReader, int, int], Sequence[int] | None]
"""(memory, pc, stack pointer) -> the registers that a signal interrupted, in DWARF order with the program counter last,
where the pc is at the instructions that return from a signal's handler; None where it is not, or they are not there."""


@dataclass(frozen=True, slots=True)
class FrameArchitecture:
    """One architecture's frames."""

    cfi: Architecture
    register_names: tuple[str, ...]
    """As gdb calls them, by DWARF number; the program counter is the last one. So many registers has a state."""
    frame_pointer: int
    call_pushes: int
    """Bytes of stack that a call takes: its return address, where that goes to memory."""
    vector_names: Mapping[int, str]
    """Names of the floating-point and vector registers by DWARF number."""
    quad_long_double: bool = False
    """A `long double` is IEEE 754's quadruple precision; else it is x87's."""
    virtual_in_adjustment: bool = False
    """Whether a C++ pointer to a virtual member function has its mark in the adjustment of `this`, since addresses of
    functions have no bit to spare (Itanium C++ ABI §2.3); else in the address."""
    signature_mask: int = 0
    """The bits of a return address that may be its signature's, where the capture does not tell them."""
    interrupted: Interrupted | None = None
    """Steps over a signal's frame that no call frame information describes; None where there is always some."""

    @property
    def machine(self) -> int:
        """EM_*."""
        return self.cfi.machine

    @property
    def register_count(self) -> int:
        """General registers with the program counter."""
        return len(self.register_names)

    @property
    def program_counter(self) -> int:
        """Its place among the registers of a state."""
        return len(self.register_names) - 1

    @property
    def address_size(self) -> int:
        """Bytes of an address and of a general register."""
        return self.cfi.address_size

    @property
    def address_mask(self) -> int:
        """Addresses and registers wrap at this."""
        return (1 << 8 * self.cfi.address_size) - 1

    @property
    def preserved(self) -> tuple[int, ...]:
        """The registers that a call leaves as they were."""
        return tuple(each for each in self.cfi.callee_saved if each != self.cfi.return_column)

    @property
    def preserved_mask(self) -> int:
        """Bit r set: register r is one of `preserved`."""
        return sum(1 << each for each in self.preserved)

    def register_name(self, number: int) -> str:
        """How messages call a DWARF register."""
        if 0 <= number < len(self.register_names):
            return self.register_names[number]
        return self.vector_names.get(number) or f"DWARF register {number}"


@cache
def frame_architecture(machine: int) -> FrameArchitecture:
    """That of an ELF machine number. Raises KeyError for one whose stacks are not walked."""
    found = import_module(f"unwind.architecture.{_MODULES[machine]}").FRAMES
    assert isinstance(found, FrameArchitecture)
    return found


def is_x86_64(architecture: FrameArchitecture) -> bool:
    """Whether it is the one that the walk is written in the numbers of."""
    return architecture.machine == EM_X86_64
