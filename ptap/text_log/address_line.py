"""Lines that are nothing but an address: `/usr/lib/libc.so.6+0x27249`, or one in the kernel's half."""

from __future__ import annotations

import re

from ptap.text_log.kernel_trace import KernelTrace
from ptap.text_log.logged_frame import Counted, FilePlace, KernelPlace, LoggedFrame

# Of Go's `/home/u/x.go:12 +0x1d` the space tells that it is none.
_IN_FILE = re.compile(r"\s*(\.{0,2}/[^\0]*?[^\s\0])\+0x([0-9a-f]{1,16})\s*$")
_OF_KERNEL = re.compile(r"\s*(?:0x)?([89a-f][0-9a-f]{15})\s*$")


class AddressLine:
    """Addresses alone on their lines; those of a kernel are of the one that the log tells of."""

    name = "addresses"

    def __init__(self, kernel: KernelTrace) -> None:
        self._kernel = kernel

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frame of `line`, if it is one."""
        found = _IN_FILE.match(line)
        if found is not None:
            place = FilePlace(found[1], int(found[2], 16), Counted.FROM_BASE, True)
            end = found.end(2)
            return [LoggedFrame(place, end, end, end, " in ")]
        found = _OF_KERNEL.match(line)
        if found is None:
            return []
        of_kernel = KernelPlace(None, 0, 0, True, self._kernel.kernel, address=int(found[1], 16))
        return [LoggedFrame(of_kernel, found.end(1), found.end(1), found.end(1), " ", word=" ")]
