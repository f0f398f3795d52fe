"""Which stacks a session of the kernel module records: `--when` as the module takes it."""

from __future__ import annotations

from dataclasses import dataclass

from cfi_tables.elf_image import ElfImage


@dataclass(frozen=True, slots=True)
class WantedStacks:
    """A predicate for the probe."""

    text: str
    """As written."""
    program: bytes
    """As the module takes it (ptap.predicate.program)."""


def wanted_stacks(when: str, vmlinux: ElfImage, system_map: str | None) -> tuple[WantedStacks, list[str]]:
    """The predicate `when` for the kernel `vmlinux`, and what is to be said of it, in sentences.

    Raises PredicateSyntaxError, ProgramError, SymbolIndexError, TableError and OSError.
    """
    from ptap.predicate.kernel_functions import KernelFunctions
    from ptap.predicate.parse import parse_predicate
    from ptap.predicate.program import compile_predicate

    compiled = compile_predicate(parse_predicate(when), KernelFunctions(vmlinux, system_map))
    return WantedStacks(when, compiled.program.encoded()), compiled.notes
