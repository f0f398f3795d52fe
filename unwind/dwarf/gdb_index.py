"""Code ranges of units from .gdb_index, which linkers (`--gdb-index`) and gdb-add-index write.

The format is gdb's (its manual, appendix "Index Section Format", versions 7 to 9). Only the address area is used: the
table of names does not hold inlined calls. What does not fit the units of the file is of another time, as after
another tool rewrote .debug_info, and is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.debug_info import DebugInfo

_SECTION = ".gdb_index"
_VERSIONS = (7, 8, 9)
_HEADER_WORDS = 6
_UNIT_BYTES = 16
_RANGE_BYTES = 20


def read_code_ranges(info: DebugInfo) -> np.ndarray | None:
    """uint64 rows (low, high, index in `info.units`) of the ranges; None where no index of these units is there."""
    import numpy as np

    data = info.sections.get(_SECTION)
    if len(data) < 4 * _HEADER_WORDS:
        return None
    version, units_at, types_at, ranges_at, symbols_at, _ = np.frombuffer(data, "<u4", _HEADER_WORDS).tolist()
    fits = 4 * _HEADER_WORDS <= units_at <= types_at <= ranges_at <= symbols_at <= len(data)
    if version not in _VERSIONS or not fits:
        return None
    listed = np.frombuffer(data, "<u8", (types_at - units_at) // _UNIT_BYTES * 2, units_at).reshape(-1, 2)
    offsets, ends = listed[:, 0].tolist(), (listed[:, 0] + listed[:, 1]).tolist()
    numbers = {(unit.offset, unit.end): index for index, unit in enumerate(info.units)}
    owners = np.array([numbers.get(each, -1) for each in zip(offsets, ends, strict=True)], dtype=np.int64)
    if (owners < 0).any():
        return None
    count = (symbols_at - ranges_at) // _RANGE_BYTES
    pairs = np.dtype([("low", "<u8"), ("high", "<u8"), ("unit", "<u4")])
    rows = np.frombuffer(data, pairs, count, ranges_at)
    rows = rows[(rows["low"] >= info.lowest_address) & (rows["low"] < rows["high"]) & (rows["unit"] < len(owners))]
    return np.column_stack((rows["low"], rows["high"], owners[rows["unit"]].astype(np.uint64)))
