"""Frames of traces in columns: what `unwind.trace.TraceFrame` says of each, texts as numbers in tables.

For profiles, which add frames up and need no more of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

NO_CODE, USER, KERNEL = range(3)
SPACES = ("", "user", "kernel")
"""By the numbers above."""
NO_TEXT = 0
NO_MODULE = 0


class TextTable:
    """Distinct texts and their numbers; NO_TEXT is None."""

    def __init__(self) -> None:
        self.texts: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: NO_TEXT}

    def number(self, text: str | None) -> int:
        """The number of a text, which is new where it was not asked for before."""
        found = self._numbers.setdefault(text, len(self.texts))
        if found == len(self.texts):
            self.texts.append(text)
        return found


class ModuleTable:
    """Distinct modules, by path and build-id; NO_MODULE is none."""

    def __init__(self) -> None:
        self.modules: list[tuple[str | None, str | None]] = [(None, None)]
        self._numbers: dict[tuple[str | None, str | None], int] = {(None, None): NO_MODULE}

    def number(self, path: str | None, build_id: str | None) -> int:
        """The number of a module."""
        found = self._numbers.setdefault((path, build_id), len(self.modules))
        if found == len(self.modules):
            self.modules.append((path, build_id))
        return found


@dataclass(slots=True)
class FrameTables:
    """The texts of frames in columns."""

    names: TextTable = field(default_factory=TextTable)
    files: TextTable = field(default_factory=TextTable)
    modules: ModuleTable = field(default_factory=ModuleTable)


@dataclass(slots=True)
class FrameColumns:
    """Frames, some for each of several things: those of thing i end before `ends[i]`, innermost first."""

    ends: Int64s
    spaces: Int32s
    """USER, KERNEL or NO_CODE."""
    addresses: NDArray[np.uint64]
    """The pc for display."""
    modules: Int32s
    """In the tables, as the next two."""
    names: Int32s
    files: Int32s
    lines: Int32s
    """From 1; 0 for none, as in the next."""
    columns: Int32s
    inlined: NDArray[np.bool_]
    tables: FrameTables
