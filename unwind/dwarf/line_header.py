"""Headers of line number programs: parameters, directories and files (DWARF 5 §6.2.4; versions 2 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unwind.dwarf.constants import DW_FORM_implicit_const, DW_FORM_indirect
from unwind.dwarf.damage import DwarfError, DwarfReason
from unwind.dwarf.form import FormClass, read_form
from unwind.dwarf.integer import SectionData, read_string, read_uleb128, read_unsigned

if TYPE_CHECKING:
    from unwind.dwarf.unit import CompilationUnit

_SECTION = ".debug_line"
_DW_LNCT_path = 1
_DW_LNCT_directory_index = 2
_MAXIMUM_FORMATS = 64


@dataclass(slots=True)
class LineHeader:
    """One header. Directories and files are numbered as the version does: from 1 before DWARF 5, from 0 in
    it.
    """

    version: int
    program: int
    """Offset in .debug_line of the first opcode."""
    end: int
    """Offset after the last one."""
    truncated: bool
    """The section ends before the program does."""
    parameters: tuple[int, int, int, int, int, int]
    """Minimum instruction length, operations an instruction, default is_stmt, line base, line range, opcode
    base.
    """
    operand_counts: list[int]
    """By standard opcode; index 0 is unused."""
    directories: list[str]
    """Index 0 is the compilation directory."""
    files: list[tuple[str, int]]
    """(name, index of its directory)."""

    def path(self, file: int) -> str | None:
        """Path of a file by its number: directory and compilation directory joined in front of a relative
        name.
        """
        index = file if self.version >= 5 else file - 1
        if not 0 <= index < len(self.files):
            return None
        name, directory = self.files[index]
        base = self.directories[0] if self.directories else ""
        folder = self.directories[directory] if 0 <= directory < len(self.directories) else ""
        return source_path(base, folder, directory == 0, name)


def source_path(base: str, folder: str, is_base: bool, name: str) -> str:
    """Path of a source file in `folder`, which counts from the directory `base` unless it `is_base`.

    In DWARF 5 a directory is relative to directory 0, before it to the compilation directory: both are `base` here.
    """
    if name.startswith("/"):
        return name
    path = _join(folder, name)
    return path if path.startswith("/") or is_base else _join(base, path)


def base_directory(first: str | None, compilation_directory: str) -> str:
    """Directory 0 of a header whose first directory is `first` (None: it has none, as before DWARF 5)."""
    if first is None or first == compilation_directory:
        return compilation_directory
    # gcc writes directory 0 as given (`./csu` after -ffile-prefix-map): the same as the compilation directory.
    return first if first.startswith("/") or not first else _join(compilation_directory, first)


def _join(folder: str, name: str) -> str:
    if name.startswith("/") or not folder:
        return name
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def read_line_header(unit: CompilationUnit, offset: int) -> LineHeader:
    """The header at `offset` of .debug_line, as `unit` refers to it. Raises DwarfError."""
    data = unit.info.sections.get(_SECTION)
    try:
        return _read(unit, data, offset)
    except IndexError:
        raise DwarfError(DwarfReason.TRUNCATED, _SECTION, offset, unit.offset) from None


def _read(unit: CompilationUnit, data: SectionData, offset: int) -> LineHeader:
    def bad(reason: DwarfReason = DwarfReason.BAD_LINE_PROGRAM) -> DwarfError:
        return DwarfError(reason, _SECTION, offset, unit.offset)

    length = read_unsigned(data, offset, 4)
    position = offset + 4
    offset_size = 4
    if length == 0xFFFFFFFF:
        length = read_unsigned(data, position, 8)
        position += 8
        offset_size = 8
    end = position + length
    version = read_unsigned(data, position, 2)
    position += 2
    if not 2 <= version <= 5:
        raise bad(DwarfReason.BAD_VERSION)
    if version >= 5:
        position += 2  # address size and segment selector size: the program's set_address tells its own
    header_length = read_unsigned(data, position, offset_size)
    position += offset_size
    program = position + header_length
    minimum_length = data[position]
    position += 1
    operations = 1
    if version >= 4:
        operations = max(1, data[position])
        position += 1
    if position + 4 > len(data):
        raise bad(DwarfReason.TRUNCATED)
    default_stmt, line_base, line_range, opcode_base = data[position : position + 4]
    if line_base >= 128:
        line_base -= 256
    position += 4
    if line_range == 0 or opcode_base == 0 or program > len(data):
        raise bad()
    counts = [0, *data[position : position + opcode_base - 1]]
    if len(counts) != opcode_base:
        raise bad(DwarfReason.TRUNCATED)
    position += opcode_base - 1
    if version >= 5:
        directories, files = _read_tables_5(unit, data, position, offset_size, min(program, len(data)))
    else:
        directories, files = _read_tables_4(unit, data, position)
    return LineHeader(
        version,
        program,
        min(end, len(data)),
        end > len(data),
        (minimum_length, operations, int(default_stmt != 0), line_base, line_range, opcode_base),
        counts,
        directories,
        files,
    )


def _read_tables_4(unit: CompilationUnit, data: SectionData, position: int) -> tuple[list[str], list[tuple[str, int]]]:
    directories = [unit.compilation_directory or ""]
    while data[position]:
        name, position = read_string(data, position)
        directories.append(name)
    position += 1
    files = []
    while data[position]:
        name, position = read_string(data, position)
        directory, position = read_uleb128(data, position)
        _, position = read_uleb128(data, position)  # time of modification
        _, position = read_uleb128(data, position)  # length in bytes
        files.append((name, directory))
    return directories, files


class _LineFormUnit:
    """The context in which forms of a line header are read: its DWARF format may differ from the unit's."""

    def __init__(self, unit: CompilationUnit, offset_size: int) -> None:
        self.offset_size = offset_size
        self.address_size = unit.address_size
        self.version = 5
        self.offset = unit.offset
        self.section = _SECTION


def _read_tables_5(
    unit: CompilationUnit, data: SectionData, position: int, offset_size: int, end: int
) -> tuple[list[str], list[tuple[str, int]]]:
    tables: list[list[tuple[str, int]]] = []
    context: CompilationUnit = _LineFormUnit(unit, offset_size)  # type: ignore[assignment]
    for _ in range(2):
        formats: list[tuple[int, int]] = []
        count = data[position]
        position += 1
        if count > _MAXIMUM_FORMATS:
            raise DwarfError(DwarfReason.BAD_LINE_PROGRAM, _SECTION, position, unit.offset)
        for _ in range(count):
            content, position = read_uleb128(data, position)
            form, position = read_uleb128(data, position)
            if form in (DW_FORM_implicit_const, DW_FORM_indirect):
                raise DwarfError(DwarfReason.BAD_FORM, _SECTION, position, unit.offset)
            formats.append((content, form))
        entries, position = read_uleb128(data, position)
        table: list[tuple[str, int]] = []
        if entries > max(0, end - position) * 2:  # each takes a byte at least, in any sane format
            raise DwarfError(DwarfReason.TRUNCATED, _SECTION, position, unit.offset)
        for _ in range(entries):
            name, directory = "", 0
            for content, form in formats:
                kind, value, position = read_form(context, data, form, 0, position)
                if content == _DW_LNCT_path and not isinstance(value, bytes):
                    name = _path_string(unit, data, kind, value)
                elif content == _DW_LNCT_directory_index and isinstance(value, int):
                    directory = value
            table.append((name, directory))
        tables.append(table)
    directories = [name for name, _ in tables[0]]
    first = directories[0] if directories else None
    directories[:1] = [base_directory(first, unit.compilation_directory or "")]
    return directories, tables[1]


def _path_string(unit: CompilationUnit, data: SectionData, kind: FormClass, value: int) -> str:
    sections = unit.info.sections
    if kind == FormClass.STRING:
        return read_string(data, value)[0]
    if kind == FormClass.LINE_STRP:
        return sections.string(".debug_line_str", value)
    if kind == FormClass.STRP:
        return sections.string(".debug_str", value)
    if kind == FormClass.STRING_INDEX:
        return sections.string(".debug_str", unit.strx(value))
    return ""
