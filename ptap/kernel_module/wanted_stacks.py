"""Which stacks a session of the kernel module records: `--when` as the module takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cfi_tables.elf_image import ElfImage
from ptap.predicate.kernel_functions import FunctionCode, KernelFunctions, code_of
from ptap.predicate.parse import parse_predicate
from ptap.predicate.program import compile_predicate
from relay_reader.predicate_layout import PREDICATE_FILES
from unwind.symbolize.symbolizer import Symbolizer


@dataclass(frozen=True, slots=True)
class WantedStacks:
    """A predicate for the probe."""

    text: str
    """As written."""
    program: bytes
    """As the module takes it (ptap.predicate.program)."""


@dataclass(frozen=True)
class SessionFile:
    """A file whose table the session has; it is read when a predicate asks for its functions."""

    path: str
    build_id: bytes

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        """Where its functions of that name are; None where that cannot be told, as in the vdso, which is no file."""
        return None if self.path.startswith("[") else code_of(self._symbolizer, pattern, file)

    @cached_property
    def _symbolizer(self) -> Symbolizer:
        return Symbolizer.open(self.path)


def wanted_stacks(
    when: str,
    vmlinux: ElfImage,
    system_map: str | None,
    inside: bool,
    files: Sequence[SessionFile],
    tell: Callable[[str], None],
) -> WantedStacks:
    """The predicate `when` for the kernel `vmlinux`; `tell` gets what is to be said of it, in sentences.

    `inside`: a probed place may lie in an inlined call. Raises PredicateSyntaxError, ProgramError, SymbolIndexError,
    ElfError, TableError and OSError.
    """
    if len(files) > PREDICATE_FILES:
        tell(f"--when: user frames are looked at afterwards, as there are {len(files)} programs and libraries")
        files = ()
    compiled = compile_predicate(parse_predicate(when), KernelFunctions(vmlinux, system_map), inside, files)
    for note in compiled.notes:
        tell(note)
    return WantedStacks(when, compiled.program.encoded())
