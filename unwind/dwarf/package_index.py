"""Package files (.dwp): which part of each section belongs to a unit (DWARF 5 §7.3.5; version 2 is GNU's, binutils).

Data comes from .debug_cu_index and .debug_tu_index; the contributions go to the units of a split file.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_unsigned

# DW_SECT numbers of the sections that are read, by version of the index.
_SECTIONS = {
    2: {
        1: ".debug_info", 2: ".debug_types", 3: ".debug_abbrev", 4: ".debug_line", 5: ".debug_loc",
        6: ".debug_str_offsets",
    },
    5: {
        1: ".debug_info", 3: ".debug_abbrev", 4: ".debug_line", 5: ".debug_loclists", 6: ".debug_str_offsets",
        8: ".debug_rnglists",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contribution:
    """Where a unit's part of each section begins, by the section's name without `.dwo`; 0 where it is not told."""

    offsets: MappingProxyType[str, int]

    def of(self, section: str) -> int:
        """Bytes from the start of `section` to the unit's part."""
        return self.offsets.get(section, 0)


WHOLE_FILE = Contribution(MappingProxyType({}))
"""Of a unit that has the sections of its file for itself."""


def read_package_index(data: SectionData, section: str) -> dict[int, Contribution]:
    """Contributions by the units' identifiers (dwo_id or type signature); {} for no data. Raises DwarfError."""
    if not data:
        return {}
    try:
        return _read(data, section)
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, section, 0) from None


def _read(data: SectionData, section: str) -> dict[int, Contribution]:
    version = read_unsigned(data, 0, 4)
    if version != 2:
        version = read_unsigned(data, 0, 2)  # in version 5 two bytes, and two of padding
    known = _SECTIONS.get(version)
    if known is None:
        raise DwarfError(DwarfReason.BAD_VERSION, section, 0)
    columns, units, slots = (read_unsigned(data, at, 4) for at in (4, 8, 12))
    hashes, rows = 16, 16 + 8 * slots
    names = rows + 4 * slots
    table = names + 4 * columns
    if table + 2 * 4 * columns * units > len(data):
        raise DwarfError(DwarfReason.TRUNCATED, section, table)
    headings = [known.get(read_unsigned(data, names + 4 * column, 4)) for column in range(columns)]
    found: dict[int, Contribution] = {}
    for slot in range(slots):
        row = read_unsigned(data, rows + 4 * slot, 4)
        if row == 0:
            continue
        if row > units:
            raise DwarfError(DwarfReason.BAD_REFERENCE, section, rows + 4 * slot)
        first = table + 4 * columns * (row - 1)
        offsets = {
            heading: read_unsigned(data, first + 4 * column, 4)
            for column, heading in enumerate(headings)
            if heading is not None
        }
        found[read_unsigned(data, hashes + 8 * slot, 8)] = Contribution(MappingProxyType(offsets))
    return found
