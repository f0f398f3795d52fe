"""Frames as glibc's backtrace_symbols and backtrace_symbols_fd write them, and its old reports of overflows.

Owns the forms of debug/backtracesyms.c and backtracesymsfd.c:

    ./prog(+0x11c2)[0x55789dafb1c2]                   counted from where the file was moved to
    /lib/libc.so.6(gsignal+0x12) [0x7ff417945fb2]     from a symbol that dladdr found
    ./prog() [0x4011af]   ./prog[0x4011af]            of a program that was not moved
    ./prog(work+0) [0x55789dafb2a0]                   the first form's offset of 0

All are places where calls return to, but for the frame behind a signal handler's return.
"""

from __future__ import annotations

import re

from ptap.text_log.logged_frame import Counted, FilePlace, LoggedFrame

_TAIL = re.compile(r"(?:\((?:([\w.$@]+)?([+-])(0x[0-9a-f]{1,16}|0))?\) ?|(?<=[^\s)\]]))\[0x([0-9a-f]{1,16})\](?=\s*$)")


class GlibcTrace:
    """The frames of glibc's backtraces."""

    name = "glibc"

    def frames(self, line: str) -> list[LoggedFrame]:
        """The frame of `line`, if it is one."""
        tail = _TAIL.search(line)
        if tail is None:
            return []
        path = _path(line[: tail.start()])
        if path is None:
            return []
        address = int(tail[4], 16)
        number = int(tail[2] + tail[3], 16) if tail[3] else address
        counted = Counted.FROM_SYMBOL if tail[1] else Counted.FROM_BASE
        place = FilePlace(path, number, counted, False, symbol=tail[1], address=address)
        return [LoggedFrame(place, tail.end(), tail.end(), tail.end(), " in ", named=tail[1], returned_to=True)]


def _path(before: str) -> str | None:
    """The path that ends a line's beginning: its last word, or from a root on that begins the line.

    A path may have spaces; what a logger writes before it ends with one.
    """
    whole = before.lstrip()
    if whole.startswith(("/", "./", "../")):
        return whole
    words = whole.split()
    word = words[-1] if words else ""
    return word if re.search(r"[A-Za-z]", word) and not word.endswith((":", "=", ",")) else None
