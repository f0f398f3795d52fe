"""The lines of a log as bytes, as many at a time as are there: whoever waits for one gets it at once.

Nothing is decoded and nothing is lost: lines keep their ends, and what is too long to hold a frame comes in pieces, so
that memory is bounded whatever the input is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 1 << 15
"""Bytes of the longest line that is looked at."""
_CHUNK = 1 << 20


class LogLine(NamedTuple):
    """A line with its end, or a piece of one that is too long."""

    data: bytes
    whole: bool


def read_batches(descriptor: int) -> Iterator[list[LogLine]]:
    """All lines from `descriptor`, in batches. A line is given when its end is there. Raises OSError."""
    rest = b""
    too_long = False
    while data := os.read(descriptor, _CHUNK):
        lines: list[LogLine] = []
        *ended, last = data.split(b"\n")
        for index, piece in enumerate(ended):
            line = (rest + piece if index == 0 else piece) + b"\n"
            rest = b"" if index == 0 else rest
            lines.append(LogLine(line, not too_long and len(line) <= LONGEST))
            too_long = False
        rest += last
        if len(rest) > LONGEST:
            lines.append(LogLine(rest, False))
            rest, too_long = b"", True
        if lines:
            yield lines
    if rest:
        yield [LogLine(rest, not too_long)]


def lines_ahead(descriptor: int) -> Iterator[bytes]:
    """The lines of a regular file that are still to be read, which they remain; none of a pipe. Raises OSError."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    rest = b""
    while data := os.pread(descriptor, _CHUNK, at):
        at += len(data)
        *ended, rest = (rest + data).split(b"\n")
        yield from (line for line in ended if len(line) <= LONGEST)
        rest = rest if len(rest) <= LONGEST else b""
    yield rest
