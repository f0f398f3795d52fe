"""Attribute forms: how a value is encoded, and what class of value it is (DWARF 5 §7.5.5 and §7.5.6).

`read_form` gives a value in raw shape together with its class; it resolves nothing, so that the reader of
an entry
pays only for what is asked. Forms of DWARF 2 to 5 and the GNU extensions for split and shared (dwz) debug
files.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_sleb128, read_string, read_uleb128, read_unsigned

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit


class FormClass(IntEnum):
    """Class of a raw value, and what the raw value then is."""

    ADDRESS = 0
    """int: the address."""
    ADDRESS_INDEX = 1
    """int: index in the unit's part of .debug_addr."""
    CONSTANT = 2
    """int."""
    FLAG = 3
    """int, 0 or 1."""
    STRING = 4
    """int: offset in the section that the entry is in."""
    STRP = 5
    """int: offset in .debug_str."""
    LINE_STRP = 6
    """int: offset in .debug_line_str."""
    STRING_INDEX = 7
    """int: index in the unit's part of .debug_str_offsets."""
    BLOCK = 8
    """bytes."""
    REFERENCE = 9
    """int: offset in the section that the entry is in (unit base added), for ref_addr in .debug_info."""
    SIGNATURE = 10
    """int: signature of a type unit."""
    SECTION_OFFSET = 11
    """int: offset in a section that the attribute chooses."""
    RANGE_LIST_INDEX = 12
    LOCATION_LIST_INDEX = 13
    EXPRESSION = 14
    """bytes (DW_FORM_exprloc)."""
    ALTERNATE_REFERENCE = 15
    """int: offset in .debug_info of the shared (dwz, supplementary) file."""
    ALTERNATE_STRP = 16
    """int: offset in .debug_str of the shared file."""


_FIXED = {
    C.DW_FORM_data1: (1, FormClass.CONSTANT),
    C.DW_FORM_data2: (2, FormClass.CONSTANT),
    C.DW_FORM_data4: (4, FormClass.CONSTANT),
    C.DW_FORM_data8: (8, FormClass.CONSTANT),
    C.DW_FORM_flag: (1, FormClass.FLAG),
    C.DW_FORM_ref_sig8: (8, FormClass.SIGNATURE),
    C.DW_FORM_ref_sup4: (4, FormClass.ALTERNATE_REFERENCE),
    C.DW_FORM_ref_sup8: (8, FormClass.ALTERNATE_REFERENCE),
    C.DW_FORM_strx1: (1, FormClass.STRING_INDEX),
    C.DW_FORM_strx2: (2, FormClass.STRING_INDEX),
    C.DW_FORM_strx3: (3, FormClass.STRING_INDEX),
    C.DW_FORM_strx4: (4, FormClass.STRING_INDEX),
    C.DW_FORM_addrx1: (1, FormClass.ADDRESS_INDEX),
    C.DW_FORM_addrx2: (2, FormClass.ADDRESS_INDEX),
    C.DW_FORM_addrx3: (3, FormClass.ADDRESS_INDEX),
    C.DW_FORM_addrx4: (4, FormClass.ADDRESS_INDEX),
}
_OFFSET_SIZED = {
    C.DW_FORM_strp: FormClass.STRP,
    C.DW_FORM_line_strp: FormClass.LINE_STRP,
    C.DW_FORM_sec_offset: FormClass.SECTION_OFFSET,
    C.DW_FORM_strp_sup: FormClass.ALTERNATE_STRP,
    C.DW_FORM_GNU_strp_alt: FormClass.ALTERNATE_STRP,
    C.DW_FORM_GNU_ref_alt: FormClass.ALTERNATE_REFERENCE,
}
_ULEB = {
    C.DW_FORM_udata: FormClass.CONSTANT,
    C.DW_FORM_strx: FormClass.STRING_INDEX,
    C.DW_FORM_addrx: FormClass.ADDRESS_INDEX,
    C.DW_FORM_loclistx: FormClass.LOCATION_LIST_INDEX,
    C.DW_FORM_rnglistx: FormClass.RANGE_LIST_INDEX,
    C.DW_FORM_GNU_addr_index: FormClass.ADDRESS_INDEX,
    C.DW_FORM_GNU_str_index: FormClass.STRING_INDEX,
}
_LOCAL_REFERENCE = {C.DW_FORM_ref1: 1, C.DW_FORM_ref2: 2, C.DW_FORM_ref4: 4, C.DW_FORM_ref8: 8}
_BLOCK_LENGTH = {C.DW_FORM_block1: 1, C.DW_FORM_block2: 2, C.DW_FORM_block4: 4}

FORM_CLASS: dict[int, FormClass] = (
    {form: kind for form, (_, kind) in _FIXED.items()}
    | _OFFSET_SIZED
    | _ULEB
    | dict.fromkeys((*_LOCAL_REFERENCE, C.DW_FORM_ref_udata, C.DW_FORM_ref_addr), FormClass.REFERENCE)
    | {
        C.DW_FORM_addr: FormClass.ADDRESS,
        C.DW_FORM_string: FormClass.STRING,
        C.DW_FORM_sdata: FormClass.CONSTANT,
        C.DW_FORM_implicit_const: FormClass.CONSTANT,
        C.DW_FORM_flag_present: FormClass.FLAG,
    }
)
"""Class of the forms whose raw value is an integer."""


def read_form(
    unit: CompilationUnit, data: SectionData, form: int, constant: int, position: int
) -> tuple[FormClass, int | bytes, int]:
    """Class, raw value and end of the value of `form` at `position`.

    Raises IndexError when the section ends early, DwarfError for an unknown form.
    """
    fixed = _FIXED.get(form)
    if fixed is not None:
        size, kind = fixed
        return kind, read_unsigned(data, position, size), position + size
    offset_kind = _OFFSET_SIZED.get(form)
    if offset_kind is not None:
        size = unit.offset_size
        return offset_kind, read_unsigned(data, position, size), position + size
    size = _LOCAL_REFERENCE.get(form, 0)
    if size:
        return FormClass.REFERENCE, unit.offset + read_unsigned(data, position, size), position + size
    if form == C.DW_FORM_addr:
        size = unit.address_size
        return FormClass.ADDRESS, read_unsigned(data, position, size), position + size
    uleb_kind = _ULEB.get(form)
    if uleb_kind is not None:
        value, position = read_uleb128(data, position)
        return uleb_kind, value, position
    if form == C.DW_FORM_flag_present:
        return FormClass.FLAG, 1, position
    if form == C.DW_FORM_implicit_const:
        return FormClass.CONSTANT, constant, position
    return _read_rare_form(unit, data, form, position)


def _read_rare_form(
    unit: CompilationUnit, data: SectionData, form: int, position: int
) -> tuple[FormClass, int | bytes, int]:
    if form in (C.DW_FORM_exprloc, C.DW_FORM_block):
        length, position = read_uleb128(data, position)
        kind = FormClass.EXPRESSION if form == C.DW_FORM_exprloc else FormClass.BLOCK
        return kind, *_read_block(data, position, length)
    if form in _BLOCK_LENGTH:
        size = _BLOCK_LENGTH[form]
        length = read_unsigned(data, position, size)
        return FormClass.BLOCK, *_read_block(data, position + size, length)
    if form == C.DW_FORM_data16:
        return FormClass.BLOCK, *_read_block(data, position, 16)
    if form == C.DW_FORM_sdata:
        value, position = read_sleb128(data, position)
        return FormClass.CONSTANT, value, position
    if form == C.DW_FORM_string:
        end = read_string(data, position)[1]
        return FormClass.STRING, position, end
    if form == C.DW_FORM_ref_udata:
        value, position = read_uleb128(data, position)
        return FormClass.REFERENCE, unit.offset + value, position
    if form == C.DW_FORM_ref_addr:
        size = unit.address_size if unit.version <= 2 else unit.offset_size
        return FormClass.REFERENCE, read_unsigned(data, position, size), position + size
    if form == C.DW_FORM_indirect:
        form, after = read_uleb128(data, position)
        # Neither may follow: one has no value here, the other could go on for ever.
        if form not in (C.DW_FORM_indirect, C.DW_FORM_implicit_const):
            return read_form(unit, data, form, 0, after)
    raise DwarfError(DwarfReason.BAD_FORM, unit.section, position, unit.offset)


def _read_block(data: SectionData, position: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(data):
        raise IndexError(position)
    return bytes(data[position:end]), end
