"""What a session has of one module of the kernel: the sections of its code, and its unwind table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cfi_tables.cache import table_for
from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import SHF_ALLOC, SHF_EXECINSTR, ElfImage
from cfi_tables.relocation import section_addresses
from cfi_tables.table import TableError
from ptap.kernel_module import messages
from ptap.kernel_module.messages import CodeSection
from ptap.kernel_module.places import KernelSymbols
from ptap.kernel_module.resolve import CodeFile
from ptap.probe.resolve import ProbeNotFound
from ptap_target.kernel_module import NAME

_CODE = SHF_ALLOC | SHF_EXECINSTR


@dataclass(frozen=True)
class ModuleSession:
    """One module, loaded or not."""

    name: str
    image: ElfImage
    sections: list[CodeSection]
    """Those that can be found when the module is loaded."""
    table: bytes
    """Empty where the file has no CFI."""
    problem: str | None
    """Why stacks cannot be walked through it."""

    @classmethod
    def of(cls, name: str, file: CodeFile) -> ModuleSession:
        """What is sent of a module's file. Raises ProbeNotFound and ElfError."""
        sections = _code_sections(file.image, file.symbols)
        if not sections:
            raise ProbeNotFound(
                f"{file.image.path}: module {name} has no function that could be found when it is loaded"
            )
        try:
            debug = None if file.image.has(".debug_frame") else find_debug_file(file.image).image
            table, problem = table_for(file.image, debug).data.tobytes(), None
        except TableError as error:
            table, problem = b"", str(error)
        return cls(name, file.image, sections, table, problem)

    @classmethod
    def own(cls, image: ElfImage) -> ModuleSession | None:
        """What is sent of the module that records: stacks go through it where it is interrupted, or calls the kernel.

        None where its file has no CFI: such stacks end there, as those through other code that was not told do.
        Raises ProbeNotFound and ElfError.
        """
        session = cls.of(NAME, CodeFile(image, KernelSymbols.of_module(image, NAME)))
        # It is asked when its initialization is gone, whose place would be shown still.
        staying = [section for section in session.sections if not section.name.startswith((".init", ".exit"))]
        return replace(session, sections=staying) if session.table else None

    @property
    def description(self) -> dict[str, Any]:
        """For session.json; the traced machine finds sections by their names."""
        return {
            "name": self.name,
            "file": str(Path(self.image.path).absolute()),
            "build_id": self.image.build_id.hex() if self.image.build_id else None,
            "problem": self.problem,
            "sections": [{"name": each.name, "start": each.start, "end": each.end} for each in self.sections],
        }

    def message(self, number: int) -> bytes:
        """For the kernel module."""
        return messages.module(number, self.name, self.sections, self.table)


def _code_sections(image: ElfImage, symbols: KernelSymbols) -> list[CodeSection]:
    addresses = section_addresses(image)
    found = []
    for section in image.section_list:
        if section.flags & _CODE == _CODE and section.size:
            start = addresses[section.index]
            outermost = symbols.outermost(start, start + section.size)
            if outermost is not None:
                found.append(CodeSection(section.name, start, start + section.size, *outermost))
    return found
