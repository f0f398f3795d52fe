"""Units of .debug_info with their abbreviations, strings, indexed addresses and range lists (DWARF 5 §7.5; 2 to 5).

A tree of `EntrySpec` is written twice: the first time tells where every entry lies, which references then name. Forms
are written as they are asked for, whether a compiler would choose them or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cfi_writer.leb128 import sleb, uleb

from unwind.dwarf import constants as C

_FIXED = {
    C.DW_FORM_data1: 1, C.DW_FORM_data2: 2, C.DW_FORM_data4: 4, C.DW_FORM_data8: 8, C.DW_FORM_data16: 16,
    C.DW_FORM_flag: 1, C.DW_FORM_ref_sig8: 8, C.DW_FORM_ref_sup4: 4, C.DW_FORM_ref_sup8: 8,
}  # fmt: skip
_STRING_INDEX = {C.DW_FORM_strx1: 1, C.DW_FORM_strx2: 2, C.DW_FORM_strx3: 3, C.DW_FORM_strx4: 4}
_ADDRESS_INDEX = {C.DW_FORM_addrx1: 1, C.DW_FORM_addrx2: 2, C.DW_FORM_addrx3: 3, C.DW_FORM_addrx4: 4}
_REFERENCE = {C.DW_FORM_ref1: 1, C.DW_FORM_ref2: 2, C.DW_FORM_ref4: 4, C.DW_FORM_ref8: 8}
_BLOCK_LENGTH = {C.DW_FORM_block1: 1, C.DW_FORM_block2: 2, C.DW_FORM_block4: 4}
_SECTION_OFFSETS = (C.DW_FORM_sec_offset, C.DW_FORM_strp_sup, C.DW_FORM_GNU_strp_alt, C.DW_FORM_GNU_ref_alt)
_NUMBERS = (C.DW_FORM_udata, C.DW_FORM_loclistx, C.DW_FORM_rnglistx)


@dataclass
class EntrySpec:
    """An entry to be written."""

    tag: int
    attributes: list[tuple[int, int, Any]]
    """(DW_AT, DW_FORM, value): text for strings, a label for references, bytes for blocks, else a number.

    The value of DW_FORM_indirect is (form, value).
    """
    children: list[EntrySpec] = field(default_factory=list)
    label: str = ""
    """What references call it."""


@dataclass
class UnitSpec:
    """A unit to be written."""

    root: EntrySpec
    version: int = 5
    offset_size: int = 4
    address_size: int = 8
    unit_type: int = C.DW_UT_compile


def uleb_of_size(value: int, size: int) -> bytes:
    """An unsigned LEB128 number in `size` bytes, longer than it need be."""
    digits = [value >> 7 * index & 127 for index in range(size)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def initial_length(body: bytes, offset_size: int) -> bytes:
    """`body` behind its length, in 32-bit or 64-bit DWARF (§7.4)."""
    if offset_size == 8:
        return b"\xff\xff\xff\xff" + len(body).to_bytes(8, "little") + body
    return len(body).to_bytes(4, "little") + body


class DebugWriter:
    """The sections of one file."""

    def __init__(self, offset_size: int = 4, address_size: int = 8, version: int = 5) -> None:
        """Tables of strings and addresses are written for units of this shape."""
        self.offset_size, self.address_size, self.version = offset_size, address_size, version
        self.sections: dict[str, bytearray] = {name: bytearray() for name in (".debug_info", ".debug_abbrev")}
        self._strings: dict[str, dict[str, int]] = {".debug_str": {}, ".debug_line_str": {}}
        self._string_table: list[str] = []
        self._addresses: list[int] = []
        self._labels: dict[str, tuple[int, int]] = {}
        """Label -> (offset of its unit, offset of the entry)."""

    @property
    def table_header(self) -> int:
        """Bytes in front of the first item of .debug_str_offsets and .debug_addr: what DW_AT_*_base say."""
        return (8 if self.offset_size == 4 else 16) if self.version >= 5 else 0

    def string_offset(self, text: str, section: str = ".debug_str") -> int:
        """Where `text` lies in a string section."""
        data = self.sections.setdefault(section, bytearray(b"\0"))
        known = self._strings[section]
        if text not in known:
            known[text] = len(data)
            data += text.encode() + b"\0"
        return known[text]

    def string_index(self, text: str) -> int:
        """The index of `text` in .debug_str_offsets."""
        if text not in self._string_table:
            self._string_table.append(text)
        return self._string_table.index(text)

    def address_index(self, address: int) -> int:
        """The index of `address` in .debug_addr."""
        if address not in self._addresses:
            self._addresses.append(address)
        return self._addresses.index(address)

    def append(self, section: str, data: bytes) -> int:
        """Append to a section; gives the offset."""
        contents = self.sections.setdefault(section, bytearray())
        contents += data
        return len(contents) - len(data)

    def write_units(self, units: Sequence[UnitSpec]) -> None:
        """Write all units; references may go from any to any."""
        for _ in range(2):
            self.sections[".debug_info"] = bytearray()
            self.sections[".debug_abbrev"] = bytearray()
            for unit in units:
                self._write_unit(unit)

    def finished(self) -> dict[str, bytes]:
        """The sections, with the tables that indices refer to."""
        header = b"" if self.version < 5 else (5).to_bytes(2, "little")
        if self._string_table:
            offsets = b"".join(self.string_offset(text).to_bytes(self.offset_size, "little")
                               for text in self._string_table)  # fmt: skip
            body = (header + b"\0\0" if header else b"") + offsets
            self.sections[".debug_str_offsets"] = bytearray(
                initial_length(body, self.offset_size) if header else offsets
            )
        if self._addresses:
            addresses = b"".join(each.to_bytes(self.address_size, "little") for each in self._addresses)
            body = header + bytes([self.address_size, 0]) + addresses
            self.sections[".debug_addr"] = bytearray(initial_length(body, self.offset_size) if header else addresses)
        return {name: bytes(data) for name, data in self.sections.items()}

    def _write_unit(self, unit: UnitSpec) -> None:
        start = len(self.sections[".debug_info"])
        abbreviations = len(self.sections[".debug_abbrev"])
        size = unit.offset_size
        head = unit.version.to_bytes(2, "little")
        if unit.version >= 5:
            head += bytes([unit.unit_type, unit.address_size]) + abbreviations.to_bytes(size, "little")
        else:
            head += abbreviations.to_bytes(size, "little") + bytes([unit.address_size])
        first = start + (12 if size == 8 else 4) + len(head)
        codes: dict[tuple[Any, ...], int] = {}
        body = self._entry(unit, start, first, unit.root, codes)
        self.sections[".debug_info"] += initial_length(head + body, size)
        for (tag, children, *attributes), code in codes.items():
            out = uleb(code) + uleb(tag) + bytes([children])
            for name, form, constant in attributes:
                out += uleb(name) + uleb(form) + (b"" if constant is None else sleb(constant))
            self.sections[".debug_abbrev"] += out + b"\0\0"
        self.sections[".debug_abbrev"] += b"\0"

    def _entry(self, unit: UnitSpec, start: int, position: int, entry: EntrySpec, codes: dict[Any, int]) -> bytes:
        shape = (
            entry.tag,
            int(bool(entry.children)),
            *((name, form, value if form == C.DW_FORM_implicit_const else None)
              for name, form, value in entry.attributes),
        )  # fmt: skip
        # Codes neither begin at 1 nor follow one another, and take two bytes after some.
        code = codes.setdefault(shape, 3 * len(codes) + 40)
        if entry.label:
            self._labels[entry.label] = (start, position)
        out = uleb(code)
        for _, form, value in entry.attributes:
            out += self.encoded(unit, start, form, value)
        for child in entry.children:
            out += self._entry(unit, start, position + len(out), child, codes)
        return out + (b"\0" if entry.children else b"")

    def encoded(self, unit: UnitSpec, start: int, form: int, value: Any) -> bytes:
        """The bytes of a value of `form` in the unit at `start`."""
        if form == C.DW_FORM_indirect:
            return uleb(value[0]) + self.encoded(unit, start, *value)
        if form in (C.DW_FORM_implicit_const, C.DW_FORM_flag_present):
            return b""
        if form in _FIXED:
            return int(value).to_bytes(_FIXED[form], "little", signed=value < 0)
        if form == C.DW_FORM_string:
            return str(value).encode() + b"\0"
        if form in (C.DW_FORM_strp, C.DW_FORM_line_strp):
            section = ".debug_str" if form == C.DW_FORM_strp else ".debug_line_str"
            return self.string_offset(value, section).to_bytes(unit.offset_size, "little")
        if form in _STRING_INDEX:
            return self.string_index(value).to_bytes(_STRING_INDEX[form], "little")
        if form in (C.DW_FORM_strx, C.DW_FORM_GNU_str_index):
            return uleb(self.string_index(value))
        if form == C.DW_FORM_addr:
            return int(value).to_bytes(unit.address_size, "little")
        if form in _ADDRESS_INDEX:
            return self.address_index(value).to_bytes(_ADDRESS_INDEX[form], "little")
        if form in (C.DW_FORM_addrx, C.DW_FORM_GNU_addr_index):
            return uleb(self.address_index(value))
        if form in _SECTION_OFFSETS:
            return int(value).to_bytes(unit.offset_size, "little")
        if form in _NUMBERS:
            return uleb(value)
        if form == C.DW_FORM_sdata:
            return sleb(value)
        return self._reference(unit, start, form, value) if isinstance(value, str) else self._block(form, value)

    def _reference(self, unit: UnitSpec, start: int, form: int, label: str) -> bytes:
        base, place = self._labels.get(label, (start, start))
        if form == C.DW_FORM_ref_addr:
            return place.to_bytes(unit.address_size if unit.version == 2 else unit.offset_size, "little")
        assert base == start or label not in self._labels, f"{label} is in another unit"
        if form == C.DW_FORM_ref_udata:
            return uleb_of_size(place - start, 4)
        return (place - start).to_bytes(_REFERENCE[form], "little")

    def _block(self, form: int, value: bytes) -> bytes:
        if form in _BLOCK_LENGTH:
            return len(value).to_bytes(_BLOCK_LENGTH[form], "little") + value
        assert form in (C.DW_FORM_block, C.DW_FORM_exprloc), hex(form)
        return uleb(len(value)) + value
