"""What differs between the architectures of core files: the size of a word and where registers stand in notes.

Owns the choice by ELF machine number; the numbers stand in one file an architecture (`core_x86_64`, `core_i386`,
`core_aarch64`). The rest of a note's layout follows from the size of a word (`core_note`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

_MODULES = {62: "core_x86_64", 3: "core_i386", 183: "core_aarch64"}
_OTHERS = {
    2: "SPARC", 8: "MIPS", 20: "PowerPC", 21: "64-bit PowerPC", 22: "IBM S/390", 40: "32-bit ARM", 43: "64-bit SPARC",
    243: "RISC-V", 258: "LoongArch",
}  # fmt: skip
"""ELF machine numbers that Linux runs on (<elf.h>), to be refused by name."""


@dataclass(frozen=True, slots=True)
class CoreLayout:
    """One architecture's core files."""

    name: str
    machine: int
    """EM_*."""
    word_size: int
    """Bytes of a `long`: 4 in ELFCLASS32 files, 8 in ELFCLASS64 files."""
    register_words: int
    """Words of elf_gregset_t, which ends NT_PRSTATUS."""
    dwarf_order: tuple[int, ...]
    """The word there of each register by DWARF number, then, if it has no such number, of the program counter."""
    vector_notes: Mapping[int, Callable[[bytes], dict[int, bytes]]]
    """By note type what reads floating-point and vector registers, by DWARF number. Raises NoteError."""


@cache
def layout_of(machine: int) -> CoreLayout | None:
    """The layout of an ELF machine's core files; None where they cannot be read."""
    module = _MODULES.get(machine)
    if module is None:
        return None
    found = import_module(f"relay_reader.{module}").LAYOUT
    assert isinstance(found, CoreLayout)
    return found


def supported() -> str:
    """The names of the architectures whose core files can be read, for messages."""
    return ", ".join(layout.name for machine in _MODULES if (layout := layout_of(machine)))


def machine_name(machine: int) -> str:
    """How messages call an ELF machine."""
    layout = layout_of(machine)
    name = layout.name if layout is not None else _OTHERS.get(machine)
    return name or f"ELF machine {machine}"
