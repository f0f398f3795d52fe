"""Units of .debug_info and .debug_types: their headers and first entries (DWARF 5 §7.5.1, §3.1).

Versions 2 to 5 in both DWARF formats. Data comes from a file's sections; a unit is the context in which every
form, list and index of its entries is read.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.abbreviation import AbbreviationTable
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_unsigned
from unwind.dwarf.package_index import WHOLE_FILE, Contribution

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.entry import Entry

_KEPT_ENTRIES = 4096


class CompilationUnit:
    """A compilation, partial, skeleton or type unit; satisfies `unwind.dwarf.die.Unit`."""

    def __init__(self, info: DebugInfo, section: str, offset: int) -> None:
        """Read the header at `offset`. Raises DwarfError; nothing after it in the section can then be
        found.
        """
        self.info = info
        self.section = section
        self.offset = offset
        """Bytes from the start of `section` to the unit's header."""
        self._child_offsets: dict[int, list[int]] = {}
        self._entries: dict[int, Entry] = {}
        data = info.sections.get(section)
        self.data = data
        self.skeleton: CompilationUnit | None = None
        """Of a unit in a split file: the program's unit that it completes."""
        self.contribution: Contribution = WHOLE_FILE
        """The unit's parts of the sections of a package file."""
        self.referring_language: int | None = None
        """DW_LANG of a unit that refers to this one."""
        try:
            self._read_header(data, offset)
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, section, offset, offset) from None

    def _read_header(self, data: SectionData, offset: int) -> None:
        length = read_unsigned(data, offset, 4)
        self.offset_size = 4
        position = offset + 4
        if length == 0xFFFFFFFF:
            length = read_unsigned(data, position, 8)
            self.offset_size = 8
            position += 8
        elif length >= 0xFFFFFFF0:
            raise DwarfError(DwarfReason.BAD_UNIT, self.section, offset, offset)
        self.end = position + length
        """Offset after the unit's last byte; the next unit begins there."""
        self.truncated = self.end > len(data)
        self.end = min(self.end, len(data))
        self.version = read_unsigned(data, position, 2)
        position += 2
        self.unit_type = C.DW_UT_compile
        if self.version >= 5:
            self.unit_type = data[position]
            self.address_size = data[position + 1]
            position += 2
            self.abbreviation_offset = read_unsigned(data, position, self.offset_size)
            position += self.offset_size
        else:
            self.abbreviation_offset = read_unsigned(data, position, self.offset_size)
            position += self.offset_size
            self.address_size = data[position]
            position += 1
        if self.section == ".debug_types":
            self.unit_type = C.DW_UT_type
        self.signature: int | None = None
        """Signature of a type unit (or the identifier of a skeleton unit)."""
        self.type_offset: int | None = None
        """Offset in the section of the type that a type unit describes."""
        if self.unit_type in (C.DW_UT_skeleton, C.DW_UT_split_compile):
            self.signature = read_unsigned(data, position, 8)
            position += 8
        elif self.unit_type in (C.DW_UT_type, C.DW_UT_split_type):
            self.signature = read_unsigned(data, position, 8)
            self.type_offset = offset + read_unsigned(data, position + 8, self.offset_size)
            position += 8 + self.offset_size
        self.die_offset = position
        """Offset in the section of the unit's first entry."""

    def check(self) -> None:
        """Raise DwarfError when the header is of no known version or makes no sense."""
        if not 2 <= self.version <= 5:
            raise DwarfError(DwarfReason.BAD_VERSION, self.section, self.offset, self.offset)
        if self.address_size not in (4, 8) or not 1 <= self.unit_type <= 6:
            raise DwarfError(DwarfReason.BAD_UNIT, self.section, self.offset, self.offset)

    @cached_property
    def abbreviations(self) -> AbbreviationTable:
        """The unit's abbreviations. Raises DwarfError."""
        self.check()
        offset = self.contribution.of(".debug_abbrev") + self.abbreviation_offset
        return self.info.abbreviations(offset, self.version, self.address_size, self.offset_size)

    @cached_property
    def root(self) -> Entry:
        """The unit's first entry. Raises DwarfError."""
        from unwind.dwarf.entry import Entry

        self.check()
        return Entry(self, self.die_offset)

    def die_at(self, offset: int) -> Entry | None:
        """The entry at `offset` of .debug_info, of any unit of the file; None when there cannot be one."""
        try:
            if self.die_offset <= offset < self.end:
                return self.entry_at(offset)
            return self.info.die_at(offset)
        except DwarfError:
            return None

    def child_offsets(self, owner: Entry) -> list[int]:
        """Offsets of the entries directly under `owner`, kept for the next question. Raises DwarfError."""
        from unwind.dwarf.child_scan import child_offsets

        offsets = self._child_offsets.get(owner.offset)
        if offsets is None:
            begin, end = owner.children_range()
            offsets = child_offsets(self, begin, end) if begin < end else []
            if offsets is None:
                offsets = [child.offset for child in owner.children()]
            self._child_offsets[owner.offset] = offsets
        return offsets

    def entry_at(self, offset: int, parent: Entry | None = None) -> Entry:
        """The entry at `offset` of the section, whose owner may be told. Raises DwarfError when there cannot be one.

        Entries are kept with what they have decoded: types and parameters are asked for again at every hit.
        """
        entry = self._entries.get(offset)
        if entry is not None:
            return entry
        from unwind.dwarf.entry import Entry

        if not self.die_offset <= offset < self.end:
            raise DwarfError(DwarfReason.BAD_REFERENCE, self.section, offset, self.offset)
        self.check()
        if len(self._entries) >= _KEPT_ENTRIES:
            self._entries.clear()
        entry = self._entries[offset] = Entry(self, offset, parent)
        return entry

    # --- what the first entry says

    def _constant(self, attribute: int) -> int | None:
        value = self.root.get(attribute)
        return value if isinstance(value, int) else None

    def _text(self, attribute: int) -> str | None:
        value = self.root.get(attribute)
        return value if isinstance(value, str) else None

    @property
    def language(self) -> int | None:
        """DW_LANG of the unit, None where it is not told (or its first entry is damaged).

        Partial units (dwz) tell none: theirs is that of the first unit that was seen to refer to them.
        """
        return self._own_language or self.referring_language

    @cached_property
    def _own_language(self) -> int | None:
        try:
            return self._constant(C.DW_AT_language)
        except DwarfError:
            return None

    @cached_property
    def name(self) -> str | None:
        """Path of the primary source file."""
        return self._text(C.DW_AT_name)

    @cached_property
    def compilation_directory(self) -> str | None:
        """Directory that relative paths are relative to."""
        return self._text(C.DW_AT_comp_dir) or (self.skeleton.compilation_directory if self.skeleton else None)

    @cached_property
    def producer(self) -> str | None:
        """The compiler's name, and often its options; None where it is not told (or its entry is damaged)."""
        try:
            return self._text(C.DW_AT_producer)
        except DwarfError:
            return None

    @cached_property
    def is_skeleton(self) -> bool:
        """Whether the unit's entries are in a separate .dwo file. Raises DwarfError.

        A full unit repeats the name of its file, so a unit of a split file is none.
        """
        return self.unit_type == C.DW_UT_skeleton or (
            not self.info.sections_suffix and (self.root.has(C.DW_AT_GNU_dwo_name) or self.root.has(C.DW_AT_dwo_name))
        )

    @cached_property
    def is_type(self) -> bool:
        """Whether it is a type unit, in a split file or not."""
        return self.unit_type in (C.DW_UT_type, C.DW_UT_split_type)

    @cached_property
    def split_identifier(self) -> int | None:
        """The dwo_id that a skeleton unit and its full unit have in common. Raises DwarfError."""
        if self.unit_type in (C.DW_UT_skeleton, C.DW_UT_split_compile):
            return self.signature
        return self._constant(C.DW_AT_GNU_dwo_id)

    @cached_property
    def split_name(self) -> str | None:
        """Path of the .dwo file, relative to the compilation directory. Raises DwarfError."""
        return self._text(C.DW_AT_dwo_name) or self._text(C.DW_AT_GNU_dwo_name)

    @cached_property
    def line_offset(self) -> int | None:
        """Offset of the unit's line number program in .debug_line."""
        offset = self.root.section_offset(C.DW_AT_stmt_list)
        return None if offset is None else offset + self.contribution.of(".debug_line")

    @cached_property
    def base_address(self) -> int:
        """What offsets in range and location lists are relative to until a list says otherwise (§2.17.3)."""
        value = (self.skeleton or self).root.get(C.DW_AT_low_pc)
        return value if isinstance(value, int) else 0

    @cached_property
    def ranges(self) -> list[tuple[int, int]]:
        """Address ranges [low, high) that the unit says it covers. Raises DwarfError."""
        return self.root.ranges()

    # --- bases of the indexed forms (§3.1.1, DW_AT_*_base)

    def _base(self, attribute: int, default: int) -> int:
        value = self.root.section_offset(attribute)
        return default if value is None else value

    @cached_property
    def address_base(self) -> int:
        """Offset in .debug_addr of the unit's address 0."""
        header = (8 if self.offset_size == 4 else 16) if self.version >= 5 else 0
        return self._base(C.DW_AT_addr_base, self._base(C.DW_AT_GNU_addr_base, header))

    @cached_property
    def string_offsets_base(self) -> int:
        """Offset in .debug_str_offsets of the unit's string 0."""
        header = (8 if self.offset_size == 4 else 16) if self.version >= 5 else 0
        return self._base(C.DW_AT_str_offsets_base, header + self.contribution.of(".debug_str_offsets"))

    @cached_property
    def range_lists_base(self) -> int:
        """Offset in .debug_rnglists of the unit's table of offsets."""
        header = 12 if self.offset_size == 4 else 20
        return self._base(C.DW_AT_rnglists_base, header + self.contribution.of(".debug_rnglists"))

    @cached_property
    def split_ranges_base(self) -> int:
        """What a skeleton unit adds to its full unit's offsets in .debug_ranges (GNU's split DWARF 4)."""
        return self._base(C.DW_AT_GNU_ranges_base, 0)

    @cached_property
    def location_lists_base(self) -> int:
        """Offset in .debug_loclists of the unit's table of offsets."""
        header = 12 if self.offset_size == 4 else 20
        return self._base(C.DW_AT_loclists_base, header + self.contribution.of(".debug_loclists"))

    def addrx(self, index: int) -> int:
        """The address at `index` of the unit's part of .debug_addr (§7.27). Raises DwarfError."""
        if self.skeleton is not None:
            return self.skeleton.addrx(index)
        section = ".debug_addr"
        position = self.address_base + index * self.address_size
        try:
            return read_unsigned(self.info.sections.get(section), position, self.address_size)
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, section, position, self.offset) from None

    def strx(self, index: int) -> int:
        """Offset in .debug_str of the unit's string `index` (§7.26). Raises DwarfError."""
        section = ".debug_str_offsets"
        position = self.string_offsets_base + index * self.offset_size
        try:
            return read_unsigned(self.info.sections.get(section), position, self.offset_size)
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, section, position, self.offset) from None

    def __repr__(self) -> str:
        return f"CompilationUnit({self.section}+{self.offset:#x}, version {self.version})"
