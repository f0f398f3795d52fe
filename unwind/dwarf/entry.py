"""Debugging information entries, read one at a time (DWARF 5 §2.1-§2.3); satisfies `unwind.dwarf.die.Die`.

For the entries of one function and its types. Bulk passes over a unit are in function_scan.py. An entry
decodes its attributes at the first question; every method may raise DwarfError where the bytes are damaged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.form import FormClass, read_form
from unwind.dwarf.integer import read_string, read_uleb128
from unwind.dwarf.location_list import location_expression
from unwind.dwarf.range_list import read_range_list

if TYPE_CHECKING:
    from unwind.dwarf.abbreviation import Abbreviation
    from unwind.dwarf.unit import CompilationUnit

_MAXIMUM_CHAIN = 16
"""Steps along abstract origins and specifications; real chains have two or three."""

_MAXIMUM_DEPTH = 10_000
"""Nesting of entries beyond which a unit is taken as damaged."""

# Attributes of DWARF 2 and 3 that had location lists in DW_FORM_data4 and data8 (DWARF 3 §7.5.4, loclistptr);
# DW_AT_data_member_location is not one: there, producers meant a constant.
_LOCATION_ATTRIBUTES = frozenset(
    (
        C.DW_AT_location,
        C.DW_AT_string_length,
        C.DW_AT_return_addr,
        C.DW_AT_frame_base,
        C.DW_AT_segment,
        C.DW_AT_static_link,
        C.DW_AT_use_location,
        C.DW_AT_vtable_elem_location,
    )
)
_OLD_SECTION_OFFSETS = _LOCATION_ATTRIBUTES | {C.DW_AT_stmt_list, C.DW_AT_ranges}
_INTEGER_DATA = (C.DW_FORM_data4, C.DW_FORM_data8)


class Entry:
    """One entry of a unit."""

    __slots__ = ("_attributes", "_end", "_parent", "abbreviation", "offset", "tag", "unit")

    def __init__(self, unit: CompilationUnit, offset: int, parent: Entry | None = None) -> None:
        """Read the abbreviation code at `offset` of the unit's section. Raises DwarfError.

        `parent` is the owner where the caller knows it; it is found when asked for otherwise.
        """
        self.unit = unit
        self.offset = offset
        self._parent = parent
        self._attributes: dict[int, tuple[FormClass, int | bytes]] | None = None
        try:
            code, self._end = read_uleb128(unit.data, offset)
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, unit.section, offset, unit.offset) from None
        abbreviation = unit.abbreviations.of(code)
        if abbreviation is None:
            reason = DwarfReason.BAD_ABBREVIATION if code else DwarfReason.BAD_REFERENCE
            raise DwarfError(reason, unit.section, offset, unit.offset)
        self.abbreviation: Abbreviation = abbreviation
        self.tag = abbreviation.tag

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Entry)
            and self.offset == other.offset
            and self.unit.section == other.unit.section
            and self.unit.info is other.unit.info
        )

    def __hash__(self) -> int:
        return hash((self.offset, self.unit.section, id(self.unit.info)))

    def __repr__(self) -> str:
        return f"Entry({self.unit.section}+{self.offset:#x}, tag {self.tag:#x})"

    # --- attributes

    def _decoded(self) -> dict[int, tuple[FormClass, int | bytes]]:
        attributes = self._attributes
        if attributes is None:
            attributes = {}
            unit = self.unit
            position = self._end
            try:
                for name, form, constant in self.abbreviation.attributes:
                    kind, value, position = read_form(unit, unit.data, form, constant, position)
                    if unit.version < 4 and form in _INTEGER_DATA and name in _OLD_SECTION_OFFSETS:
                        kind = FormClass.SECTION_OFFSET
                    attributes.setdefault(name, (kind, value))
            except IndexError:
                raise DwarfError(DwarfReason.TRUNCATED, unit.section, self.offset, unit.offset) from None
            if position > unit.end:
                raise DwarfError(DwarfReason.TRUNCATED, unit.section, self.offset, unit.offset)
            self._end = position
            self._attributes = attributes
        return attributes

    def has(self, attribute: int) -> bool:
        """Whether this entry alone has DW_AT `attribute`, of whatever class."""
        return attribute in self._decoded()

    def form_class(self, attribute: int) -> FormClass | None:
        """The class in which this entry alone holds DW_AT `attribute`, None when it has none."""
        found = self._decoded().get(attribute)
        return None if found is None else found[0]

    def get(self, attribute: int) -> int | bool | str | bytes | None:
        """The value of DW_AT `attribute` of this entry alone; None when absent, or a reference or a list."""
        found = self._decoded().get(attribute)
        if found is None:
            return None
        kind, value = found
        if isinstance(value, bytes) or kind in (FormClass.CONSTANT, FormClass.ADDRESS):
            return value
        if kind == FormClass.FLAG:
            return bool(value)
        if kind == FormClass.ADDRESS_INDEX:
            return self.unit.addrx(value)
        return self._string(kind, value)

    def _string(self, kind: FormClass, value: int) -> str | None:
        unit = self.unit
        sections = unit.info.sections
        if kind == FormClass.STRP:
            return sections.string(".debug_str", value)
        if kind == FormClass.LINE_STRP:
            return sections.string(".debug_line_str", value)
        if kind == FormClass.STRING:
            return read_string(unit.data, value)[0]
        if kind == FormClass.STRING_INDEX:
            return sections.string(".debug_str", unit.strx(value))
        if kind == FormClass.ALTERNATE_STRP:
            alternate = unit.info.alternate
            if alternate is not None:
                return alternate.sections.string(".debug_str", value)
            unit.info.note_no_alternate(unit)
        return None

    def section_offset(self, attribute: int) -> int | None:
        """The value of an attribute of class lineptr, rnglist, loclist or one of the *_base classes."""
        found = self._decoded().get(attribute)
        if found is None or found[0] != FormClass.SECTION_OFFSET or isinstance(found[1], bytes):
            return None
        return found[1]

    def reference(self, attribute: int) -> Entry | None:
        """The entry that a reference-class attribute names, in whatever unit or file it lies.

        None when the attribute is absent, or its target is in a dwz file or type unit that is not there
        (noted in `DebugInfo.problems`). Raises DwarfError when the place cannot hold an entry.
        """
        found = self._decoded().get(attribute)
        if found is None:
            return None
        kind, value = found
        if isinstance(value, bytes):
            return None
        unit = self.unit
        if kind == FormClass.REFERENCE and unit.die_offset <= value < unit.end:
            return unit.entry_at(value)
        target = self._in_other_unit(kind, value)
        if target is not None and target.unit.referring_language is None:
            target.unit.referring_language = unit.language
        return target

    def _in_other_unit(self, kind: FormClass, value: int) -> Entry | None:
        info = self.unit.info
        if kind == FormClass.REFERENCE:
            return info.die_at(value)
        if kind == FormClass.SIGNATURE:
            return info.type_by_signature(value)
        if kind == FormClass.ALTERNATE_REFERENCE:
            if info.alternate is not None:
                return info.alternate.die_at(value)
            info.note_no_alternate(self.unit)
        return None

    def _origin(self) -> Entry | None:
        return self.reference(C.DW_AT_abstract_origin) or self.reference(C.DW_AT_specification)

    def chain(self) -> Iterator[Entry]:
        """This entry, then those that complete it: abstract origins and specifications (§3.3.8, §2.13.2)."""
        entry: Entry | None = self
        for _ in range(_MAXIMUM_CHAIN):
            if entry is None:
                return
            yield entry
            entry = entry._origin()
        raise DwarfError(DwarfReason.TOO_DEEP, self.unit.section, self.offset, self.unit.offset)

    def inherited(self, attribute: int) -> int | bool | str | bytes | None:
        """`get`, looked for along DW_AT_abstract_origin and DW_AT_specification too."""
        for entry in self.chain():
            if attribute in entry._decoded():
                return entry.get(attribute)
        return None

    def inherited_reference(self, attribute: int) -> Entry | None:
        """`reference`, looked for along DW_AT_abstract_origin and DW_AT_specification too."""
        for entry in self.chain():
            if attribute in entry._decoded():
                return entry.reference(attribute)
        return None

    # --- the tree

    def _attributes_end(self) -> int:
        """Offset after the attributes, without decoding them where their size is fixed."""
        if self._attributes is None and self.abbreviation.total_size >= 0:
            return self._end + self.abbreviation.total_size
        self._decoded()
        return self._end

    def _sibling(self) -> int | None:
        """Offset of the next sibling where DW_AT_sibling tells it, and it lies ahead."""
        for name, _, _ in self.abbreviation.attributes:
            if name == C.DW_AT_sibling:
                found = self._decoded()[C.DW_AT_sibling]
                if (
                    found[0] == FormClass.REFERENCE
                    and isinstance(found[1], int)
                    and self._end < found[1] <= self.unit.end
                ):
                    return found[1]
        return None

    def _after(self) -> int:
        """Offset after this entry and everything under it."""
        unit = self.unit
        depth = 0
        entry = self
        while True:
            sibling = entry._sibling() if entry.abbreviation.has_children else None
            if sibling is not None:
                position = sibling
            else:
                position = entry._attributes_end()
                if entry.abbreviation.has_children:
                    depth += 1
            while depth and position < unit.end and unit.data[position] == 0:
                depth -= 1
                position += 1
            if depth == 0:
                return position
            if position >= unit.end:
                raise DwarfError(DwarfReason.TRUNCATED, unit.section, entry.offset, unit.offset)
            entry = Entry(unit, position)

    def children_range(self) -> tuple[int, int]:
        """Where the entries under this one begin, and where they end at most; twice the same without any."""
        begin = self._attributes_end()
        if not self.abbreviation.has_children:
            return begin, begin
        return begin, self._sibling() or self.unit.end

    def children(self) -> Iterator[Entry]:
        """Child entries in order."""
        if not self.abbreviation.has_children:
            return
        unit = self.unit
        position = self._attributes_end()
        while True:
            if position >= unit.end:
                raise DwarfError(DwarfReason.TRUNCATED, unit.section, self.offset, unit.offset)
            if unit.data[position] == 0:
                return
            child = unit.entry_at(position, self)
            yield child
            position = child._after()

    def parent(self) -> Entry | None:
        """The entry that owns this one, None for a unit's entry. Raises DwarfError."""
        if self._parent is None and self.offset != self.unit.die_offset:
            owner = self.unit.root
            for _ in range(_MAXIMUM_DEPTH):
                offsets = self.unit.child_offsets(owner)
                index = bisect_right(offsets, self.offset) - 1
                if index < 0:
                    break
                if offsets[index] == self.offset:
                    self._parent = owner
                    return owner
                owner = Entry(self.unit, offsets[index], owner)
            raise DwarfError(DwarfReason.BAD_REFERENCE, self.unit.section, self.offset, self.unit.offset)
        return self._parent

    # --- addresses

    def ranges(self) -> list[tuple[int, int]]:
        """Address ranges [low, high) of DW_AT_low_pc/high_pc or DW_AT_ranges (§2.17); [] when it has none."""
        attributes = self._decoded()
        found = attributes.get(C.DW_AT_ranges)
        if found is not None and not isinstance(found[1], bytes):
            return read_range_list(self.unit, found[1], found[0] == FormClass.RANGE_LIST_INDEX)
        low = self.get(C.DW_AT_low_pc)
        high = self.get(C.DW_AT_high_pc)
        if not isinstance(low, int) or not isinstance(high, int):
            return []
        if attributes[C.DW_AT_high_pc][0] == FormClass.CONSTANT:
            high += low
        return [(low, high)] if low < high else []

    def locations(self, attribute: int, pc: int) -> bytes | None:
        """The expression in force at `pc` (a file virtual address) of an exprloc or loclist attribute.

        b"" when the location list covers `pc` with an empty expression (optimized out), None when there is no
        such attribute or no covering entry.
        """
        found = self._decoded().get(attribute)
        if found is None:
            return None
        kind, value = found
        if isinstance(value, bytes):
            return value
        if kind in (FormClass.SECTION_OFFSET, FormClass.LOCATION_LIST_INDEX):
            return location_expression(self.unit, value, kind == FormClass.LOCATION_LIST_INDEX, pc)
        return None
