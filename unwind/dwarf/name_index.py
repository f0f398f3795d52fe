"""Which units hold entries of a name: the .debug_names of a module (DWARF 5 §6.1.1), where its producer wrote one.

A search for a function reads the units that it says instead of all. An index may hold fewer units than there are, so
it says which it covers; its names are searched by a piece of theirs, as a pattern may stand for scoped, mangled or
template names. What is damaged or in doubt gives no answer, and the units are read as if there were no index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unwind.dwarf.abbreviation import fixed_form_size
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.integer import SectionData, read_uleb128, read_unsigned

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.debug_info import DebugInfo

_DW_IDX_compile_unit = 1
_DW_IDX_type_unit = 2
_DW_FORM_udata = 0x0F
_DW_FORM_ref_udata = 0x15
_SECTION = ".debug_names"
_MANY = 20_000
"""Places of a piece of a name from which reading all units is no slower."""

_Abbreviations = dict[int, list[tuple[int, int]]]


class NameIndex:
    """All name indices of a module. Made by `read_name_index`."""

    def __init__(self, info: DebugInfo, parts: list[_Part]) -> None:
        self._info = info
        self._parts = parts
        self.covered: frozenset[int] = frozenset(unit for part in parts for unit in part.units)
        """Offsets of the units whose names are all here."""

    def units_naming(self, piece: bytes) -> set[int] | None:
        """Offsets of the units with an entry in whose name `piece` occurs; None when the index cannot tell.

        Only entries with code are sure to be here, see DWARF 5 §6.1.1.1.
        """
        import numpy as np

        strings = bytes(self._info.sections.get(".debug_str"))
        ranges: list[tuple[int, int]] = []
        at = strings.find(piece)
        while at >= 0:
            if len(ranges) == _MANY:
                return None
            # Strings may share their ends, so a name begins at any place of the string up to the piece.
            ranges.append((strings.rfind(b"\0", 0, at) + 1, at + 1))
            at = strings.find(piece, at + 1)
        found: set[int] = set()
        bounds = np.array(ranges, dtype=np.int64).reshape(-1, 2)
        try:
            for part in self._parts:
                found |= part.units_of(bounds)
        except DwarfError as error:
            self._info.note_problem(error.problem)
            return None
        return found


class _Part:
    """One name index of the section, at `offset` of it (§6.1.1.4)."""

    def __init__(self, data: SectionData, offset: int) -> None:
        import numpy as np

        try:
            length, position, size = read_unsigned(data, offset, 4), offset + 4, 4
            if length == 0xFFFFFFFF:
                length, position, size = read_unsigned(data, position, 8), position + 8, 8
            self.end = position + length
            version = read_unsigned(data, position, 2)
            counts = [read_unsigned(data, position + 4 + 4 * index, 4) for index in range(7)]
            units, types, foreign, buckets, names, abbreviations, augmentation = counts
            position += 32 + (augmentation + 3) // 4 * 4
            end = position + (units + types + 2 * names) * size + 8 * foreign + 4 * buckets + abbreviations
            end += 4 * names if buckets else 0
            if version != 5 or self.end > len(data) or end > self.end:
                raise DwarfError(DwarfReason.BAD_UNIT, _SECTION, offset)
            kind = f"<u{size}"
            self.units: list[int] = np.frombuffer(data, kind, units, position).tolist()
            position += (units + types) * size + 8 * foreign + 4 * buckets + (4 * names if buckets else 0)
            self._strings = np.frombuffer(data, kind, names, position).astype(np.int64)
            self._entries = np.frombuffer(data, kind, names, position + names * size).astype(np.int64)
            position += 2 * names * size
            self._abbreviations = _read_abbreviations(data, position, position + abbreviations)
        except IndexError:
            raise DwarfError(DwarfReason.TRUNCATED, _SECTION, offset) from None
        self._pool = position + abbreviations
        self._data = data
        self._offset = offset

    def units_of(self, ranges: np.ndarray) -> set[int]:
        """Units with entries whose names begin in one of `ranges` of .debug_str. Raises DwarfError."""
        import numpy as np

        order = np.argsort(self._strings, kind="stable")
        starts = self._strings[order]
        lows = np.searchsorted(starts, ranges[:, 0], side="left").tolist()
        highs = np.searchsorted(starts, ranges[:, 1], side="left").tolist()
        found: set[int] = set()
        seen: set[int] = set()
        for low, high in zip(lows, highs, strict=True):
            for name in order[low:high].tolist():
                if name not in seen:
                    seen.add(name)
                    self._add_units(int(self._entries[name]), found)
        return found

    def _add_units(self, entry: int, found: set[int]) -> None:
        """Add the units of a name's entries, which begin at `entry` of the pool and end with a 0 (§6.1.1.4.8)."""
        position = self._pool + entry
        try:
            while position < self.end:
                code, position = read_uleb128(self._data, position)
                if code == 0:
                    return
                unit = 0 if len(self.units) == 1 else -1
                for index, form in self._abbreviations[code]:
                    value, position = _value(self._data, position, form)
                    if index == _DW_IDX_compile_unit:
                        unit = value
                    elif index == _DW_IDX_type_unit:
                        unit = len(self.units)
                if unit < len(self.units):
                    found.add(self.units[unit if unit >= 0 else len(self.units)])
            raise IndexError(position)
        except (IndexError, KeyError):
            raise DwarfError(DwarfReason.TRUNCATED, _SECTION, self._offset) from None


def _read_abbreviations(data: SectionData, position: int, end: int) -> _Abbreviations:
    """(index attribute, form) of each abbreviation by its code (§6.1.1.4.7)."""
    found: _Abbreviations = {}
    while position < end:
        code, position = read_uleb128(data, position)
        if code == 0:
            break
        _, position = read_uleb128(data, position)
        attributes = found[code] = []
        while True:
            index, position = read_uleb128(data, position)
            form, position = read_uleb128(data, position)
            if index == form == 0:
                break
            attributes.append((index, form))
    return found


def _value(data: SectionData, position: int, form: int) -> tuple[int, int]:
    """The value of an index attribute, and the position after it."""
    if form in (_DW_FORM_udata, _DW_FORM_ref_udata):
        return read_uleb128(data, position)
    size = fixed_form_size(form, 5, 8, 4)
    if size < 0:
        raise IndexError(position)
    return read_unsigned(data, position, size), position + size


def read_name_index(info: DebugInfo) -> NameIndex | None:
    """The name index of a module, None where there is none or it is damaged (noted)."""
    data = info.sections.get(_SECTION)
    parts: list[_Part] = []
    offset = 0
    try:
        while offset < len(data):
            parts.append(_Part(data, offset))
            offset = parts[-1].end
    except DwarfError as error:
        info.note_problem(error.problem)
        return None
    return NameIndex(info, parts) if parts else None
