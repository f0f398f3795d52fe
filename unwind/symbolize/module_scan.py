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

from cfi_tables.hot_loop import compiled, plain_view, run_hot
from cfi_tables.progress import progress
from cfi_tables.worker_threads import run_parts, worker_count
from unwind.dwarf import abbreviation_scan as A
from unwind.dwarf import function_scan as F
from unwind.dwarf import line_header_scan as H
from unwind.dwarf.abbreviation_scan import form_sizes
from unwind.dwarf.damage import DwarfReason
from unwind.dwarf.unit_header_scan import UNIT_END, UNIT_OFFSET
from unwind.symbolize import scan_columns as U
from unwind.symbolize.scan_source import ScanSource, ScanSources
from unwind.symbolize.unit_entries import copy_shifted
from unwind.symbolize.unit_root import ROOT_COUNT
from unwind.symbolize.unit_scan import scan_units

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo

_LEVELS = 1 << 14
_SCRATCH_LIMIT = 1 << 20
_PART = 8 << 20
"""Bytes of .debug_info that a thread reads at a time, at most (but for one unit)."""
_LEAST_PART = 1 << 18

Int64s = NDArray[np.int64]


@dataclass(slots=True)
class ModuleRows:
    """What `scan_units` found, int64 of shape (count, columns); indices count through the whole module."""

    sources: ScanSources
    """The files that it was found in, which tell what offsets and numbers of units mean."""
    facts: Int64s
    entries: Int64s
    rows: Int64s
    runs: Int64s
    directories: Int64s
    """A string each."""
    files: Int64s
    """A string and the index of a directory among those of its unit."""


_WIDTHS = (U.ENTRY_WIDTH, U.ROW_WIDTH, U.RUN_WIDTH, 1, 2)
"""Of entries, rows, runs, directories and files."""


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
            + (128 * 2, H.PARAMETER_COUNT, 256, ROOT_COUNT, *(3 * (largest + 1,)))
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
        widths = (U.ENTRY_WIDTH, 2 * U.ROW_WIDTH, *_WIDTHS[2:])
        self.output = tuple(np.empty(count * width, dtype=np.int64) for width in widths)
        self.counts = np.zeros(U.COUNTS, dtype=np.int64)

    def taken(self) -> list[Int64s]:
        """What was written; the output is to be made anew if it is used again."""
        return [
            array[: int(count) * width].reshape(-1, width)
            for array, count, width in zip(self.output, self.counts, _WIDTHS, strict=True)
        ]

    def groups(self) -> list[Any]:
        """The arrays in the order of `scan_units`, as its form wants them."""
        groups = (self.scratch, self.matrix, self.sorting, self.flat, self.ranges, self.output)
        return [tuple(plain_view(each) if self._plain else each for each in group) for group in groups]


def scan_module(info: DebugInfo, plain: bool) -> ModuleRows:
    """Read all units of `info`, of its split files, and of the shared file that they refer to.

    `plain` chooses the form of the hot loops. Damage is noted in `info.problems`.
    """
    sources = ScanSources(info, plain)
    scans = [_Scan(sources, [sources.own_units()])]
    skeletons = np.flatnonzero(scans[0].facts[:, U.SPLIT]).tolist()
    if skeletons:
        scans.append(_Scan(sources, sources.split_units(skeletons)))
    if any(scan.refers_to_shared for scan in scans) and info.alternate is not None:
        shared = sources.shared_units(info.alternate)
        for scan in scans:
            scan.find_shared(shared.base)
        scans.append(_Scan(sources, [shared], with_code=False))
    result = _joined(sources, scans)
    _note_damage(info, result)
    return result


class _Scan:
    """The units of some sources read; `parts` has the outputs, in the order of the units."""

    def __init__(self, sources: ScanSources, members: list[ScanSource], with_code: bool = True) -> None:
        """Without `with_code` the units have no code, and rows are not kept."""
        self._sources = sources
        self._with_code = with_code
        self.facts = np.zeros((sum(len(each.units) for each in members), U.FACT_WIDTH), dtype=np.int64)
        tasks = []
        before = 0
        for pieces in _pieces(members):
            facts = []
            for _, first, last in pieces:
                facts.append((before, self.facts[before : before + last - first]))
                before += last - first
            tasks.append(partial(self._read, pieces, facts))
        self._read_sizes: list[int] = []
        """Bytes of each piece of .debug_info that was read; several threads add to it."""
        total = sum(int(_sizes(each).sum()) for each in members)
        with progress("its debugging information", total, measure=lambda: sum(self._read_sizes)):
            self.parts = [part for found in run_parts(tasks, not sources.plain) for part in found]

    @property
    def refers_to_shared(self) -> bool:
        """Whether some entry is completed by one of the shared file, or named by a string of it."""
        return any(
            bool((part[0][:, U.ORIGIN] <= U.ORIGIN_SHARED).any() or (part[0][:, U.NAME] <= H.SHARED_STRING).any())
            or bool((part[0][:, U.LINKAGE] <= H.SHARED_STRING).any())
            for part in self.parts
        )

    def find_shared(self, base: int) -> None:
        """Let offsets in the shared file count from `base`."""
        for part in self.parts:
            origins = part[0][:, U.ORIGIN]
            shared = (origins <= U.ORIGIN_SHARED) & (origins > U.ORIGIN_ELSEWHERE)
            origins[shared] = base + U.ORIGIN_SHARED - origins[shared]
            for column in (U.NAME, U.LINKAGE):
                strings = part[0][:, column]
                shared = strings <= H.SHARED_STRING
                strings[shared] = 8 * (base + H.SHARED_STRING - strings[shared]) + H.IN_STR

    def _read(self, pieces: list[tuple[ScanSource, int, int]], facts: list[tuple[int, Int64s]]) -> list[list[Int64s]]:
        """Read units of several sources, one after the other, with the same work arrays."""
        sizes = np.concatenate([_sizes(source)[first:last] for source, first, last in pieces])
        work = _Part(
            max(int(sizes.max()), int(sizes.sum()) // 4), self._sources.longest_program, self._sources.plain
        )  # fmt: skip
        found = []
        for (source, first, last), (before, columns) in zip(pieces, facts, strict=True):
            for part in self._read_source(work, source, first, last, columns):
                _place(part, source.base, before)
                if not self._with_code:
                    part[1], part[2] = part[1][:0], part[2][:0]
                found.append(part)
            self._read_sizes.append(int(_sizes(source)[first:last].sum()))
        return found

    def _read_source(self, work: _Part, source: ScanSource, first: int, last: int, facts: Int64s) -> list[list[Int64s]]:
        plain = self._sources.plain
        scan: Any = scan_units if plain else compiled(scan_units)
        units = source.units[first:last]
        arrays = (units.reshape(-1), source.told, form_sizes(), facts.reshape(-1))
        keeps_all = int(source.keeps_all)
        columns, told, sizes, flat_facts = (plain_view(each) if plain else each for each in arrays)
        sections = self._sources.sections(source)
        largest = int(_sizes(source)[first:last].max())
        found: list[list[Int64s]] = []
        at, count = 0, last - first
        while True:
            counts = plain_view(work.counts) if plain else work.counts
            begin = at
            at, full = scan(sections, columns, told, at, count, sizes, *work.groups(), flat_facts, counts, keeps_all)
            if full == U.SCRATCH_FULL and work.largest <= _SCRATCH_LIMIT + 4 * largest:
                work.make_scratch(2)
            elif full == U.SCRATCH_FULL:
                # No sound unit has so many ranges: a list that is referred to again and again.
                facts[at, U.STATUS] = U.DAMAGED_RANGES
                facts[at, U.PLACE] = units[at, UNIT_OFFSET]
                at += 1
            elif full == U.OUTPUT_FULL and at == begin and not work.counts.any():
                work.make_output(2)
            else:
                found.append(work.taken())
                work.make_output(1)
                if not full:
                    return found


def _sizes(source: ScanSource) -> Int64s:
    sizes: Int64s = source.units[:, UNIT_END] - source.units[:, UNIT_OFFSET]
    return sizes


def _pieces(members: list[ScanSource]) -> list[list[tuple[ScanSource, int, int]]]:
    """The work divided: for each part the units (first, last) of sources, in their order."""
    total = sum(int(_sizes(source).sum()) for source in members)
    most = max(_LEAST_PART, min(_PART, total // (2 * worker_count())))
    parts: list[list[tuple[ScanSource, int, int]]] = [[]]
    size = 0
    for source in members:
        first = 0
        for index, each in enumerate(_sizes(source).tolist()):
            size += each
            if size >= most:
                parts[-1].append((source, first, index + 1))
                parts.append([])
                first, size = index + 1, 0
        if first < len(source.units):
            parts[-1].append((source, first, len(source.units)))
    return [part for part in parts if part]


def _place(part: list[Int64s], base: int, before: int) -> None:
    """Let units in a part count from `before`, and offsets in their file's sections from `base`."""
    entries, _, runs = part[:3]
    if before:
        entries[:, U.UNIT] += before
        runs[:, U.RUN_UNIT] += before
    if base:
        entries[:, U.OFFSET] += base
        entries[entries[:, U.ORIGIN] >= 0, U.ORIGIN] += base
        for column in (U.NAME, U.LINKAGE):
            entries[entries[:, column] >= 0, column] += 8 * base


def _joined(sources: ScanSources, scans: list[_Scan]) -> ModuleRows:
    """The parts put together, with every index shifted to count through the module."""
    begins = [0] * len(_WIDTHS)
    units = 0
    tasks = []
    columns: list[Int64s] = []
    for scan in scans:
        for part in scan.parts:
            tasks.append(partial(_put, columns, part, tuple(begins), units, sources.plain))
            begins = [begin + len(each) for begin, each in zip(begins, part, strict=True)]
        units += len(scan.facts)
    columns += [np.empty((total, width), dtype=np.int64) for total, width in zip(begins, _WIDTHS, strict=True)]
    run_parts(tasks, not sources.plain)
    facts = np.concatenate([scan.facts for scan in scans])
    # The units' directories and files stand in the order of the units.
    for column, counted in ((U.FIRST_DIRECTORY, U.DIRECTORY_COUNT), (U.FIRST_FILE, U.FILE_COUNT)):
        facts[:, column] = np.cumsum(facts[:, counted]) - facts[:, counted]
    return ModuleRows(sources, facts, columns[0], columns[1], columns[2], columns[3].reshape(-1), columns[4])


def _put(columns: list[Int64s], part: list[Int64s], begins: tuple[int, ...], units: int, plain: bool) -> None:
    """Move one part to where it begins in the whole columns; what it was made of can go then."""
    shifts = np.zeros((len(_WIDTHS), max(_WIDTHS)), dtype=np.int64)
    shifts[0, [U.PARENT, U.ORIGIN_ENTRY]] = shifts[1, U.ROW_ENTRY] = begins[0]
    shifts[0, U.CALL_FILE] = shifts[1, U.ROW_FILE] = begins[4]
    shifts[0, U.UNIT] = shifts[2, U.RUN_UNIT] = units
    shifts[2, U.RUN_FIRST] = begins[1]
    for index, (whole, begin, width) in enumerate(zip(columns, begins, _WIDTHS, strict=True)):
        place = whole[begin : begin + len(part[index])].reshape(-1)
        run_hot(copy_shifted, not plain, part[index].reshape(-1), width, shifts[index], place)
        part[index] = whole[:0]


def _note_damage(info: DebugInfo, rows: ModuleRows) -> None:
    for index in np.flatnonzero(rows.facts[:, U.STATUS]).tolist():
        status, place = int(rows.facts[index, U.STATUS]), int(rows.facts[index, U.PLACE])
        unit = rows.sources.unit(index)
        if status == U.DAMAGED_LINES:
            info.note(DwarfReason.BAD_LINE_PROGRAM, ".debug_line", place, (unit.skeleton or unit).offset)
        elif status == U.DAMAGED_ABBREVIATIONS:
            unit.info.note(DwarfReason.TRUNCATED, ".debug_abbrev", place, unit.offset)
        elif status == U.DAMAGED_RANGES:
            unit.info.note(DwarfReason.BAD_LIST, ".debug_info", place, unit.offset)
        else:
            unit.info.note(F.REASONS.get(status, DwarfReason.TRUNCATED), ".debug_info", place, unit.offset)
