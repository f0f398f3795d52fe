"""Where a command writes its traces: a file or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def output_stream(path: str | None) -> Iterator[TextIO]:
    """The stream for traces, open within the block. What its encoding lacks is written as an escape, never an error."""
    stream = _opened(path)
    try:
        yield stream
    finally:
        _drop_unwritten(stream)
        if path is not None:
            stream.close()


def _opened(path: str | None) -> TextIO:
    if path is not None:
        return open(path, "w", encoding="utf-8", errors="backslashreplace")
    stdout: TextIO | None = sys.stdout  # None when it was closed by the caller (`>&-`)
    if stdout is None:
        return open(os.devnull, "w")
    if hasattr(stdout, "reconfigure"):
        stdout.reconfigure(errors="backslashreplace")
    return stdout


def _drop_unwritten(stream: TextIO) -> None:
    """After a failed write the rest cannot be written either: the interpreter is not to try that at its end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
