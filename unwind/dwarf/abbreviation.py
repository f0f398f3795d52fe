"""Abbreviation tables: the shapes of debugging information entries (DWARF 5 §7.5.3).

A table is kept as objects, for single entries, and parsed from .debug_abbrev as far as these need it; what scans whole
units has flat columns (abbreviation_scan.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from unwind.dwarf.constants import (
    DW_FORM_addr,
    DW_FORM_addrx1,
    DW_FORM_addrx2,
    DW_FORM_addrx3,
    DW_FORM_addrx4,
    DW_FORM_data1,
    DW_FORM_data2,
    DW_FORM_data4,
    DW_FORM_data8,
    DW_FORM_data16,
    DW_FORM_flag,
    DW_FORM_flag_present,
    DW_FORM_GNU_ref_alt,
    DW_FORM_GNU_strp_alt,
    DW_FORM_implicit_const,
    DW_FORM_line_strp,
    DW_FORM_ref1,
    DW_FORM_ref2,
    DW_FORM_ref4,
    DW_FORM_ref8,
    DW_FORM_ref_addr,
    DW_FORM_ref_sig8,
    DW_FORM_ref_sup4,
    DW_FORM_ref_sup8,
    DW_FORM_sec_offset,
    DW_FORM_strp,
    DW_FORM_strp_sup,
    DW_FORM_strx1,
    DW_FORM_strx2,
    DW_FORM_strx3,
    DW_FORM_strx4,
)
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_sleb128, read_uleb128

_FIXED_SIZE = {
    DW_FORM_addrx1: 1,
    DW_FORM_addrx2: 2,
    DW_FORM_addrx3: 3,
    DW_FORM_addrx4: 4,
    DW_FORM_data1: 1,
    DW_FORM_data2: 2,
    DW_FORM_data4: 4,
    DW_FORM_data8: 8,
    DW_FORM_data16: 16,
    DW_FORM_flag: 1,
    DW_FORM_flag_present: 0,
    DW_FORM_implicit_const: 0,
    DW_FORM_ref1: 1,
    DW_FORM_ref2: 2,
    DW_FORM_ref4: 4,
    DW_FORM_ref8: 8,
    DW_FORM_ref_sig8: 8,
    DW_FORM_ref_sup4: 4,
    DW_FORM_ref_sup8: 8,
    DW_FORM_strx1: 1,
    DW_FORM_strx2: 2,
    DW_FORM_strx3: 3,
    DW_FORM_strx4: 4,
}
_OFFSET_SIZED = frozenset(
    (
        DW_FORM_strp,
        DW_FORM_line_strp,
        DW_FORM_sec_offset,
        DW_FORM_strp_sup,
        DW_FORM_GNU_ref_alt,
        DW_FORM_GNU_strp_alt,
    )
)


def fixed_form_size(form: int, version: int, address_size: int, offset_size: int) -> int:
    """Bytes that a value of `form` takes in a unit, -1 when its own bytes say so."""
    size = _FIXED_SIZE.get(form)
    if size is not None:
        return size
    if form == DW_FORM_addr:
        return address_size
    if form in _OFFSET_SIZED:
        return offset_size
    if form == DW_FORM_ref_addr:
        # DWARF 2 gave it the size of an address (DWARF 3 §7.5.4 changed that).
        return address_size if version <= 2 else offset_size
    return -1


@dataclass(slots=True)
class Abbreviation:
    """The shape of an entry: its tag and the attributes that follow, in order."""

    tag: int
    has_children: bool
    attributes: list[tuple[int, int, int]]
    """(DW_AT, DW_FORM, value for DW_FORM_implicit_const)."""
    total_size: int
    """Bytes of all attributes together, -1 when it varies."""


class AbbreviationTable:
    """One abbreviation table, as a unit of a given shape uses it; read as far as it was asked for."""

    def __init__(self, data: SectionData, offset: int, version: int, address_size: int, offset_size: int) -> None:
        """Take the table at `offset` of .debug_abbrev."""
        self._data = data
        self._offset = offset
        self._position = offset
        self._is_whole = False
        self._shape = (version, address_size, offset_size)
        self._places: dict[int, int] = {}
        self._by_code: dict[int, Abbreviation] = {}

    def of(self, code: int) -> Abbreviation | None:
        """The abbreviation of `code`, None where there is none. Raises DwarfError when the table is damaged."""
        found = self._by_code.get(code)
        if found is None:
            try:
                while not self._is_whole and code not in self._places:
                    self._pass_next()
                if code in self._places:
                    found = self._by_code[code] = self._read(self._places[code])
            except IndexError:
                raise DwarfError(DwarfReason.TRUNCATED, ".debug_abbrev", self._offset) from None
        return found

    def _pass_next(self) -> None:
        """Note where the next abbreviation is: most of those in front of the one that is wanted are never read."""
        data = self._data
        code, place = read_uleb128(data, self._position)
        if code == 0:
            self._is_whole = True
            return
        _, position = read_uleb128(data, place)
        position += 1
        while True:
            name, form = data[position], data[position + 1]
            position += 2
            if name | form >= 0x80:
                name, position = read_uleb128(data, position - 2)
                form, position = read_uleb128(data, position)
            if form == DW_FORM_implicit_const:
                _, position = read_sleb128(data, position)
            if not name | form:
                break
        self._places.setdefault(code, place)
        self._position = position

    def _read(self, place: int) -> Abbreviation:
        data = self._data
        tag, position = read_uleb128(data, place)
        has_children = data[position] != 0
        position += 1
        attributes: list[tuple[int, int, int]] = []
        total = 0
        while True:
            name, position = read_uleb128(data, position)
            form, position = read_uleb128(data, position)
            constant = 0
            if form == DW_FORM_implicit_const:
                constant, position = read_sleb128(data, position)
            if name == 0 and form == 0:
                return Abbreviation(tag, has_children, attributes, total)
            size = fixed_form_size(form, *self._shape)
            total = -1 if size < 0 or total < 0 else total + size
            attributes.append((name, form, constant))
