"""What holds at a function's first instruction: where its body begins, and whether arguments can be read
there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unwind.dwarf import constants as C
from unwind.dwarf.enumeration import Op
from unwind.dwarf.form import FormClass
from unwind.dwarf.line_program import FLAG_END_SEQUENCE, FLAG_IS_STMT, FLAG_PROLOGUE_END

if TYPE_CHECKING:
    from unwind.dwarf.entry import Entry
    from unwind.dwarf.line_program import LineTable

_OPTIMIZATION = re.compile(r"(?<!\S)-O(\S*)")


def after_prologue(lines: LineTable, entry: int, end: int) -> int:
    """Where the body of the function at [entry, end) begins, by its line rows.

    The row flagged prologue_end where there is one (clang), else the second address that begins a statement
    (gcc), of whatever line: a function on one line has a row of its own for the body too. Else `entry`. As gdb's
    skip_prologue_using_sal finds it.
    """
    import numpy as np

    inside = (lines.address >= np.uint64(entry)) & (lines.address < np.uint64(end))
    inside &= (lines.flags & FLAG_END_SEQUENCE) == 0
    flagged = lines.address[inside & ((lines.flags & FLAG_PROLOGUE_END) != 0)]
    if len(flagged):
        return int(flagged.min())
    begins = inside & ((lines.flags & FLAG_IS_STMT) != 0) & (lines.line != 0)
    later = lines.address[begins & (lines.address > np.uint64(entry))]
    return int(later.min()) if len(later) else entry


def is_optimized(entry: Entry) -> bool:
    """Whether a function's argument locations hold at its entry. Raises DwarfError.

    gcc records its options; where they are not told (clang), the function's own locations do: unoptimized
    code keeps arguments in the frame, at one place for the whole function, which counts from a register that the
    prologue sets. One such argument is enough. The frame base tells nothing of it: without a frame pointer it is the
    stack pointer at every optimization level.
    """
    producer = entry.unit.producer or ""
    options = _OPTIMIZATION.findall(producer)
    if options:
        return str(options[-1]) != "0"
    if producer.startswith("GNU ") and " -m" in producer:
        return False  # gcc tells all options, and -O0 is its default
    for child in entry.children():
        if child.tag != C.DW_TAG_formal_parameter:
            continue
        kind = child.form_class(C.DW_AT_location)
        if kind in (FormClass.SECTION_OFFSET, FormClass.LOCATION_LIST_INDEX):
            continue
        value = child.get(C.DW_AT_location)
        if isinstance(value, bytes) and value and not Op.REG0 <= value[0] <= Op.REG31:
            return False
    return True
