"""All units of a module's DWARF read at once: entries, rows, runs, directories and files (unit_scan.py) as columns.

Owns the division of the work: parts of .debug_info are read by several threads, since compiled hot loops run without
the interpreter's lock. Damage is noted in the DebugInfo, a unit at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import compiled, plain_view
from cfi_tables.worker_threads import run_parts
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf import line_header_scan as H
from unwind.dwarf.abbreviation_scan import form_sizes
from unwind.dwarf.damage import DwarfReason
from unwind.dwarf.integer import SectionData, read_unsigned
from unwind.symbolize import unit_scan as U
from unwind.symbolize.unit_root import ROOT_COUNT
from unwind.symbolize.unit_scan import scan_units

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.dwarf.unit import CompilationUnit

_LEVELS = 1 << 14
_SCRATCH_LIMIT = 1 << 20
_PART = 8 << 20
"""Bytes of .debug_info that a thread reads at a time, at least."""

Int64s = NDArray[np.int64]


@dataclass(slots=True)
class ModuleRows:
    """What `scan_units` found, int64 of shape (count, columns); indices count through the whole module."""

    units: list[CompilationUnit]
    facts: Int64s
    entries: Int64s
    rows: Int64s
    runs: Int64s
    directories: Int64s
    """A string each."""
    files: Int64s
    """A string and the index of a directory among those of its unit."""


class _Part:
    """The arrays that one call of the hot loop at a time works with."""

    def __init__(self, size: int, longest: int, plain: bool) -> None:
        """`size` bytes of .debug_info are to be read, of which the longest line number program has `longest` bytes."""
        self._plain = plain
        self._longest = longest + 8
        self.largest = size // 24 + 64
        self._output = size // 64 + 1024
        self.make_scratch(1)
        self.make_output(1)

    def make_scratch(self, factor: int) -> None:
        self.largest *= factor
        largest, longest = self.largest, max(self._longest, 2 * self.largest + 8)
        sizes = (
            (512 * A.ABBREVIATION_WIDTH * factor, 4096 * A.ATTRIBUTE_WIDTH * factor, _LEVELS, (largest + 1) * F.WIDTH)
            + (128 * 2, H.PARAMETER_COUNT, 256, ROOT_COUNT, largest + 1)
        )  # fmt: skip
        self.scratch = tuple(np.empty(each, dtype=np.int64) for each in sizes)
        self.scratch[2][:] = -1
        self.matrix = tuple(np.empty(self._longest, dtype=np.int64) for _ in range(6))
        self.sorting = tuple(np.empty(longest, dtype=np.int64) for _ in range(4))
        self.flat = tuple(np.empty(self._longest, dtype=np.int64) for _ in range(4))
        self.ranges = tuple(np.empty(largest + 3, dtype=np.int64) for _ in range(3))

    def make_output(self, factor: int) -> None:
        self._output *= factor
        count = self._output
        widths = (U.ENTRY_WIDTH, 2 * U.ROW_WIDTH, U.RUN_WIDTH, 1, 2)
        self.output = tuple(np.empty(count * width, dtype=np.int64) for width in widths)
        self.counts = np.zeros(U.COUNTS, dtype=np.int64)

    def taken(self) -> list[Int64s]:
        """What was written; the output is to be made anew if it is used again."""
        widths = (U.ENTRY_WIDTH, U.ROW_WIDTH, U.RUN_WIDTH, 1, 2)
        return [
            array[: int(count) * width].reshape(-1, width)
            for array, count, width in zip(self.output, self.counts, widths, strict=True)
        ]

    def groups(self) -> list[Any]:
        """The arrays in the order of `scan_units`, as its form wants them."""
        groups = (self.scratch, self.matrix, self.sorting, self.flat, self.ranges, self.output)
        return [tuple(plain_view(each) if self._plain else each for each in group) for group in groups]


def scan_module(info: DebugInfo, plain: bool) -> ModuleRows:
    """Read all units of `info`; `plain` chooses the form of the hot loops. Damage is noted in `info.problems`."""
    units = [unit for unit in info.units if unit.unit_type != C.DW_UT_type]
    columns = np.array(
        [
            (
                *(unit.offset, unit.die_offset, unit.end, unit.version, unit.address_size, unit.offset_size),
                unit.abbreviation_offset,
            )
            for unit in units
        ],
        dtype=np.int64,
    ).reshape(-1)
    facts = np.zeros(len(units) * U.FACT_WIDTH, dtype=np.int64)
    sections = tuple(_section(info, name, plain) for name in U.SECTIONS)
    longest = _longest_program(info.sections.get(".debug_line"))
    parts = _parts(units)

    def read(part: tuple[int, int]) -> list[list[Int64s]]:
        return _read_part(part, units, sections, columns, facts, longest, plain)

    if not plain:
        compiled(scan_units)
    found = run_parts([partial(read, part) for part in parts], not plain)
    result = _joined(units, facts.reshape(-1, U.FACT_WIDTH), [each for part in found for each in part])
    _note_damage(info, result)
    return result


def _section(info: DebugInfo, name: str, plain: bool) -> Any:
    data = info.sections.get(name)
    return data if plain else np.frombuffer(data or b"\0", dtype=np.uint8)[: len(data)]


def _longest_program(data: SectionData) -> int:
    """Bytes of the longest line number program, with its header; of the rest where a length is damaged."""
    longest = position = 0
    try:
        while position < len(data):
            length, header = read_unsigned(data, position, 4), 4
            if length == 0xFFFFFFFF:
                length, header = read_unsigned(data, position + 4, 8), 12
            longest = max(longest, min(length + header, len(data) - position))
            position += length + header
    except IndexError:
        return len(data)
    # A unit may refer to a place between the headers, where any length may stand.
    return longest if position == len(data) else len(data)


def _parts(units: list[CompilationUnit]) -> list[tuple[int, int]]:
    """(first unit, last unit) of each part of the work."""
    parts = []
    first = size = 0
    for index, unit in enumerate(units):
        size += unit.end - unit.offset
        if size >= _PART:
            parts.append((first, index + 1))
            first, size = index + 1, 0
    if first < len(units):
        parts.append((first, len(units)))
    return parts


def _read_part(
    part: tuple[int, int],
    units: list[CompilationUnit],
    sections: tuple[Any, ...],
    columns: Int64s,
    facts: Int64s,
    longest: int,
    plain: bool,
) -> list[list[Int64s]]:
    first, last = part
    largest = max(unit.end - unit.offset for unit in units[first:last])
    total = sum(unit.end - unit.offset for unit in units[first:last])
    work = _Part(max(largest, total // 4), longest, plain)
    scan: Any = scan_units if plain else compiled(scan_units)
    fixed = [plain_view(each) if plain else each for each in (columns, form_sizes(), facts)]
    found: list[list[Int64s]] = []
    while True:
        counts = plain_view(work.counts) if plain else work.counts
        begin = first
        first, full = scan(sections, fixed[0], first, last, fixed[1], *work.groups(), fixed[2], counts)
        if full == U.SCRATCH_FULL and work.largest <= _SCRATCH_LIMIT + 4 * largest:
            work.make_scratch(2)
        elif full == U.SCRATCH_FULL:
            # No sound unit has so many ranges: a list that is referred to again and again.
            facts[first * U.FACT_WIDTH + U.STATUS] = U.DAMAGED_RANGES
            facts[first * U.FACT_WIDTH + U.PLACE] = units[first].offset
            first += 1
        elif full == U.OUTPUT_FULL and first == begin and not work.counts.any():
            work.make_output(2)
        else:
            found.append(work.taken())
            if not full:
                return found
            work.make_output(1)


def _joined(units: list[CompilationUnit], facts: Int64s, parts: list[list[Int64s]]) -> ModuleRows:
    """The parts put together, with every index shifted to count through the module."""
    entries = rows = directories = files = 0
    for part in parts:
        part_entries, part_rows, part_runs, part_directories, part_files = part
        parents = part_entries[:, U.PARENT]
        parents[parents >= 0] += entries
        call_files = part_entries[:, U.CALL_FILE]
        call_files[call_files >= 0] += files
        owners = part_rows[:, U.ROW_ENTRY]
        owners[owners >= 0] += entries
        row_files = part_rows[:, U.ROW_FILE]
        row_files[row_files >= 0] += files
        part_runs[:, U.RUN_FIRST] += rows
        entries += len(part_entries)
        rows += len(part_rows)
        directories += len(part_directories)
        files += len(part_files)
    columns = [np.concatenate(each) if each else np.zeros((0, 1), dtype=np.int64) for each in zip(*parts, strict=True)]
    if not columns:
        widths = (U.ENTRY_WIDTH, U.ROW_WIDTH, U.RUN_WIDTH, 1, 2)
        columns = [np.zeros((0, width), dtype=np.int64) for width in widths]
    _shift_facts(facts, parts)
    return ModuleRows(units, facts, columns[0], columns[1], columns[2], columns[3].reshape(-1), columns[4])


def _shift_facts(facts: Int64s, parts: list[list[Int64s]]) -> None:
    """Let the units' first directory, file and entry count through the module: a part's units stand side by side."""
    for column, counted in ((U.FIRST_DIRECTORY, U.DIRECTORY_COUNT), (U.FIRST_FILE, U.FILE_COUNT)):
        facts[:, column] = np.cumsum(facts[:, counted]) - facts[:, counted]


def _note_damage(info: DebugInfo, rows: ModuleRows) -> None:
    for index in np.flatnonzero(rows.facts[:, U.STATUS]).tolist():
        status, place = int(rows.facts[index, U.STATUS]), int(rows.facts[index, U.PLACE])
        unit = rows.units[index]
        if status == U.DAMAGED_LINES:
            info.note(DwarfReason.BAD_LINE_PROGRAM, ".debug_line", place, unit.offset)
        elif status == U.DAMAGED_ABBREVIATIONS:
            info.note(DwarfReason.TRUNCATED, ".debug_abbrev", place, unit.offset)
        elif status == U.DAMAGED_RANGES:
            info.note(DwarfReason.BAD_LIST, ".debug_info", place, unit.offset)
        else:
            info.note(F.REASONS.get(status, DwarfReason.TRUNCATED), ".debug_info", place, unit.offset)
    for index in np.flatnonzero(rows.facts[:, U.SPLIT]).tolist():
        unit = rows.units[index]
        info.note(DwarfReason.SPLIT, unit.section, unit.offset, unit.offset)
