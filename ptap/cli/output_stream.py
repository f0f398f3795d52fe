"""Where a command writes its traces: a file or standard output."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_output(path: str | None) -> TextIO:
    """The stream for traces. What its encoding lacks is written as an escape, never an error."""
    if path is not None:
        return open(path, "w", encoding="utf-8", errors="backslashreplace")
    stdout: TextIO | None = sys.stdout  # None when it was closed by the caller (`>&-`)
    if stdout is None:
        return open(os.devnull, "w")
    if hasattr(stdout, "reconfigure"):
        stdout.reconfigure(errors="backslashreplace")
    return stdout


def drop_unwritten(stream: TextIO) -> None:
    """After a failed write the rest cannot be written either: the interpreter is not to try that at its end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
