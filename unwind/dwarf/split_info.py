"""Split files: the units of one .dwo file, or of one package of them (.dwp) (DWARF 5 §3.1.3, §7.3.2, appendix F).

Their sections have `.dwo` at the end of their names. Each full unit belongs to a skeleton unit of the program, which
has its addresses, line numbers and directory. Problems go to the program's DebugInfo, with the file's path.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from cfi_tables.elf_image import ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.package_index import Contribution, read_package_index

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit

_INDEX_SECTIONS = (".debug_cu_index", ".debug_tu_index")


class SplitInfo(DebugInfo):
    """DWARF of one split file."""

    sections_suffix = ".dwo"

    def __init__(self, image: ElfImage, program: DebugInfo) -> None:
        """Take the .debug_*.dwo sections of `image`, to which `program` refers. Raises DwarfError for what has none."""
        super().__init__(image, owner=program)

    @cached_property
    def _contributions(self) -> dict[tuple[str, int], Contribution]:
        """Of the units of a package, by section and offset of the unit; {} of a single .dwo file."""
        found: dict[tuple[str, int], Contribution] = {}
        for name in _INDEX_SECTIONS:
            try:
                index = read_package_index(self.sections.plain(name), name)
            except DwarfError as error:
                self.note_problem(error.problem)
                continue
            for contribution in index.values():
                for section in (".debug_info", ".debug_types"):
                    if section in contribution.offsets:
                        found.setdefault((section, contribution.of(section)), contribution)
        return found

    def _read_units(self, section: str) -> Iterator[CompilationUnit]:
        for unit in super()._read_units(section):
            unit.contribution = self._contributions.get((section, unit.offset), unit.contribution)
            yield unit

    @cached_property
    def _by_identifier(self) -> dict[int, CompilationUnit]:
        found: dict[int, CompilationUnit] = {}
        for unit in self.units:
            if unit.unit_type in (C.DW_UT_compile, C.DW_UT_split_compile):
                try:
                    identifier = unit.split_identifier
                except DwarfError as error:
                    self.note_problem(error.problem)
                    continue
                if identifier is not None:
                    found.setdefault(identifier, unit)
        return found

    @property
    def identifiers(self) -> list[int]:
        """The dwo_id of each full unit."""
        return list(self._by_identifier)

    def unit_of(self, skeleton: CompilationUnit, identifier: int) -> CompilationUnit | None:
        """The full unit of `skeleton`, whose dwo_id is `identifier`; None when this file has none."""
        unit = self._by_identifier.get(identifier)
        if unit is not None and unit.skeleton is None:
            unit.skeleton = skeleton
            if not self._contributions:  # types of a .dwo file are of its one compilation unit
                for each in self.type_units.values():
                    each.skeleton = each.skeleton or skeleton
        return unit
