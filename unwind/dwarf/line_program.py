"""Line number programs: which source line each instruction is of (DWARF 5 §6.2; versions 2 to 5).

The header is read as objects, the program by a hot loop into columns. Data comes from .debug_line (and the
string sections); the tables go to symbolization and to probe resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cfi_tables.hot_loop import compiled, compiled_pays, hot_loop, plain_view, wrap64
from unwind.dwarf.damage import DwarfReason
from unwind.dwarf.leb128 import fixed_value, leb128_value, skip_leb128
from unwind.dwarf.line_header import LineHeader, read_line_header

if TYPE_CHECKING:
    import numpy as np

    from unwind.dwarf.unit import CompilationUnit

FLAG_IS_STMT = 1
FLAG_PROLOGUE_END = 2
FLAG_END_SEQUENCE = 4

INTERPRETED_RATE = 5 << 20
"""Bytes of DWARF that the interpreter reads in a second, measured."""

_DONE = 0
_TRUNCATED = 1
_BAD = 2

_DW_LNS_copy = 1
_DW_LNS_advance_pc = 2
_DW_LNS_advance_line = 3
_DW_LNS_set_file = 4
_DW_LNS_set_column = 5
_DW_LNS_negate_stmt = 6
_DW_LNS_set_basic_block = 7
_DW_LNS_const_add_pc = 8
_DW_LNS_fixed_advance_pc = 9
_DW_LNS_set_prologue_end = 10
_DW_LNS_set_epilogue_begin = 11
_DW_LNS_set_isa = 12
_DW_LNE_end_sequence = 1
_DW_LNE_set_address = 2


def _prefer_plain(size: int) -> bool:
    """Whether `size` bytes of line number programs are read quicker by the interpreter than by compiled code."""
    return not compiled_pays(run_line_program, size / INTERPRETED_RATE)


@hot_loop
def run_line_program(
    data: Any,
    start: int,
    end: int,
    parameters: Any,
    operand_counts: Any,
    address: Any,
    file: Any,
    line: Any,
    column: Any,
    flags: Any,
) -> tuple[int, int, int]:
    """Run the program in `data[start:end]` and append its matrix to the five columns.

    `parameters`: minimum instruction length, operations an instruction, default is_stmt, line base, line
    range,
    opcode base. `operand_counts[opcode]` is the header's. The columns hold `end - start` rows at least: no
    opcode makes more than one. Returns rows, status, and the position where it ended.
    """
    minimum_length = parameters[0]
    operations = parameters[1]
    default_stmt = parameters[2]
    line_base = parameters[3]
    line_range = parameters[4]
    opcode_base = parameters[5]
    count = 0
    position = start
    r_address = 0
    r_operation = 0
    r_file = 1
    r_line = 1
    r_column = 0
    r_stmt = default_stmt
    r_prologue = 0
    while position < end:
        opcode = 0 + data[position]
        at = position
        position += 1
        advance = 0
        emit = 0
        if opcode >= opcode_base:
            adjusted = opcode - opcode_base
            advance = adjusted // line_range
            r_line = r_line + line_base + adjusted % line_range
            emit = 1
        elif opcode == 0:
            after = skip_leb128(data, position, end)
            if after < 0:
                return count, _TRUNCATED, at
            length = leb128_value(data, position, 0)
            if length < 0 or length > end - after:
                return count, _TRUNCATED, at
            position = after + length
            if length == 0:
                continue
            kind = 0 + data[after]
            if kind == _DW_LNE_end_sequence:
                address[count] = r_address
                file[count] = r_file
                line[count] = r_line
                column[count] = r_column
                flags[count] = FLAG_END_SEQUENCE | r_stmt
                count += 1
                r_address = 0
                r_operation = 0
                r_file = 1
                r_line = 1
                r_column = 0
                r_stmt = default_stmt
                r_prologue = 0
            elif kind == _DW_LNE_set_address:
                if length < 2 or length > 9:
                    return count, _BAD, at
                r_address = fixed_value(data, after + 1, length - 1)
                r_operation = 0
            # set_discriminator (4) and vendors' say nothing of lines. The file of a define_file (3), which no producer
            # writes and DWARF 5 has no more, stays unknown.
        elif opcode == _DW_LNS_copy:
            emit = 1
        elif opcode == _DW_LNS_const_add_pc:
            advance = (255 - opcode_base) // line_range
        elif opcode == _DW_LNS_fixed_advance_pc:
            if end - position < 2:
                return count, _TRUNCATED, at
            r_address = wrap64(r_address + fixed_value(data, position, 2))
            r_operation = 0
            position += 2
        elif opcode == _DW_LNS_negate_stmt:
            r_stmt = 1 - r_stmt
        elif opcode == _DW_LNS_set_prologue_end:
            r_prologue = FLAG_PROLOGUE_END
        elif opcode in (_DW_LNS_set_basic_block, _DW_LNS_set_epilogue_begin):
            pass
        elif opcode in (_DW_LNS_advance_pc, _DW_LNS_advance_line, _DW_LNS_set_file, _DW_LNS_set_column):
            after = skip_leb128(data, position, end)
            if after < 0:
                return count, _TRUNCATED, at
            if opcode == _DW_LNS_advance_pc:
                advance = leb128_value(data, position, 0)
            elif opcode == _DW_LNS_advance_line:
                r_line = wrap64(r_line + leb128_value(data, position, 1))
            elif opcode == _DW_LNS_set_file:
                r_file = leb128_value(data, position, 0)
            else:
                r_column = leb128_value(data, position, 0)
            position = after
        else:  # set_isa and opcodes that this reader does not know: the header tells their operands
            for _ in range(operand_counts[opcode]):
                position = skip_leb128(data, position, end)
                if position < 0:
                    return count, _TRUNCATED, at
        if advance != 0:
            if operations == 1:
                r_address = wrap64(r_address + wrap64(minimum_length * advance))
            else:
                total = wrap64(r_operation + advance)
                r_address = wrap64(r_address + wrap64(minimum_length * (total // operations)))
                r_operation = total % operations
        if emit:
            address[count] = r_address
            file[count] = r_file & 0x7FFFFFFF
            line[count] = r_line & 0x7FFFFFFF
            column[count] = r_column & 0x7FFFFFFF
            flags[count] = r_stmt | r_prologue
            r_prologue = 0
            count += 1
    return count, _DONE, position


@dataclass(frozen=True, slots=True)
class LineRow:
    """The row in force at an address. `file` is an index for `LineTable.path`; 0 is an unknown line or
    column.
    """

    address: int
    file: int
    line: int
    column: int


class LineTable:
    """The matrix of one line number program, as columns in program order.

    `address` uint64, `file`, `line` and `column` int64, `flags` uint8 (FLAG_*).
    """

    def __init__(
        self,
        header: LineHeader,
        address: np.ndarray,
        file: np.ndarray,
        line: np.ndarray,
        column: np.ndarray,
        flags: np.ndarray,
        lowest_address: int = 1,
    ) -> None:
        self.header = header
        self._lowest_address = lowest_address
        self.address = address
        self.file = file
        self.line = line
        self.column = column
        self.flags = flags

    @cached_property
    def sequences(self) -> list[tuple[int, int, int, int]]:
        """(low address, high address, first row, row of its end) of each sequence with code, sorted.

        Sequences that begin at address 0, but in objects, are code that the linker discarded. A sequence whose
        addresses go back, which the standard forbids, is put into order first; rows of one address keep theirs.
        """
        import numpy as np

        found = []
        first = 0
        for end in np.flatnonzero(self.flags & FLAG_END_SEQUENCE).tolist():
            part = self.address[first : end + 1]
            if end > first:
                if np.any(part[1:] < part[:-1]):
                    self._sort_rows(first, end)
                low, high = int(self.address[first]), int(self.address[end])
                if self._lowest_address <= low < high:
                    found.append((low, high, first, end))
            first = end + 1
        found.sort()
        return found

    def _sort_rows(self, first: int, end: int) -> None:
        import numpy as np

        order = np.argsort(self.address[first:end], kind="stable") + first
        for columns in (self.address, self.file, self.line, self.column, self.flags):
            columns[first:end] = columns[order]

    @cached_property
    def _lows(self) -> list[int]:
        return [low for low, _, _, _ in self.sequences]

    def row_index_at(self, pc: int) -> int | None:
        """Index of the last row at or before `pc` in the sequence that covers it, None when none does."""
        from bisect import bisect_right

        import numpy as np

        index = bisect_right(self._lows, pc) - 1
        # Sequences do not overlap in sound files; where they do, the nearest one that covers the address
        # wins.
        for candidate in range(index, max(-1, index - 8), -1):
            _, high, first, end = self.sequences[candidate]
            if pc < high:
                rows = self.address[first:end]
                return first + int(np.searchsorted(rows, np.uint64(pc), side="right")) - 1
        return None

    def row_at(self, pc: int) -> LineRow | None:
        """The row in force at `pc` (a file virtual address), None when no sequence covers it."""
        index = self.row_index_at(pc)
        if index is None:
            return None
        return LineRow(int(self.address[index]), int(self.file[index]), int(self.line[index]), int(self.column[index]))

    def path(self, file: int) -> str | None:
        """Full path of file `file` as rows, DW_AT_decl_file and DW_AT_call_file number it; None if there is
        none.
        """
        return self.header.path(file)


def read_line_table(unit: CompilationUnit, offset: int, plain: bool | None = None) -> LineTable:
    """Read the program at `offset` of .debug_line for `unit`.

    `plain` chooses the form of the hot loop (None: by size). A program that is damaged in its middle gives
    the rows before that place, and a problem in `unit.info`. Raises DwarfError when the header is.
    """
    import numpy as np

    header = read_line_header(unit, offset)
    size = max(0, header.end - header.program)
    data = unit.info.sections.get(".debug_line")
    columns = [np.empty(size, dtype=np.int64) for _ in range(5)]
    parameters = np.array(header.parameters, dtype=np.int64)
    counts = np.array(header.operand_counts, dtype=np.int64)
    if plain is None:
        plain = _prefer_plain(size)
    if plain:
        views = [plain_view(item) for item in (parameters, counts, *columns)]
        count, status, position = run_line_program(data, header.program, header.end, *views)
    else:
        array = np.frombuffer(data, dtype=np.uint8)
        count, status, position = compiled(run_line_program)(
            array, header.program, header.end, parameters, counts, *columns
        )
    if status != _DONE:
        reason = DwarfReason.TRUNCATED if status == _TRUNCATED else DwarfReason.BAD_LINE_PROGRAM
        unit.info.note(reason, ".debug_line", int(position), unit.offset)
    elif header.truncated:
        unit.info.note(DwarfReason.TRUNCATED, ".debug_line", header.end, unit.offset)
    address, file, line, column, flags = (item[:count].copy() for item in columns)
    lowest = unit.info.lowest_address
    return LineTable(header, address.view(np.uint64), file, line, column, flags.astype(np.uint8), lowest)
