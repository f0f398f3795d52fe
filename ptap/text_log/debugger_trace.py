"""Frames without names in what debuggers print: `#1  0x00007f31c5a01b40 in ?? () from /lib/libc.so.6`.

Owns gdb's form (stack.c, `print_frame`). The addresses are of the process; the log has to show its mappings.
"""

from __future__ import annotations

import re

from ptap.text_log.logged_frame import Counted, FilePlace, LoggedFrame, UnmappedPlace
from ptap.text_log.memory_map import MemoryMap

_FRAME = re.compile(r"#([0-9]{1,6}) +0x([0-9a-f]{1,16})( in \?\? \(\))(?: from (\S.*)|\s*)$")
_ANY_FRAME = re.compile(r"#[0-9]{1,6} +(?:0x[0-9a-f]{1,16} in )?\S")
_SIGNAL = "<signal handler called>"


class DebuggerTrace:
    """The frames of debuggers' backtraces, and the mappings that the log shows."""

    name = "debugger"

    def __init__(self, mappings: MemoryMap) -> None:
        self._mappings = mappings
        self._after_signal = False

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frame of `line`, if it is one without a name."""
        if self._mappings.add(line):
            return []
        found = _FRAME.search(line)
        if found is None:
            if _ANY_FRAME.search(line):
                self._after_signal = _SIGNAL in line
            return []
        number, address, path = int(found[1]), int(found[2], 16), found[4]
        exact = number == 0 or self._after_signal
        self._after_signal = False
        mapped = self._mappings.find(address)
        place: FilePlace | UnmappedPlace = UnmappedPlace(address, path)
        if mapped is not None:
            place = FilePlace(mapped[0], mapped[1], Counted.FROM_FILE_START, exact, address=address)
        return [LoggedFrame(place, found.start(3), found.start(3), found.end(3), " in ", number=number)]
