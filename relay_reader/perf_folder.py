"""The folders that `perf record --threads` writes: `data`, which is a perf.data, and the records of each thread.

Owns their names (tools/perf/util/data.c in the Linux tree). `data` holds the header, the features and what perf itself
has to tell; each `data.N` is nothing but records, as they stand in the data section of a file.
"""

from __future__ import annotations

import os
import re
from os.path import isdir, join

HEADER_FILE = "data"
_THREAD_FILE = re.compile(r"data\.(\d+)")


def header_path(path: str) -> str:
    """The file that a perf.data at `path` begins with: itself, or the one in the folder that it is."""
    return join(path, HEADER_FILE) if isdir(path) else path


def thread_files(folder: str) -> tuple[list[str], list[str]]:
    """The paths of the threads' records in their order, and of those that are missing between them. Raises OSError."""
    numbers = {int(found[1]) for found in map(_THREAD_FILE.fullmatch, os.listdir(folder)) if found is not None}
    every = [join(folder, f"data.{number}") for number in range(max(numbers, default=-1) + 1)]
    return [each for number, each in enumerate(every) if number in numbers], [
        each for number, each in enumerate(every) if number not in numbers
    ]
