"""Paths of all source files that rows and call sites of a module name: one number for each distinct path.

Says what `LineHeader.path` says of a single file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from cfi_tables.hot_loop import hot_loop, run_hot
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.line_header import base_directory, source_path
from unwind.dwarf.line_header_scan import STRING_SECTIONS
from unwind.symbolize import scan_columns as U
from unwind.symbolize.name_table import NameTable

if TYPE_CHECKING:
    from unwind.symbolize.module_scan import ModuleRows
    from unwind.symbolize.scan_source import ScanSources

_ASK_UNIT = -16
"""A reference to the directory of unit i is so much less i."""


class SourceFiles:
    """`ids[file]` is the number of a file's path among `paths`, 0 (which is "") for none and where nobody asks."""

    def __init__(self, rows: ModuleRows) -> None:
        self._sources = rows.sources
        self._strings: dict[int, str] = {}
        self._folders: dict[tuple[int, int, int], tuple[str, str]] = {}
        self.paths: list[str] = [""]
        # One more than there are files: what is not known has the number -1.
        self.ids: NDArray[np.int64] = np.zeros(len(rows.files) + 1, dtype=np.int64)
        used = np.zeros(len(rows.files) + 1, dtype=bool)
        used[rows.rows[:, U.ROW_FILE]] = True
        used[rows.entries[rows.entries[:, U.START] != U.WITHOUT_CODE, U.CALL_FILE]] = True
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
        distinct, inverse = _distinct_rows(columns, rows.sources.plain)
        self._read_strings(rows.sources, distinct)
        numbers: dict[str, int] = {"": 0}
        ids = [numbers.setdefault(self._path(*row), len(numbers)) for row in distinct.tolist()]
        self.paths = list(numbers)
        self.ids[places] = np.array(ids, dtype=np.int64)[inverse]

    def _path(self, directory: int, base: int, folder: int, name: int) -> str:
        key = (directory, base, folder)
        found = self._folders.get(key)
        if found is None:
            root = base_directory(self._string(base) if base >= 0 else None, self._string(directory))
            found = self._folders[key] = (root, root if folder == -2 else self._string(folder))
        return source_path(*found, folder == -2, self._string(name))

    def _read_strings(self, sources: ScanSources, references: NDArray[np.int64]) -> None:
        """Read all strings that are referred to; line number programs refer to those of the module's own file."""
        distinct = distinct_values(references[references >= 0])
        table = NameTable(sources.plain, len(distinct))
        numbers = np.zeros(len(distinct), dtype=np.int64)
        for kind, section in enumerate(STRING_SECTIONS):
            chosen = np.flatnonzero(distinct & 7 == kind)
            if len(chosen):
                numbers[chosen] = table.number_at(sources.info.sections.get(section), distinct[chosen] >> 3)
        texts = table.all_texts()
        self._strings = {each: texts[number] for each, number in zip(distinct.tolist(), numbers.tolist(), strict=True)}

    def _string(self, reference: int) -> str:
        if reference <= _ASK_UNIT:
            unit = self._sources.unit(_ASK_UNIT - reference)
            try:
                return (unit.skeleton or unit).compilation_directory or ""
            except DwarfError as error:
                unit.info.note_problem(error.problem)
                return ""
        return self._strings.get(reference, "")


@hot_loop
def number_rows(columns: Any, width: int, slots: Any, numbers: Any, firsts: Any) -> int:
    """Number the distinct rows of `width` values in `columns`: write the number of each row to `numbers`.

    `firsts` becomes the first row of each number. `slots` is scratch, 0 everywhere, of a length that is a power of two
    and twice the rows at least. Returns how many distinct rows there are.
    """
    mask = len(slots) - 1
    count = 0
    for row in range(len(numbers)):
        base = row * width
        key = 0
        for column in range(width):
            key = ((key & 0xFFFFFFFFFFFF) * 61) + (columns[base + column] & 0xFFFFFFFFFFFF)
        slot = (key ^ (key >> 15) ^ (key >> 31)) & mask
        found = -1
        while slots[slot] != 0:
            other = firsts[slots[slot] - 1] * width
            column = 0
            while column < width and columns[other + column] == columns[base + column]:
                column += 1
            if column == width:
                found = slots[slot] - 1
                break
            slot = (slot + 1) & mask
        if found < 0:
            found = count
            firsts[found] = row
            count += 1
            slots[slot] = count
        numbers[row] = found
    return count


def _distinct_rows(columns: tuple[NDArray[np.int64], ...], plain: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows of a few columns, and which of them each row is."""
    rows = np.column_stack(columns)
    numbers, firsts = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.int64)
    slots = np.zeros(1 << (2 * len(rows)).bit_length(), dtype=np.int64)
    count = run_hot(number_rows, not plain, rows.reshape(-1), len(columns), slots, numbers, firsts)
    return rows[firsts[:count]], numbers
