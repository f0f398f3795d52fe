"""Which unit has code at an address: .debug_aranges and .gdb_index where they speak, the units' own ranges elsewhere.

DWARF 5 §6.1.2. A producer need not write .debug_aranges, and files are linked of objects with and without
it, so a
unit that it does not mention is asked itself (§3.1.1, DW_AT_low_pc, high_pc and ranges of its first entry).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.gdb_index import read_code_ranges
from unwind.dwarf.integer import read_unsigned

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.unit import CompilationUnit


class AddressRanges:
    """Ranges of code and the units they belong to, as columns sorted by low address.

    `low`, `high`: uint64 addresses; `unit`: int64 indices into `DebugInfo.units`.
    """

    def __init__(self, info: DebugInfo, low: np.ndarray, high: np.ndarray, unit: np.ndarray) -> None:
        import numpy as np

        order = np.argsort(low, kind="stable")
        self._info = info
        self.low = low[order]
        self.high = high[order]
        self.unit = unit[order]
        # Where ranges overlap, a later low address may end first: no range before this index reaches further.
        self._reach = np.maximum.accumulate(self.high) if len(low) else self.high

    def find(self, pc: int) -> list[CompilationUnit]:
        """Units with a range that covers `pc`, the one that begins last first."""
        import numpy as np

        if not 0 <= pc < 1 << 64:
            return []
        found: list[int] = []
        index = int(np.searchsorted(self.low, np.uint64(pc), side="right")) - 1
        while index >= 0 and int(self._reach[index]) > pc:
            unit = int(self.unit[index])
            if int(self.high[index]) > pc and unit not in found:
                found.append(unit)
            index -= 1
        return [self._info.units[unit] for unit in found]


def read_address_ranges(info: DebugInfo) -> AddressRanges:
    """The address ranges of all units; damage is noted in `info.problems`."""
    import numpy as np

    index_of = {unit.offset: index for index, unit in enumerate(info.units)}
    low: list[np.ndarray] = []
    high: list[np.ndarray] = []
    owner: list[np.ndarray] = []
    mentioned: set[int] = set()
    try:
        for unit_offset, pairs in _read_sets(info):
            index = index_of.get(unit_offset)
            if index is not None and len(pairs):
                mentioned.add(index)
                low.append(pairs[:, 0])
                high.append(pairs[:, 0] + pairs[:, 1])
                owner.append(np.full(len(pairs), index, dtype=np.int64))
    except DwarfError as error:
        info.note_problem(error.problem)
    indexed = None if len(mentioned) == len(index_of) else read_code_ranges(info)
    if indexed is not None:
        # One that misses a unit's range would be believed, so each unit's are taken from one place.
        indexed = indexed[~np.isin(indexed[:, 2], np.array(sorted(mentioned), dtype=np.uint64))]
        mentioned |= set(indexed[:, 2].tolist())
        low.append(indexed[:, 0])
        high.append(indexed[:, 1])
        owner.append(indexed[:, 2].astype(np.int64))
    own: list[tuple[int, int, int]] = []
    for index, unit in enumerate(info.units):
        if index in mentioned or unit.unit_type not in (C.DW_UT_compile, C.DW_UT_skeleton):
            continue
        try:
            own += [(start, end, index) for start, end in unit.ranges if info.lowest_address <= start < end < 1 << 64]
        except DwarfError as error:
            info.note_problem(error.problem)
    if own:
        columns = np.array(own, dtype=np.uint64)
        low.append(columns[:, 0])
        high.append(columns[:, 1])
        owner.append(columns[:, 2].astype(np.int64))
    if not low:
        nothing = np.zeros(0, dtype=np.uint64)
        return AddressRanges(info, nothing, nothing, np.zeros(0, dtype=np.int64))
    return AddressRanges(info, np.concatenate(low), np.concatenate(high), np.concatenate(owner))


def _read_sets(info: DebugInfo) -> list[tuple[int, np.ndarray]]:
    """(unit offset, rows of address and length) of each set; raises DwarfError for a section that is
    damaged.
    """
    import numpy as np

    section = ".debug_aranges"
    data = info.sections.get(section)
    sets: list[tuple[int, np.ndarray]] = []
    offset = 0
    try:
        while offset < len(data):
            length = read_unsigned(data, offset, 4)
            position = offset + 4
            offset_size = 4
            if length == 0xFFFFFFFF:
                length = read_unsigned(data, position, 8)
                position += 8
                offset_size = 8
            end = position + length
            version = read_unsigned(data, position, 2)
            unit_offset = read_unsigned(data, position + 2, offset_size)
            address_size, segment_size = data[position + 2 + offset_size], data[position + 3 + offset_size]
            position += 4 + offset_size
            if version != 2 or address_size not in (4, 8) or segment_size or end > len(data):
                raise DwarfError(DwarfReason.BAD_UNIT, section, offset, unit_offset)
            # The first pair is aligned to the size of a pair, counted from the start of the set.
            position = offset + -(-(position - offset) // (2 * address_size)) * 2 * address_size
            count = max(0, end - position) // (2 * address_size)
            pairs = np.frombuffer(data, f"<u{address_size}", 2 * count, position).reshape(-1, 2)
            pairs = pairs.astype(np.uint64)
            # A length of 0 ends the set.
            sets.append((unit_offset, pairs[(pairs[:, 1] > 0) & (pairs[:, 0] >= np.uint64(info.lowest_address))]))
            offset = end
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, section, offset) from None
    return sets
