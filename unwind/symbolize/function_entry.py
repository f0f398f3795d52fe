"""What holds at a function's first instruction: where its body begins, and whether arguments can be read
there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.form import FormClass
from unwind.dwarf.line_program import FLAG_END_SEQUENCE, FLAG_IS_STMT, FLAG_PROLOGUE_END

if TYPE_CHECKING:
    from unwind.dwarf.entry import Entry
    from unwind.dwarf.line_program import LineTable

_TAG_FORMAL_PARAMETER = 0x05
_OP_REG0 = 0x50
_OP_REG6 = 0x56  # rbp
_OP_REG31 = 0x6F
_OPTIMIZATION = re.compile(r"(?<!\S)-O(\S*)")


def after_prologue(lines: LineTable, entry: int, end: int) -> int:
    """Where the body of the function at [entry, end) begins, by its line rows.

    The row flagged prologue_end where there is one (clang), else the second address that begins a statement
    (gcc), else `entry`.
    """
    import numpy as np

    inside = (lines.address >= np.uint64(entry)) & (lines.address < np.uint64(end))
    inside &= (lines.flags & FLAG_END_SEQUENCE) == 0
    flagged = lines.address[inside & ((lines.flags & FLAG_PROLOGUE_END) != 0)]
    if len(flagged):
        return int(flagged.min())
    later = lines.address[inside & ((lines.flags & FLAG_IS_STMT) != 0) & (lines.address > np.uint64(entry))]
    return int(later.min()) if len(later) else entry


def is_optimized(entry: Entry) -> bool:
    """Whether a function's argument locations hold at its entry. Raises DwarfError.

    gcc records its options; where they are not told (clang), the function's own locations do: unoptimized
    code keeps arguments in the frame, at one place for the whole function.
    """
    producer = entry.unit.producer or ""
    options = _OPTIMIZATION.findall(producer)
    if options:
        return str(options[-1]) != "0"
    if producer.startswith("GNU ") and " -m" in producer:
        return False  # gcc tells all options, and -O0 is its default
    frame_base = entry.get(C.DW_AT_frame_base)
    for child in entry.children():
        if child.tag != _TAG_FORMAL_PARAMETER:
            continue
        kind = child.form_class(C.DW_AT_location)
        if kind in (FormClass.SECTION_OFFSET, FormClass.LOCATION_LIST_INDEX):
            return True
        value = child.get(C.DW_AT_location)
        if isinstance(value, bytes) and value and _OP_REG0 <= value[0] <= _OP_REG31:
            return True
    return isinstance(frame_base, bytes) and len(frame_base) == 1 and frame_base[0] not in (_OP_REG6, 0x9C)
