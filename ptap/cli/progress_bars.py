"""Progress bars of work that takes longer than a second: on standard error, at a terminal, gone when it has ended."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def progress_shown(written_meanwhile: TextIO | None = None) -> Iterator[None]:
    """Show how far the work is that is done in here, where standard error is a terminal that can be drawn on.

    `written_meanwhile` is the stream that the work writes to as it goes on. On the terminal a bar is not drawn between
    what is written; and what reads a pipe may be a pager, whose screen is not ours.
    """
    kind = _kind(written_meanwhile)
    if kind == "pipe" or not _can_draw():
        yield
        return
    from cfi_tables.progress import watch
    from ptap.cli.bar_display import Bars

    bars = Bars(interleaved=kind != "terminal")
    try:
        with watch(bars):
            yield
    finally:
        bars.close()


def _can_draw() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _kind(stream: TextIO | None) -> str:
    """`terminal`, `pipe`, or `file` for all that nobody looks at while it is written."""
    if stream is None:
        return "file"
    if stream.isatty():
        return "terminal"
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # a stream that has no file
        return "file"
    return "pipe" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "file"
