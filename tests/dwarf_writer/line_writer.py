"""Line number programs (DWARF 5 §6.2; versions 2 to 5): headers, opcodes, and the matrix that they mean.

`LineProgram` writes opcodes and keeps the state machine of the standard beside, by the book, as the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cfi_writer.leb128 import sleb, uleb
from dwarf_writer.entry_writer import initial_length

from unwind.dwarf import constants as C

_OPERANDS = (0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1)


@dataclass(frozen=True)
class Row:
    """A row of the matrix."""

    address: int
    file: int
    line: int
    column: int
    is_statement: bool
    end: bool


@dataclass
class LineProgram:
    """A program under construction."""

    version: int = 5
    offset_size: int = 4
    address_size: int = 8
    minimum_length: int = 1
    operations: int = 1
    default_statement: bool = True
    line_base: int = -5
    line_range: int = 14
    more_operands: tuple[int, ...] = ()
    """Operand counts of standard opcodes behind those of the standard, which a reader skips."""
    opcode_base: int = 13
    directories: tuple[str, ...] = ("/src",)
    files: tuple[tuple[str, int], ...] = (("main.c", 0),)
    """(name, directory); directory 0 is `directories[0]`."""
    with_md5: bool = False
    """Version 5: write an MD5 and a source text for each file, too."""
    rows: list[Row] = field(default_factory=list)
    code: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.opcode_base += len(self.more_operands)
        self._reset()

    def _reset(self) -> None:
        self.address = self.operation = self.column = 0
        self.file = self.line = 1
        self.statement = self.default_statement

    def _emit(self, end: bool = False) -> None:
        self.rows.append(Row(self.address, self.file, self.line, self.column, self.statement, end))

    def _advance(self, operations: int) -> None:
        total = self.operation + operations
        self.address += self.minimum_length * (total // self.operations)
        self.operation = total % self.operations

    # --- standard opcodes

    def copy(self) -> None:
        self.code.append(1)
        self._emit()

    def advance_pc(self, operations: int) -> None:
        self.code += b"\2" + uleb(operations)
        self._advance(operations)

    def advance_line(self, lines: int) -> None:
        self.code += b"\3" + sleb(lines)
        self.line += lines

    def set_file(self, file: int) -> None:
        self.code += b"\4" + uleb(file)
        self.file = file

    def set_column(self, column: int) -> None:
        self.code += b"\5" + uleb(column)
        self.column = column

    def negate_statement(self) -> None:
        self.code.append(6)
        self.statement = not self.statement

    def flags(self) -> None:
        """set_basic_block, and where the version has them set_prologue_end, set_epilogue_begin and set_isa."""
        self.code.append(7)
        if self.opcode_base > 12:
            self.code += b"\x0a\x0b\x0c" + uleb(300)

    def const_add_pc(self) -> None:
        self.code.append(8)
        self._advance((255 - self.opcode_base) // self.line_range)

    def fixed_advance_pc(self, size: int) -> None:
        self.code += b"\x09" + size.to_bytes(2, "little")
        self.address += size
        self.operation = 0

    def unknown_standard(self) -> None:
        """Every opcode behind the standard's, with operands."""
        for index, count in enumerate(self.more_operands):
            self.code += bytes([13 + index]) + uleb(1000) * count

    # --- extended opcodes

    def _extended(self, body: bytes) -> None:
        self.code += b"\0" + uleb(len(body)) + body

    def set_address(self, address: int) -> None:
        self._extended(b"\2" + address.to_bytes(self.address_size, "little"))
        self.address, self.operation = address, 0

    def define_file(self, name: str, directory: int) -> None:
        self._extended(b"\3" + name.encode() + b"\0" + uleb(directory) + uleb(0) + uleb(0))

    def set_discriminator(self, value: int) -> None:
        self._extended(b"\4" + uleb(value))

    def unknown_extended(self, kind: int, operands: bytes) -> None:
        self._extended(bytes([kind]) + operands)

    def end_sequence(self) -> None:
        self._extended(b"\1")
        self._emit(end=True)
        self._reset()

    # --- special opcodes

    def special(self, operations: int, lines: int) -> None:
        """Advance by both and append a row. Raises ValueError where no opcode does that."""
        opcode = lines - self.line_base + self.line_range * operations + self.opcode_base
        if not (0 <= lines - self.line_base < self.line_range and opcode <= 255):
            raise ValueError((operations, lines))
        self.code.append(opcode)
        self._advance(operations)
        self.line += lines
        self._emit()

    def finished(self) -> bytes:
        """The contents of .debug_line."""
        known = (_OPERANDS[: min(self.opcode_base, 13) - 1]) + self.more_operands
        base = bytes([self.minimum_length])
        if self.version >= 4:
            base += bytes([self.operations])
        base += bytes([int(self.default_statement), self.line_base & 255, self.line_range, self.opcode_base])
        base += bytes(known)
        base += self._tables_5() if self.version >= 5 else self._tables()
        size = self.offset_size
        head = self.version.to_bytes(2, "little")
        if self.version >= 5:
            head += bytes([self.address_size, 0])
        return initial_length(head + len(base).to_bytes(size, "little") + base + self.code, size)

    def _tables(self) -> bytes:
        out = b"".join(name.encode() + b"\0" for name in self.directories[1:]) + b"\0"
        for name, directory in self.files:
            out += name.encode() + b"\0" + uleb(directory) + uleb(7) + uleb(1234567)
        return out + b"\0"

    def _tables_5(self) -> bytes:
        string = C.DW_FORM_string
        out = bytes([1, 1, string]) + uleb(len(self.directories))
        out += b"".join(name.encode() + b"\0" for name in self.directories)
        formats = [(1, string), (2, C.DW_FORM_udata)]
        if self.with_md5:
            # The order is free: MD5 first, the source text and a vendor's content last.
            formats = [(5, C.DW_FORM_data16), *formats, (4, C.DW_FORM_block), (3, C.DW_FORM_data4)]
            formats += [(0x2001, string), (0x2002, C.DW_FORM_data2)]
        out += bytes([len(formats)]) + b"".join(uleb(content) + uleb(form) for content, form in formats)
        out += uleb(len(self.files))
        for number, (name, directory) in enumerate(self.files):
            item = name.encode() + b"\0" + uleb(directory)
            if self.with_md5:
                item = bytes([number] * 16) + item + uleb(3) + b"abc" + bytes(4) + b"int main;\0" + b"\1\2"
            out += item
        return out
