"""The debugging information of one module: its units, found by offset, address or type signature.

Data comes from an ElfImage that holds DWARF (the module itself or its separate debug file) and goes to
symbolization and to the argument reader. Damage is kept in `problems`, a unit at a time; other units go on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cfi_tables.debug_file import DEBUG_DIRECTORIES, DebugFile
from cfi_tables.elf_image import ET_REL, ElfImage
from unwind.dwarf.abbreviation import AbbreviationTable
from unwind.dwarf.address_range_table import AddressRanges, read_address_ranges
from unwind.dwarf.damage import DwarfError, DwarfProblem, DwarfReason
from unwind.dwarf.entry import Entry
from unwind.dwarf.sections import DwarfSections
from unwind.dwarf.unit import CompilationUnit

if TYPE_CHECKING:
    from unwind.dwarf.line_header import LineHeader
    from unwind.dwarf.line_program import LineTable
    from unwind.dwarf.split_file import SplitFiles

_MAXIMUM_PROBLEMS = 1000


class DebugInfo:
    """DWARF of one file. Reading is lazy: opening costs nothing until a unit is asked for."""

    sections_suffix = ""
    """What the names of the file's sections end in."""

    def __init__(
        self,
        image: ElfImage,
        program_path: str | None = None,
        debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES,
        owner: DebugInfo | None = None,
    ) -> None:
        """Take the .debug_* sections of `image`. Raises DwarfError for what has no .debug_info, ElfError.

        `program_path` is the program's file where `image` is its separate debug file. `owner` is the DebugInfo that
        refers to this file, if one does: problems are kept there.
        """
        self.image = image
        self.program_path = program_path or image.path
        self.debug_directories = debug_directories
        self._owner = owner
        self.sections: DwarfSections = DwarfSections(
            image, self.sections_suffix, None if owner is None else owner.sections.damage
        )
        self.problems: list[DwarfProblem] = []
        """What could not be read so far."""
        self._abbreviations: dict[tuple[int, int, int, int], AbbreviationTable] = {}
        self._line_tables: dict[tuple[int, int], LineTable | None] = {}
        self._line_headers: dict[tuple[str, int], LineHeader | None] = {}
        if not image.little_endian or not self.sections.get(".debug_info"):
            raise DwarfError(DwarfReason.NO_SECTION, ".debug_info", 0)

    @staticmethod
    def is_in(image: ElfImage) -> bool:
        """Whether `image` has debugging information that can be read."""
        return image.little_endian and image.has(".debug_info")

    def note(self, reason: DwarfReason, section: str, offset: int, unit_offset: int | None = None) -> None:
        """Keep a problem; repeated ones once."""
        self.note_problem(DwarfProblem(reason, section, offset, unit_offset))

    def note_problem(self, problem: DwarfProblem) -> None:
        """Keep a problem; repeated ones once. That of a file which another refers to is kept there, with its path."""
        if self._owner is not None:
            self._owner.note_problem(replace(problem, detail=f"in {self.image.path}"))
        elif problem not in self.problems and len(self.problems) < _MAXIMUM_PROBLEMS:
            self.problems.append(problem)

    @property
    def lowest_address(self) -> int:
        """The lowest address that code can have: linkers give discarded code 0, objects begin there."""
        # A split file is of type ET_REL itself, but the addresses are the program's.
        image = self.image if self._owner is None else self._owner.image
        return 0 if image.file_type == ET_REL else 1

    # --- units

    @cached_property
    def units(self) -> list[CompilationUnit]:
        """Units of .debug_info in order; those whose header is damaged are left out and noted."""
        return list(self._read_units(".debug_info"))

    @cached_property
    def type_units(self) -> dict[int, CompilationUnit]:
        """Type units by signature: of .debug_types (DWARF 4) and of .debug_info (DWARF 5)."""
        found: dict[int, CompilationUnit] = {}
        for unit in (*self.units, *self._read_units(".debug_types")):
            if unit.is_type and unit.signature is not None:
                found.setdefault(unit.signature, unit)
        return found

    def _read_units(self, section: str) -> Iterator[CompilationUnit]:
        size = len(self.sections.get(section))
        offset = 0
        while offset < size:
            try:
                unit = CompilationUnit(self, section, offset)
                if unit.truncated:
                    self.note(DwarfReason.TRUNCATED, section, offset, offset)
            except DwarfError as error:
                self.note_problem(error.problem)
                return
            try:
                unit.check()
                yield unit
            except DwarfError as error:
                self.note_problem(error.problem)
            offset = unit.end

    @cached_property
    def _unit_offsets(self) -> list[int]:
        return [unit.offset for unit in self.units]

    def unit_at(self, offset: int) -> CompilationUnit:
        """The unit of .debug_info that the byte at `offset` belongs to. Raises DwarfError."""
        index = bisect_right(self._unit_offsets, offset) - 1
        if index < 0 or offset >= self.units[index].end:
            raise DwarfError(DwarfReason.BAD_REFERENCE, ".debug_info", offset)
        return self.units[index]

    def die_at(self, offset: int) -> Entry:
        """The entry at `offset` of .debug_info. Raises DwarfError when there cannot be one."""
        return self.unit_at(offset).entry_at(offset)

    def type_by_signature(self, signature: int) -> Entry | None:
        """The type that a DW_FORM_ref_sig8 names (§7.32); None when no unit has it."""
        unit = self.type_units.get(signature)
        if unit is None or unit.type_offset is None:
            return None
        return unit.entry_at(unit.type_offset)

    def abbreviations(self, offset: int, version: int, address_size: int, offset_size: int) -> AbbreviationTable:
        """The abbreviation table at `offset`, one for each unit shape."""
        key = (offset, version, address_size, offset_size)
        table = self._abbreviations.get(key)
        if table is None:
            data = self.sections.get(".debug_abbrev")
            table = self._abbreviations[key] = AbbreviationTable(data, *key)
        return table

    # --- split files

    @cached_property
    def _split_files(self) -> SplitFiles:
        from unwind.dwarf.split_file import SplitFiles

        return SplitFiles(self)

    def full_unit(self, unit: CompilationUnit) -> CompilationUnit:
        """The unit that has the entries of `unit`: that of a split file for a skeleton unit, else itself.

        A skeleton unit whose file is not there stands for itself, and that is noted; some have functions. Raises
        DwarfError when the unit's first entry is damaged.
        """
        return (self._split_files.unit_of(unit) or unit) if unit.is_skeleton else unit

    @property
    def full_units(self) -> Iterator[CompilationUnit]:
        """`full_unit` of each unit; damage is noted."""
        for unit in self.units:
            try:
                yield self.full_unit(unit)
            except DwarfError as error:
                self.note_problem(error.problem)

    # --- by address

    @cached_property
    def address_ranges(self) -> AddressRanges:
        """Which unit has code at an address."""
        return read_address_ranges(self)

    def units_for_address(self, pc: int) -> list[CompilationUnit]:
        """Every unit that says it has code at `pc` (a file virtual address); more than one only when they
        overlap.
        """
        return self.address_ranges.find(pc)

    def unit_for_address(self, pc: int) -> CompilationUnit | None:
        """The unit that has code at `pc` (a file virtual address)."""
        found = self.units_for_address(pc)
        return found[0] if found else None

    def line_table(self, unit: CompilationUnit) -> LineTable | None:
        """The unit's line number table, None when it has none or it is damaged (which is then noted)."""
        if unit.skeleton is not None:
            return unit.skeleton.info.line_table(unit.skeleton)
        try:
            offset = unit.line_offset
        except DwarfError as error:
            self.note_problem(error.problem)
            return None
        if offset is None:
            return None
        key = (offset, unit.address_size)
        if key not in self._line_tables:
            from unwind.dwarf.line_program import read_line_table

            try:
                self._line_tables[key] = read_line_table(unit, offset)
            except DwarfError as error:
                self.note_problem(error.problem)
                self._line_tables[key] = None
        return self._line_tables[key]

    def line_header(self, unit: CompilationUnit) -> LineHeader | None:
        """Directories and files of the unit's line number program, None when damaged (noted) or not there."""
        if unit.skeleton is not None and not unit.is_type:
            return unit.skeleton.info.line_header(unit.skeleton)
        key = (unit.section, unit.offset)
        if key not in self._line_headers:
            from unwind.dwarf.line_header import read_line_header

            header = None
            try:
                offset = unit.line_offset
                header = None if offset is None else read_line_header(unit, offset)
            except DwarfError as error:
                self.note_problem(error.problem)
            self._line_headers[key] = header
        return self._line_headers[key]

    def file_path(self, unit: CompilationUnit, file: int) -> str | None:
        """Path of the file that DW_AT_decl_file or DW_AT_call_file `file` in `unit` names; None if there is
        none.
        """
        header = self.line_header(unit)
        return None if header is None else header.path(file)

    # --- the shared file that dwz makes

    @cached_property
    def _alternate_file(self) -> DebugFile:
        from cfi_tables.alternate_file import find_alternate_file

        return find_alternate_file(self.image, self.debug_directories)

    @cached_property
    def alternate(self) -> DebugInfo | None:
        """The file that .gnu_debugaltlink or .debug_sup names: what several debug files share (dwz -m); else None."""
        image = self._alternate_file.image
        try:
            return None if image is None else DebugInfo(image, owner=self)
        except DwarfError as error:
            self.note_problem(replace(error.problem, detail=f"in {image.path}" if image is not None else ""))
            return None

    def note_no_alternate(self, unit: CompilationUnit) -> None:
        """Keep that `unit` refers to the shared file, which cannot be used."""
        reason = self._alternate_file.reason or "the file names none"
        self.note_problem(DwarfProblem(DwarfReason.NO_ALTERNATE, unit.section, unit.offset, unit.offset, detail=reason))
