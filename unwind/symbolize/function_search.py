"""Names and source lines → addresses: what a probe point resolves to in one module.

Functions are found by shell wildcards over the names in DWARF and the symbol tables, with every inlined copy;
statements through the line tables. Data comes from a ModuleSymbols; nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from cfi_tables.distinct_values import distinct_values
from cfi_tables.hot_loop import compiled_pays
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.die import Die
from unwind.dwarf.entry import Entry
from unwind.dwarf.line_program import FLAG_END_SEQUENCE, FLAG_IS_STMT, INTERPRETED_RATE, LineTable
from unwind.dwarf.name_index import NameIndex, read_name_index
from unwind.symbolize.function_entry import after_prologue, is_optimized
from unwind.symbolize.function_index import FunctionIndex, longest_piece, name_matcher
from unwind.symbolize.function_name import demangled, is_cold_part
from unwind.symbolize.function_table import FunctionTable
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.nearest_name import nearest_names
from unwind.symbolize.symbol_names import FunctionSymbol

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.debug_info import DebugInfo


@dataclass(slots=True)
class FunctionPlace:
    """A function's entry, or that of one inlined copy of it. Addresses are file virtual addresses."""

    name: str
    """As in SymbolFrame.function; the matching alias for a function found through the symbol table."""
    linkage_name: str | None
    file: str | None
    """Path of the declaration."""
    line: int | None
    """Line of the declaration."""
    address: int
    end: int
    """End of the range that holds `address`."""
    inlined: bool
    owner: str | None
    """Name of the function that an inlined copy lies in."""
    after_prologue: int
    """Where the body begins: arguments of unoptimized code are in their places from here on."""
    optimized: bool
    """Argument locations are valid at `address` (optimized code); False: only from `after_prologue` on."""
    die: Die | None = field(default=None, compare=False, repr=False)
    selects: bool = False
    """The code does not do what its name says, but selects what does, once, at start-up (an IFUNC's resolver)."""


@dataclass(slots=True)
class StatementPlace:
    """An address where the code of a source line begins."""

    function: str
    """The function or inlined copy whose own code it is."""
    file: str
    line: int
    address: int
    inlined: bool
    owner: str | None
    """Name of the function that an inlined copy lies in."""


class FunctionSearch:
    """Searches in one module. `symbols` is the module's ModuleSymbols."""

    def __init__(self, symbols: ModuleSymbols) -> None:
        self.symbols = symbols

    @cached_property
    def _indexes(self) -> list[FunctionIndex]:
        """Of the program's units, and of those in each split file: offsets and origins are a file's own."""
        info = self.symbols.debug_info
        if info is None:
            return []
        tables: dict[DebugInfo, list[FunctionTable]] = {}
        size = sum(unit.end - unit.offset for unit in info.full_units)
        plain = not compiled_pays(F.scan_functions, size / INTERPRETED_RATE)
        for unit in info.units:
            table = None if unit.is_type else self.symbols.function_table(unit, plain)
            if table is not None:
                tables.setdefault(table.unit.info, []).append(table)
        return [FunctionIndex(each, found) for each, found in tables.items()]

    @cached_property
    def _name_index(self) -> NameIndex | None:
        """The module's .debug_names; None too where it would not tell of split or shared files."""
        info = self.symbols.debug_info
        if info is None or not info.sections.get(".debug_names") or info.alternate is not None:
            return None
        try:
            split = any(unit.is_skeleton for unit in info.units)
        except DwarfError:  # told when the unit is read
            return None
        return None if split else read_name_index(info)

    def _matching_code(self, pattern: str) -> Iterator[tuple[FunctionTable, int]]:
        indexes = None if "_indexes" in self.__dict__ else self._indexes_by_name(pattern)
        for index in self._indexes if indexes is None else indexes:
            yield from index.matching_code(pattern)

    def _indexes_by_name(self, pattern: str) -> list[FunctionIndex] | None:
        """Of those units alone that have such a name, and of what they refer to; None when that cannot be told."""
        piece, info = longest_piece(pattern), self.symbols.debug_info
        if info is None or not piece or self._name_index is None:
            return None
        named = self._name_index.units_naming(piece.encode())
        if named is None:
            return None
        covered = self._name_index.covered
        asked = {unit.offset for unit in info.units if unit.offset in named or unit.offset not in covered}
        tables: dict[int, FunctionTable] = {}
        while asked:
            for unit in (info.unit_at(offset) for offset in asked):
                table = None if unit.is_type else self.symbols.function_table(unit)
                if table is not None:
                    tables[unit.offset] = table
            # An inlined function's name may stand in another unit (after link-time optimization).
            asked = {
                each for offset in asked & tables.keys() for each in _units_referred(tables[offset])
            } - tables.keys()
        return [FunctionIndex(info, [tables[offset] for offset in sorted(tables)])]

    # --- functions

    def functions(self, pattern: str, file: str | None = None, line: int | None = None) -> list[FunctionPlace]:
        """Places of all functions whose name matches the shell wildcard `pattern`, sorted by address.

        It is compared, in case too, with the plain name, the linkage name, the demangled name with and
        without
        parameters, and symbol table names. `file` filters by the declaration's file (a wildcard; the path
        or its last parts), `line` by its line. [] when nothing matches.
        """
        places: list[FunctionPlace] = []
        for table, row in self._matching_code(pattern):
            if (file is not None or line is not None) and not self._is_declared_at(table, row, file, line):
                continue
            place = self._function_place(table, row)
            if place is not None:
                places.append(place)
        known = {place.address for place in places if not place.inlined}
        places += self._symbol_places(pattern, file, line, known)
        unique = {(place.address, place.inlined, place.linkage_name or place.name): place for place in places}
        return sorted(unique.values(), key=lambda place: (place.address, place.inlined))

    def _is_declared_at(self, table: FunctionTable, row: int, file: str | None, line: int | None) -> bool:
        try:
            return _declared_at(*declaration(table.entry(row)), file, line)
        except DwarfError as error:
            table.unit.info.note_problem(error.problem)
            return False

    def _function_place(self, table: FunctionTable, row: int) -> FunctionPlace | None:
        address = table.entry_address(row)
        if address is None:
            return None
        try:
            entry = table.entry(row)
            name, linkage = self.symbols.name_of(table, row)
            file, line = declaration(entry)
            end = next(high for low, high in table.ranges(row) if low <= address < high)
            inlined = int(table.rows[row, F.TAG]) == C.DW_TAG_inlined_subroutine
            owner_row = table.owner(row) if inlined else None
            owner = self.symbols.name_of(table, owner_row)[0] if owner_row is not None else None
            lines = table.unit.info.line_table(table.unit)
            body = address if inlined or lines is None else after_prologue(lines, address, end)
            optimized = is_optimized(entry)
        except DwarfError as error:
            table.unit.info.note_problem(error.problem)
            return None
        return FunctionPlace(
            name or linkage or f"{address:#x}",
            linkage,
            file,
            line,
            address,
            end,
            inlined,
            owner,
            body,
            optimized,
            entry,
        )

    def _symbol_places(self, pattern: str, file: str | None, line: int | None, known: set[int]) -> list[FunctionPlace]:
        """Functions by symbol name: aliases of ones that DWARF knows, and those that it does not know."""
        matches = name_matcher(pattern)
        best: dict[int, FunctionSymbol] = {}
        for symbol in self.symbols.symbol_names.all():
            if symbol.address in known or is_cold_part(symbol.name):
                continue
            if matches(symbol.name):
                other = best.get(symbol.address)
                if other is None or len(symbol.name) < len(other.name):
                    best[symbol.address] = symbol
        places = []
        for symbol in best.values():
            place = self._alias_place(symbol) or self._bare_place(symbol)
            if _declared_at(place.file, place.line, file, line):
                places.append(place)
        return places

    def _alias_place(self, symbol: FunctionSymbol) -> FunctionPlace | None:
        found = self.symbols.function_at(symbol.address)
        if found is None or found[0].entry_address(found[1]) != symbol.address:
            return None
        place = self._function_place(*found)
        if place is not None:
            place.name = demangled(symbol.name)
            place.linkage_name = symbol.name
            place.selects = symbol.is_ifunc
        return place

    def _bare_place(self, symbol: FunctionSymbol) -> FunctionPlace:
        name = demangled(symbol.name)
        linkage = symbol.name if name != symbol.name else None
        file = line = None
        frames = self.symbols.frames_at(symbol.address)
        if frames:  # assembly has lines, but often no functions
            file, line = frames[-1].file, frames[-1].line
        return FunctionPlace(
            name,
            linkage,
            file,
            line,
            symbol.address,
            symbol.end,
            False,
            None,
            symbol.address,
            True,
            selects=symbol.is_ifunc,
        )

    # --- statements

    def statements(self, function: str, file: str | None, line: int) -> list[StatementPlace]:
        """Addresses of the code of `file`:`line` in functions whose name matches `function`, inlined copies
        too.

        One address for each contiguous block of the line's code, its lowest. `file` None stands for the
        file that declares the function. [] when the line has no code there (see `nearest_lines`).
        """
        places: dict[int, StatementPlace] = {}
        for table, lines, path, wanted, rows in self._candidate_rows(function, file):
            for row in rows[lines.line[rows] == line].tolist():
                owner = _owner(table, lines, row)
                if owner is None or owner not in wanted or self._continues(lines, row, table, owner):
                    continue
                address = int(lines.address[row])
                places.setdefault(address, self._statement_place(table, owner, path, line, address))
        return sorted(places.values(), key=lambda place: place.address)

    def nearest_lines(self, function: str, file: str | None, line: int, count: int = 4) -> list[int]:
        """The lines nearest to `line` that have code of their own in the functions named, sorted."""

        found: set[int] = set()
        for table, lines, _, wanted, rows in self._candidate_rows(function, file):
            distinct = [each for each in distinct_values(lines.line[rows]).tolist() if each > 0]
            near = 0
            for each in sorted(distinct, key=lambda each: (abs(each - line), each)):
                here = rows[lines.line[rows] == each].tolist()
                if any(_owner(table, lines, row) in wanted for row in here):
                    found.add(each)
                    near += 1
                    if near == count:
                        break
        return sorted(sorted(found, key=lambda each: (abs(each - line), each))[:count])

    def _continues(self, lines: LineTable, row: int, table: FunctionTable, owner: int | None) -> bool:
        """Whether the row before is of the same line and the same copy, so that the block began earlier."""
        before = row - 1
        if before < 0 or lines.flags[before] & FLAG_END_SEQUENCE:
            return False
        if lines.line[before] != lines.line[row] or lines.file[before] != lines.file[row]:
            return False
        return _owner(table, lines, before) == owner

    def _statement_place(self, table: FunctionTable, row: int, path: str, line: int, address: int) -> StatementPlace:
        name = self.symbols.name_of(table, row)[0] or f"{address:#x}"
        inlined = int(table.rows[row, F.TAG]) == C.DW_TAG_inlined_subroutine
        owner_row = table.owner(row) if inlined else None
        owner = self.symbols.name_of(table, owner_row)[0] if owner_row is not None else None
        return StatementPlace(name, path, line, address, inlined, owner)

    def _candidate_rows(
        self, function: str, file: str | None
    ) -> Iterator[tuple[FunctionTable, LineTable, str, set[int], np.ndarray]]:
        """Line rows that begin statements inside matching functions, by unit and file.

        Gives the unit's functions and lines, the file's path, the scan rows that match, and the line rows; these
        may still be of a call inlined there (see `_owner`).
        """
        by_table: dict[int, tuple[FunctionTable, set[int]]] = {}
        for table, row in self._matching_code(function):
            by_table.setdefault(id(table), (table, set()))[1].add(row)
        for table, wanted in by_table.values():
            files = self._wanted_files(table, wanted, file)
            lines = table.unit.info.line_table(table.unit) if files else None
            if lines is None or not lines.sequences:
                continue
            inside = _inside(lines, table, wanted) & ((lines.flags & FLAG_IS_STMT) != 0)
            for number, path in files.items():
                rows = (inside & (lines.file == number)).nonzero()[0]
                if len(rows):
                    yield table, lines, path, wanted, rows

    def _wanted_files(self, table: FunctionTable, rows: set[int], file: str | None) -> dict[int, str]:
        """The unit's files, by number, that `file` matches, or that declare the functions when it is None."""
        header = table.unit.info.line_header(table.unit)
        if header is None:
            return {}
        declaring = self._declaring_files(table, rows) if file is None else set()
        found = {}
        for number in range(len(header.files) + 1):
            path = header.path(number)
            if path is not None and (path in declaring if file is None else path_matches(path, file)):
                found[number] = path
        return found

    def _declaring_files(self, table: FunctionTable, rows: Iterable[int]) -> set[str]:
        found = set()
        for row in rows:
            try:
                path = declaration(table.entry(row))[0]
            except DwarfError:
                continue
            if path is not None:
                found.add(path)
        return found

    # --- suggestions

    def nearest_names(self, name: str, count: int = 4) -> list[str]:
        """Function names most like `name`, for error messages."""
        names = {name for index in self._indexes for name in index.plain_names()}
        names |= {demangled(symbol.name) for symbol in self.symbols.symbol_names.all()}
        return nearest_names(name, names, count)

    def nearest_files(self, file: str, count: int = 4) -> list[str]:
        """Source files most like `file`, by their last part, for error messages."""
        info = self.symbols.debug_info
        if info is None:
            return []
        by_name: dict[str, str] = {}
        for unit in info.units:
            header = info.line_header(unit)
            for number in range(len(header.files) + 1) if header is not None else ():
                path = header.path(number) if header is not None else None
                if path:
                    by_name.setdefault(path.rpartition("/")[2], path)
        return [by_name[each] for each in nearest_names(file.rpartition("/")[2], set(by_name), count)]


def _owner(table: FunctionTable, lines: LineTable, row: int) -> int | None:
    """Scan row of the innermost function or inlined copy at a line row."""
    chain = table.chain_at(int(lines.address[row]))
    return chain[-1] if chain else None


def _inside(lines: LineTable, table: FunctionTable, rows: set[int]) -> np.ndarray:
    """Which line rows have an address in the ranges of the scan rows, as a boolean column."""
    import numpy as np

    spans: list[list[int]] = []
    for low, high in sorted({span for row in rows for span in table.ranges(row)}):
        if spans and low <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], high)
        else:
            spans.append([low, high])
    columns = np.array(spans, dtype=np.uint64).reshape(-1, 2)
    nearest = np.searchsorted(columns[:, 0], lines.address, side="right") - 1
    inside: np.ndarray = (nearest >= 0) & (lines.address < columns[nearest, 1])
    inside &= (lines.flags & FLAG_END_SEQUENCE) == 0
    return inside


def path_matches(path: str, pattern: str | None) -> bool:
    """Whether the wildcard `pattern` matches `path` or its last parts (`qsort.c`, `stdlib/qsort.c`)."""
    return pattern is None or fnmatchcase(path, pattern) or fnmatchcase(path, "*/" + pattern.lstrip("/"))


def declaration(entry: Entry) -> tuple[str | None, int | None]:
    """File and line of a function's declaration; file numbers count in the unit that has them. DwarfError."""
    file = line = None
    for each in entry.chain():
        if file is None:
            number = each.get(C.DW_AT_decl_file)
            if isinstance(number, int):
                file = each.unit.info.file_path(each.unit, number)
        if line is None:
            value = each.get(C.DW_AT_decl_line)
            line = value if isinstance(value, int) and value > 0 else None
    return file, line


def _declared_at(file: str | None, line: int | None, pattern: str | None, wanted: int | None) -> bool:
    if wanted is not None and line != wanted:
        return False
    return pattern is None or (file is not None and path_matches(file, pattern))


def _units_referred(table: FunctionTable) -> set[int]:
    """Offsets of the units in which the origins of a unit's functions and calls stand; its own is not among them."""
    unit = table.unit
    origins = table.rows[table.rows[:, F.ORIGIN_FORM] != 0, F.ORIGIN]
    outside = origins[(origins < unit.offset) | (origins >= unit.end)]
    found = set()
    for offset in set(outside.tolist()):
        with suppress(DwarfError):
            found.add(unit.info.unit_at(offset).offset)
    return found
