"""Paths of all source files that rows and call sites of a module name: one number for each distinct path.

Says what `LineHeader.path` says of a single file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unwind.dwarf.damage import DwarfError
from unwind.dwarf.line_header import base_directory, source_path
from unwind.dwarf.line_header_scan import STRING_SECTIONS
from unwind.symbolize import unit_scan as U

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.symbolize.module_scan import ModuleRows

_ASK_UNIT = -16
"""A reference to the directory of unit i is so much less i."""


class SourceFiles:
    """`ids[file]` is the number of a file's path among `paths`, 0 (which is "") for none and where nobody asks."""

    def __init__(self, info: DebugInfo, rows: ModuleRows) -> None:
        self._info = info
        self._units = rows.units
        self._strings: dict[int, str] = {}
        self.paths: list[str] = [""]
        # One more than there are files: what is not known has the number -1.
        self.ids: NDArray[np.int64] = np.zeros(len(rows.files) + 1, dtype=np.int64)
        used = np.zeros(len(rows.files) + 1, dtype=bool)
        used[rows.rows[:, U.ROW_FILE]] = True
        used[rows.entries[rows.entries[:, U.START] != 0, U.CALL_FILE]] = True
        places = np.flatnonzero(used[:-1])
        if len(places):
            self._number(rows, places)

    def _number(self, rows: ModuleRows, places: NDArray[np.int64]) -> None:
        units = np.searchsorted(rows.facts[:, U.FIRST_FILE], places, side="right") - 1
        facts = rows.facts[units]
        version_5 = facts[:, U.LINE_VERSION] >= 5
        first = facts[:, U.FIRST_DIRECTORY]
        count = facts[:, U.DIRECTORY_COUNT]
        index = rows.files[places, 1]
        known = (index >= 0) & (index < count)
        directories = np.append(rows.directories, -1)
        base = np.where(version_5 & (count > 0), directories[np.minimum(first, len(directories) - 1)], -1)
        folder = np.where(known, directories[np.where(known, first + index, -1)], -1)
        # -2: the folder is the base itself; -3: there is no such folder.
        folder = np.where(index == 0, -2, np.where(known, folder, -3))
        # A directory that the scan could not read, as one in a shared debug file, is asked of the unit.
        asked = np.where(facts[:, U.DIRECTORY] >= 0, facts[:, U.DIRECTORY], _ASK_UNIT - units)
        columns = (asked, base, folder, rows.files[places, 0])
        distinct, inverse = _distinct_rows(columns)
        numbers: dict[str, int] = {"": 0}
        ids = []
        for directory, base_name, folder_name, name in distinct:
            path = self._path(directory, base_name, folder_name, name)
            number = numbers.setdefault(path, len(numbers))
            if number == len(self.paths):
                self.paths.append(path)
            ids.append(number)
        self.ids[places] = np.array(ids, dtype=np.int64)[inverse]

    def _path(self, directory: int, base: int, folder: int, name: int) -> str:
        root = base_directory(self._string(base) if base >= 0 else None, self._string(directory))
        inside = root if folder == -2 else self._string(folder)
        return source_path(root, inside, folder == -2, self._string(name))

    def _string(self, reference: int) -> str:
        if reference <= _ASK_UNIT:
            unit = self._units[_ASK_UNIT - reference]
            try:
                return unit.compilation_directory or ""
            except DwarfError as error:
                unit.info.note_problem(error.problem)
                return ""
        if reference < 0:
            return ""
        text = self._strings.get(reference)
        if text is None:
            try:
                text = self._info.sections.string(STRING_SECTIONS[reference & 7], reference >> 3)
            except (DwarfError, IndexError):
                text = ""
            self._strings[reference] = text
        return text


def _distinct_rows(columns: tuple[NDArray[np.int64], ...]) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """The distinct rows of a few columns, and which of them each row is."""
    key = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        # Numbered anew at each column, so that the products stay small.
        key = np.unique(key * len(values) + inverse, return_inverse=True)[1]
    _, firsts = np.unique(key, return_index=True)
    rows = list(zip(*(column[firsts].tolist() for column in columns), strict=True))
    return rows, key
