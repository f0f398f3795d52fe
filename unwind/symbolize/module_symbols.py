"""Addresses of one module → functions, lines and inlined calls.

Data comes from the module's DWARF (its own or its separate debug file's) and symbol tables, read lazily, a
unit at a
time; results are kept by address. What is missing or damaged is data (`missing`, `problems`), never an
exception: one bad unit does not stop the others.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cfi_tables.debug_file import DEBUG_DIRECTORIES, DebugFile, separate_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.entry import Entry
from unwind.dwarf.unit import CompilationUnit
from unwind.symbolize.function_name import function_name
from unwind.symbolize.function_table import FunctionTable
from unwind.symbolize.go_table import GoTable, GoTableError
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.symbolize.symbol_names import SymbolNames

if TYPE_CHECKING:
    from unwind.symbolize.missing_debug import MissingDebug


class ModuleSymbols:
    """The symbols of one module; made by `open`."""

    def __init__(self, image: ElfImage, debug: DebugInfo | None, searched: DebugFile | None) -> None:
        self.image = image
        self.debug_info = debug
        """The module's DWARF, None without any."""
        self._searched = searched
        self.go_table: GoTable | None = None
        """The line table of a Go program without DWARF."""
        self._go_problem: str | None = None
        if debug is None:
            try:
                self.go_table = GoTable.open(image)
            except GoTableError as error:
                self._go_problem = str(error)
        images = [image]
        if searched is not None and searched.image is not None:
            images.append(searched.image)
        self.symbol_names = SymbolNames(images)
        self._frames: dict[int, list[SymbolFrame]] = {}
        self._tables: dict[int, FunctionTable | None] = {}
        self._names: dict[tuple[int, int], tuple[str | None, str | None]] = {}
        self._prologues: dict[tuple[int, int], tuple[int, int]] = {}

    @classmethod
    def open(
        cls, module: str | Path | ElfImage, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES
    ) -> ModuleSymbols:
        """The symbols of an ELF file. Raises ElfError or OSError when the file itself cannot be opened."""
        image = module if isinstance(module, ElfImage) else ElfImage.open(module)
        return cls.from_files(image, separate_debug_file(image, debug_directories), debug_directories)

    @classmethod
    def from_files(
        cls, image: ElfImage, searched: DebugFile | None, debug_directories: tuple[str, ...] = DEBUG_DIRECTORIES
    ) -> ModuleSymbols:
        """The symbols of `image`, of whose separate debug file `separate_debug_file` gave `searched`."""
        holder = image if searched is None else searched.image
        debug = None
        if holder is not None and DebugInfo.is_in(holder):
            try:
                debug = DebugInfo(holder, image.path, debug_directories)
            except (DwarfError, ElfError):
                debug = None
        return cls(image, debug, searched)

    @property
    def problems(self) -> list[str]:
        """What of the debugging information and symbol tables could not be used so far."""
        found = []
        if self.debug_info is not None:
            found += [str(problem) for problem in self.debug_info.problems]
            found += self.debug_info.sections.damage.values()
        if self.symbol_names.damage is not None:
            found.append(self.symbol_names.damage)
        problem = self.go_table.problem if self.go_table is not None else self._go_problem
        if problem is not None:
            found.append(problem)
        return found

    @cached_property
    def missing(self) -> MissingDebug | None:
        """Why there are no lines, and the remedy; None when there is debugging information."""
        if self.debug_info is not None or self.go_table is not None:
            return None
        from unwind.symbolize.missing_debug import missing_debug

        return missing_debug(self.image, self._searched)

    @property
    def lacks_files(self) -> bool:
        """Whether the debugging information refers to a file that cannot be used, as far as is known."""
        problems = [] if self.debug_info is None else self.debug_info.problems
        return any(each.reason in (DwarfReason.SPLIT, DwarfReason.NO_ALTERNATE) for each in problems)

    def function_table(self, unit: CompilationUnit, plain: bool | None = None) -> FunctionTable | None:
        """The functions of a unit, scanned once; None when its entries cannot be read (noted)."""
        if unit.offset not in self._tables:
            table: FunctionTable | None = None
            try:
                full = unit.info.full_unit(unit)
            except DwarfError as error:
                unit.info.note_problem(error.problem)
                full = unit
            try:
                table = FunctionTable(full, plain)
            except DwarfError as error:
                full.info.note_problem(error.problem)
            self._tables[unit.offset] = table
        return self._tables[unit.offset]

    def name_of(self, table: FunctionTable, row: int) -> tuple[str | None, str | None]:
        """(name for people, linkage name) of a row; (None, None) when they are damaged (noted)."""
        values = table.rows[row]
        local = not values[F.NAME_FORM] and not values[F.LINKAGE_FORM]
        shared = local and values[F.ORIGIN_FORM] in (C.DW_FORM_GNU_ref_alt, C.DW_FORM_ref_sup4, C.DW_FORM_ref_sup8)
        place = int(values[F.ORIGIN] if local and values[F.ORIGIN_FORM] and not shared else values[F.OFFSET])
        key = (id(table.unit.info), place)  # each split file counts its offsets from 0
        names = self._names.get(key)
        if names is None:
            try:
                names = function_name(table.entry(row))
            except DwarfError as error:
                table.unit.info.note_problem(error.problem)
                names = (None, None)
            if names[0] is not None:  # else the entry may be damaged, and others of the same origin are not
                self._names[key] = names
        return names

    def frames_at(self, address: int) -> list[SymbolFrame]:
        """Frames at `address` (an exact file virtual address), innermost first; the last is the real
        function.

        A frame that is not the innermost has the file, line and column of the call that was inlined into it.
        Without DWARF for the address the symbol table names the function; [] when nothing does.
        """
        frames = self._frames.get(address)
        if frames is None:
            frames = self._frames[address] = (
                self._dwarf_frames(address) or self._go_frames(address) or self._symbol_frames(address)
            )
        return frames

    def known_frames(self) -> dict[int, list[SymbolFrame]]:
        """What `frames_at` has found so far, by address."""
        return self._frames

    def function_at(self, address: int) -> tuple[FunctionTable, int] | None:
        """Table and row of the function whose code covers `address`; None where DWARF knows none."""
        if self.debug_info is None:
            return None
        for unit in self.debug_info.units_for_address(address):
            table = self.function_table(unit)
            row = table.function_at(address) if table is not None else None
            if table is not None and row is not None:
                return table, row
        return None

    def in_prologue(self, address: int) -> bool:
        """Whether `address` lies before the end of its function's prologue, as far as the line rows tell."""
        found = self.function_at(address)
        if found is None:
            return False
        table, row = found
        key = (id(table), row)
        if key not in self._prologues:
            from unwind.symbolize.function_entry import after_prologue

            entry = table.entry_address(row)
            lines = table.unit.info.line_table(table.unit)
            end = next((high for low, high in table.ranges(row) if entry is not None and low <= entry < high), None)
            if entry is None or end is None or lines is None:
                self._prologues[key] = (0, 0)
            else:
                self._prologues[key] = (entry, after_prologue(lines, entry, end))
        entry, body = self._prologues[key]
        return entry <= address < body

    def definition(self, name: str) -> Entry | None:
        """The DW_TAG_subprogram that is entered at the symbol `name` (a linkage name, or a name in C).

        None when the symbol table has no such name or several places of it, or DWARF does not know the function.
        """
        addresses = self.symbol_names.addresses_of(name)
        if len(addresses) != 1:
            return None
        (address,) = addresses
        found = self.function_at(address)
        if found is None or found[0].entry_address(found[1]) != address:
            return None
        return self._entry(*found)

    def _dwarf_frames(self, address: int) -> list[SymbolFrame]:
        if self.debug_info is None:
            return []
        line_only: list[SymbolFrame] = []
        for unit in self.debug_info.units_for_address(address):
            table = self.function_table(unit)
            chain = table.chain_at(address) if table is not None else []
            place = self._line_at(unit, address)
            if table is not None and chain:
                return self._chain_frames(table, chain, address, place)
            if place != (None, None, None) and not line_only:
                line_only = self._symbol_frames(address) or [SymbolFrame(None, None, None, *place, False)]
                line_only[0].file, line_only[0].line, line_only[0].column = place
        return line_only

    def _chain_frames(
        self,
        table: FunctionTable,
        chain: list[int],
        address: int,
        place: tuple[str | None, int | None, int | None],
    ) -> list[SymbolFrame]:
        frames = []
        for row in reversed(chain):
            name, linkage = self.name_of(table, row)
            inlined = row != chain[0]
            start = table.entry_address(row)
            offset = None
            if start is not None and not inlined:
                ranges = table.ranges(row)
                together = any(low <= start < high and low <= address < high for low, high in ranges)
                offset = address - start if together and address >= start else None
            frames.append(SymbolFrame(name, linkage, offset, *place, inlined, self._entry(table, row), start))
            place = self._call_site(table, row)
        return frames

    def _entry(self, table: FunctionTable, row: int) -> Entry | None:
        try:
            return table.entry(row)
        except DwarfError as error:
            table.unit.info.note_problem(error.problem)
            return None

    def _call_site(self, table: FunctionTable, row: int) -> tuple[str | None, int | None, int | None]:
        values = table.rows[row].tolist()
        path = table.unit.info.file_path(table.unit, values[F.CALL_FILE])
        return path, values[F.CALL_LINE] or None, values[F.CALL_COLUMN] or None

    def _line_at(self, unit: CompilationUnit, address: int) -> tuple[str | None, int | None, int | None]:
        lines = unit.info.line_table(unit)
        row = lines.row_at(address) if lines is not None else None
        if lines is None or row is None:
            return None, None, None
        return lines.path(row.file), row.line or None, row.column or None

    def _go_frames(self, address: int) -> list[SymbolFrame]:
        return self.go_table.frames_at(address) if self.go_table is not None else []

    def _symbol_frames(self, address: int) -> list[SymbolFrame]:
        symbol = self.symbol_names.at(address)
        if symbol is None:
            return []
        name = symbol.readable
        linkage = symbol.name if name != symbol.name else None
        offset = address - symbol.address
        return [SymbolFrame(name, linkage, offset, None, None, None, False, None, symbol.address)]
