"""A module's DWARF and symbols → its symbol index.

Functions of the debugging information come first; where there are none, lines that no function covers, and symbols.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from cfi_tables.elf_image import (
    ET_REL,
    PF_X,
    PT_LOAD,
    SHF_ALLOC,
    SHF_COMPRESSED,
    SHF_EXECINSTR,
    ElfError,
    ElfImage,
)
from cfi_tables.hot_loop import compiled, compiled_pays, plain_view, run_hot
from cfi_tables.progress import progress
from cfi_tables.relocation import section_addresses
from cfi_tables.worker_threads import run_parts
from unwind.dwarf import constants as C
from unwind.dwarf.line_header_scan import STRING_SECTIONS
from unwind.dwarf.line_program import INTERPRETED_RATE
from unwind.symbolize import index_encoding, index_layout, symbol_index
from unwind.symbolize import scan_columns as U
from unwind.symbolize import scope_rows as S
from unwind.symbolize.address_pieces import disjoint_pieces, uncovered
from unwind.symbolize.index_encoding import EncodedRows
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.name_table import NameTable
from unwind.symbolize.symbol_index import SymbolIndex
from unwind.symbolize.symbol_pieces import symbol_pieces
from unwind.symbolize.unit_scan import SECTIONS, scan_units

if TYPE_CHECKING:
    from unwind.dwarf.debug_info import DebugInfo
    from unwind.symbolize.entry_names import EntryNames
    from unwind.symbolize.module_scan import ModuleRows
    from unwind.symbolize.module_symbols import ModuleSymbols
    from unwind.symbolize.source_files import SourceFiles

Int64s = NDArray[np.int64]
_NOWHERE = np.iinfo(np.int64).min
_LEVELS = 1 << 14
_MANY = 4 << 20
_LARGE = 1 << 16
"""Bytes of a compressed section from which on a thread is begun for it."""


def load_sections(image: ElfImage) -> None:
    """Have several threads decompress the sections that an index is made of; damage is told when they are read."""
    sections = [image.sections[name] for name in (*SECTIONS, *STRING_SECTIONS) if name in image.sections]
    chosen = [each.name for each in dict.fromkeys(sections) if each.flags & SHF_COMPRESSED and each.size > _LARGE]

    def load(name: str) -> None:
        with suppress(ElfError):
            image.section_data(name)

    run_parts([partial(load, name) for name in chosen], image.file_type != ET_REL)


def build_index(symbols: ModuleSymbols, plain: bool | None = None) -> SymbolIndex:
    """The index of a module; see `build_lookup`."""
    return build_lookup(symbols, plain).index


def build_lookup(symbols: ModuleSymbols, plain: bool | None = None) -> IndexLookup:
    """Lookups in the index of a module, which is made. `plain` chooses the form of the hot loops (None: by size).

    What is damaged is left out; `symbols.problems` then says what.
    """
    info = symbols.debug_info
    if plain is None:
        plain = info is None or not compiled_pays(scan_units, _size(info) / INTERPRETED_RATE)
    with progress(f"symbol index of {Path(symbols.image.path).name}"):
        data, rows = _Build(symbols, plain).encoded()
    lookup = IndexLookup(SymbolIndex(data, f"symbol index of {symbols.image.path}", sound=True))
    lookup.keep_rows(rows.addresses, rows.scopes, rows.values)
    return lookup


def _size(info: DebugInfo) -> int:
    """Bytes of entries that an index is made of, as far as it takes to see that they are many."""
    size = len(info.sections.get(".debug_info"))
    if size < _MANY and info.image.has(".debug_addr"):  # split units cannot do without
        size = sum(unit.end - unit.offset for unit in info.full_units)
    return size


class _Build:
    """The steps from a module's rows to its index."""

    def __init__(self, symbols: ModuleSymbols, plain: bool) -> None:
        from unwind.symbolize.module_scan import scan_module

        self._symbols = symbols
        self._plain = plain
        self._rows: ModuleRows | None = None
        self._names: EntryNames | None = None
        self._files: SourceFiles | None = None
        if symbols.debug_info is not None:
            from unwind.symbolize.entry_names import EntryNames
            from unwind.symbolize.source_files import SourceFiles

            self._rows = scan_module(symbols.debug_info, plain)
            self._names = EntryNames(symbols.debug_info, self._rows, plain)
            self._files = SourceFiles(self._rows)
        self._code = _code_ranges(symbols.image)
        self.names = NameTable(plain) if self._names is None else self._names.table

    def encoded(self) -> tuple[NDArray[np.uint8], EncodedRows]:
        """The index, and its rows as they were before they were packed."""
        image = self._symbols.image
        pieces, starts, entries = self._pieces()
        found = self._scopes(pieces, entries)
        flags = 0
        if self._symbols.debug_info is not None:
            flags |= index_layout.HAS_DEBUG
        if self._symbols.symbol_names.code_ranges()[0].size:
            flags |= index_layout.HAS_SYMBOLS
        damaged, everywhere = damaged_ranges(self._symbols.debug_info)
        if everywhere:
            flags |= index_layout.DAMAGED_SOMEWHERE
        build_id = (image.build_id or b"")[:32]
        header = {
            "machine": image.machine,
            "flags": flags,
            "build_id": np.void(build_id.ljust(32, b"\0")),
            "build_id_size": len(build_id),
        }
        rows = index_encoding.encode_rows(*found)
        begins, begin_arrays = index_encoding.encode_begins(*_begins(pieces, starts))
        columns = index_encoding.pack_columns(rows.values | begins, self._plain)
        paths = [""] if self._files is None else self._files.paths
        arrays = rows.arrays | begin_arrays | index_encoding.encode_names(self.names)
        arrays |= index_encoding.encode_strings("file", paths)
        arrays |= {"mapped": mapped_ranges(image), "damaged": damaged}
        header |= rows.counts
        header |= {"name_count": len(self.names), "file_count": len(paths), "begin_count": len(begins["begin"])}
        return symbol_index.encode_index(header, columns, arrays), rows

    # --- which piece of code is whose

    def _pieces(self) -> tuple[Int64s, Int64s, Int64s]:
        """Sorted pieces (scope_rows.PIECE_*), where the function of each is entered, and the entries they are of."""
        runs = np.zeros((0, U.RUN_WIDTH), dtype=np.int64)
        owner = np.zeros(0, dtype=np.int64)
        entries = np.zeros((0, S.ENTRY_WIDTH), dtype=np.int64)
        if self._rows is not None and len(self._rows.runs):
            runs = _inside_code(self._rows.runs, *self._code)
            owner = self._rows.rows[runs[:, U.RUN_FIRST], U.ROW_ENTRY]
            entries = self._entries()
        code = runs[owner >= 0]
        low, high, index = disjoint_pieces(code[:, U.RUN_LOW], code[:, U.RUN_HIGH])
        functions = _piece_columns(low, high, code[index], -1)
        starts = self._function_starts(code)[index]
        lines = runs[owner < 0]
        rest_low, rest_high, rest = uncovered(lines[:, U.RUN_LOW], lines[:, U.RUN_HIGH], low, high)
        line_low, line_high, index = disjoint_pieces(rest_low, rest_high)
        unclaimed = _piece_columns(line_low, line_high, lines[rest[index]], len(entries))
        others, other_starts, more = self._symbol_pieces(low, high, unclaimed, len(entries))
        pieces = np.concatenate([functions, others])
        starts = np.concatenate([starts, other_starts])
        order = np.argsort(pieces[:, S.PIECE_LOW].view(np.uint64), kind="stable")
        return pieces[order], starts[order], np.concatenate([entries, more])

    def _entries(self) -> Int64s:
        """The entries of the debugging information, as `make_scopes` wants them."""
        assert self._rows is not None and self._names is not None and self._files is not None
        entries = np.empty((len(self._rows.entries), S.ENTRY_WIDTH), dtype=np.int64)
        columns = (np.ascontiguousarray(self._rows.entries).reshape(-1), self._files.ids, self._names.ids)
        run_hot(S.outline_entries, not self._plain, *columns, entries.reshape(-1))
        return entries

    def _function_starts(self, runs: Int64s) -> Int64s:
        """Where the function of each run is entered; `_NOWHERE` for a run that lies apart from there."""
        if self._rows is None or not len(runs):
            return np.zeros(len(runs), dtype=np.int64)
        entry = self._rows.rows[runs[:, U.RUN_FIRST], U.ROW_ENTRY]
        entries = self._rows.entries
        while True:
            inlined = np.flatnonzero(entries[entry, U.TAG] == C.DW_TAG_inlined_subroutine)
            if not len(inlined):
                break
            entry[inlined] = entries[entry[inlined], U.PARENT]
        start = entries[entry, U.START]
        inside = (runs[:, U.RUN_LOW] <= start) & (start < runs[:, U.RUN_HIGH])
        return np.where(inside, start, _NOWHERE)

    def _symbol_pieces(self, low: Int64s, high: Int64s, unclaimed: Int64s, first: int) -> tuple[Int64s, Int64s, Int64s]:
        """Pieces of what functions at the sorted ranges [low, high) leave: lines, symbols, and both.

        Gives the pieces, where each one's symbol begins, and the entries that stand for symbols; the first of these,
        which is numbered `first`, has no name.
        """
        free_low, free_high, _ = uncovered(*self._code, low, high)
        named = symbol_pieces(self._symbols.symbol_names, free_low, free_high)
        entries = np.zeros((1 + len(named.symbols), S.ENTRY_WIDTH), dtype=np.int64)
        entries[:, (S.ENTRY_OUTER, S.ENTRY_SCOPE)] = -1
        entries[1:, S.ENTRY_NAME] = self.names.number_of([symbol.name for symbol in named.symbols])
        line_low, line_high = unclaimed[:, S.PIECE_LOW], unclaimed[:, S.PIECE_HIGH]
        cuts = distinct_values(np.concatenate([line_low, line_high, named.low, named.high]))
        begins, ends = cuts[:-1], cuts[1:]
        line = _covering(line_low, line_high, begins)
        symbol = _covering(named.low, named.high, begins)
        chosen = (line >= 0) | (symbol >= 0)
        begins, ends, line, symbol = begins[chosen], ends[chosen], line[chosen], symbol[chosen]
        pieces = np.zeros((len(begins), S.PIECE_WIDTH), dtype=np.int64)
        with_lines = line >= 0
        pieces[with_lines] = unclaimed[line[with_lines]]
        pieces[:, S.PIECE_LOW], pieces[:, S.PIECE_HIGH] = begins, ends
        with_symbol = symbol >= 0
        number = named.symbol[symbol[with_symbol]]
        pieces[with_symbol, S.PIECE_ENTRY] = first + 1 + number
        pieces[~with_symbol, S.PIECE_ENTRY] = first
        starts = np.full(len(begins), _NOWHERE)
        addresses = np.array([symbol.address for symbol in named.symbols], dtype=np.uint64).view(np.int64)
        starts[with_symbol] = addresses[number]
        return pieces, starts, entries

    # --- scopes

    def _scopes(self, pieces: Int64s, entries: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """(rows, scopes, functions) as `make_scopes` writes them."""
        source = np.zeros((0, U.ROW_WIDTH), dtype=np.int64) if self._rows is None else self._rows.rows
        files = np.zeros(1, dtype=np.int64) if self._files is None else self._files.ids
        row_count = int(pieces[:, S.PIECE_COUNT].sum()) + 2 * len(pieces) + 2
        inlined = int((entries[:, S.ENTRY_OUTER] >= 0).sum())
        scope_count = row_count + inlined + 2
        scopes = np.empty(scope_count * S.SCOPE_WIDTH, dtype=np.int64)
        functions = np.empty(scope_count * S.FUNCTION_WIDTH, dtype=np.int64)
        rows = np.empty(row_count * S.ROW_WIDTH, dtype=np.int64)
        counts = np.zeros(3, dtype=np.int64)
        by_name = np.full(len(self.names), -1, dtype=np.int64)
        stack = np.empty(2 * _LEVELS, dtype=np.int64)
        arrays: list[Any] = [
            *(np.ascontiguousarray(each).reshape(-1) for each in (pieces, source, files, entries)),
            *(by_name, stack, scopes, functions, rows, counts),
        ]
        if self._plain:
            S.make_scopes(*map(plain_view, arrays))
        else:
            compiled(S.make_scopes)(*arrays)
        return (
            rows.reshape(-1, S.ROW_WIDTH)[: counts[2]],
            scopes.reshape(-1, S.SCOPE_WIDTH)[: counts[0]],
            functions.reshape(-1, S.FUNCTION_WIDTH)[: counts[1]],
        )


def _code_ranges(image: ElfImage) -> tuple[Int64s, Int64s]:
    """Where the module has code, sorted and disjoint: its sections with code, or its segments without any."""
    addresses = section_addresses(image)
    ranges = [
        (addresses[each.index], addresses[each.index] + each.size)
        for each in image.section_list
        if each.flags & SHF_EXECINSTR and each.size
    ] or [
        (each.address, each.address + each.memory_size)
        for each in image.segments
        if each.type == PT_LOAD and each.flags & PF_X and each.memory_size
    ]
    columns = np.array(ranges, dtype=np.uint64).reshape(-1, 2).view(np.int64)
    low, high, _ = disjoint_pieces(columns[:, 0].copy(), columns[:, 1].copy())
    # A module has its code in one half of the address space; what is said of the other one is damaged.
    negative = low < 0
    sizes = high - low
    kept = negative if sizes[negative].sum() > sizes[~negative].sum() else ~negative
    return low[kept], high[kept]


def _inside_code(runs: Int64s, low: Int64s, high: Int64s) -> Int64s:
    """The runs that begin where the module has code, as far as it goes: all of them but in damaged files."""
    where = _covering(low, high, runs[:, U.RUN_LOW])
    kept = runs[where >= 0].copy()
    kept[:, U.RUN_HIGH] = np.minimum(kept[:, U.RUN_HIGH], high[where[where >= 0]])
    return kept


def _piece_columns(low: Int64s, high: Int64s, runs: Int64s, entry: int) -> Int64s:
    pieces = np.empty((len(low), S.PIECE_WIDTH), dtype=np.int64)
    pieces[:, S.PIECE_LOW], pieces[:, S.PIECE_HIGH] = low, high
    pieces[:, S.PIECE_FIRST], pieces[:, S.PIECE_COUNT] = runs[:, U.RUN_FIRST], runs[:, U.RUN_COUNT]
    pieces[:, S.PIECE_ENTRY] = entry
    return pieces


def _covering(low: Int64s, high: Int64s, addresses: Int64s) -> Int64s:
    """Index of the range that covers each address, -1 for none; the ranges are sorted and disjoint."""
    if not len(low):
        return np.full(len(addresses), -1)
    index = np.searchsorted(low, addresses, side="right") - 1
    return np.where((index >= 0) & (addresses < high[index]), index, -1)


def _begins(pieces: Int64s, starts: Int64s) -> tuple[Int64s, Int64s]:
    """(addresses, 1 more than the distance from the function's entry or 0) for `encode_begins`."""
    low, high = pieces[:, S.PIECE_LOW], pieces[:, S.PIECE_HIGH]
    known = starts != _NOWHERE
    inside = known & (starts > low) & (starts < high)
    value = np.where(known & (starts <= low), low - starts + 1, 0)
    # A piece that goes on with what the one before it began needs no begin of its own.
    goes_on = np.zeros(len(pieces), dtype=bool)
    goes_on[1:] = (starts[1:] == starts[:-1]) & (~known[1:] | (low[1:] == high[:-1])) & ~inside[:-1]
    # What lies between two pieces is no function's, and neither is what lies behind the last one.
    ends = known & (np.append(low[1:], high[-1:] + 1) != high)
    addresses = np.concatenate([low[~goes_on], starts[inside], high[ends]])
    values = np.concatenate([value[~goes_on], np.ones(int(inside.sum())), np.zeros(int(ends.sum()))]).astype(np.int64)
    order = np.argsort(addresses.view(np.uint64), kind="stable")
    return addresses[order], values[order]


def mapped_ranges(image: ElfImage) -> NDArray[np.uint64]:
    """The addresses that a module has in memory."""
    ranges = [(each.address, each.address + each.memory_size) for each in image.segments if each.type == PT_LOAD]
    if not ranges:
        addresses = section_addresses(image)
        sections = (each for each in image.section_list if each.flags & SHF_ALLOC)
        ranges = [(addresses[each.index], addresses[each.index] + each.size) for each in sections]
    return np.array([each for pair in sorted(ranges) for each in pair], dtype=np.uint64)


def damaged_ranges(info: DebugInfo | None) -> tuple[NDArray[np.uint64], bool]:
    """The addresses of units that could not be read whole, and whether there are others of unknown addresses."""
    if info is None or not (info.problems or info.sections.damage):
        return np.zeros(0, dtype=np.uint64), False
    wanted = {problem.unit_offset for problem in info.problems}
    if None in wanted or info.sections.damage:
        return np.zeros(0, dtype=np.uint64), True
    known = info.address_ranges
    offsets = [unit.offset for unit in info.units]
    found = []
    seen = set()
    for low, high, unit in zip(known.low.tolist(), known.high.tolist(), known.unit.tolist(), strict=True):
        if offsets[unit] in wanted:
            seen.add(offsets[unit])
            found += [low, high]
    return np.array(found, dtype=np.uint64), not wanted <= seen
