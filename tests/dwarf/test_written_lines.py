"""Line number programs written by the tests: opcodes and headers that no compiler here emits, versions 2 to 5."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfi_writer.elf_writer import ALLOC, EXECUTE, ElfSection, write_elf
from dwarf_writer.entry_writer import DebugWriter, EntrySpec, UnitSpec
from dwarf_writer.line_writer import LineProgram, Row
from hypothesis import given, settings
from hypothesis import strategies as st

from cfi_tables.elf_image import ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.line_program import FLAG_END_SEQUENCE, FLAG_IS_STMT, read_line_table
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.module_symbols import ModuleSymbols

RequireTool = Callable[[str, str], str]
TEXT = 0x401000
SIZE = 0x4000
X86_64, I386 = 62, 3


def file_with(program: LineProgram, path: Path, unit_version: int | None = None) -> Path:
    """An ELF file with one unit whose line number program it is."""
    writer = DebugWriter(program.offset_size, program.address_size, program.version)
    version = program.version if unit_version is None else unit_version
    offset = (
        C.DW_FORM_sec_offset if version >= 4 else (C.DW_FORM_data4 if program.offset_size == 4 else C.DW_FORM_data8)
    )
    root = EntrySpec(
        C.DW_TAG_compile_unit,
        [
            (C.DW_AT_name, C.DW_FORM_string, "main.c"),
            (C.DW_AT_comp_dir, C.DW_FORM_string, "/src"),
            (C.DW_AT_stmt_list, offset, 0),
            (C.DW_AT_low_pc, C.DW_FORM_addr, TEXT),
            (C.DW_AT_high_pc, C.DW_FORM_addr, TEXT + SIZE),
        ],
    )
    writer.write_units([UnitSpec(root, version, program.offset_size, program.address_size)])
    writer.append(".debug_line", program.finished())
    sections = [ElfSection(".text", b"\x90" * SIZE, TEXT, ALLOC | EXECUTE)]
    sections += [ElfSection(name, data) for name, data in writer.finished().items()]
    is_64bit = program.address_size == 8
    path.write_bytes(write_elf(X86_64 if is_64bit else I386, sections, is_64bit))
    return path


def rows_of(path: Path, plain: bool) -> list[Row]:
    info = DebugInfo(ElfImage.open(path))
    (unit,) = info.units
    table = read_line_table(unit, 0, plain)
    assert info.problems == []
    columns = (table.address, table.file, table.line, table.column, table.flags)
    return [
        Row(address, file, line, column, bool(flags & FLAG_IS_STMT), bool(flags & FLAG_END_SEQUENCE))
        for address, file, line, column, flags in zip(*(each.tolist() for each in columns), strict=True)
    ]


def every_opcode(**shape: object) -> LineProgram:
    """A program of two sequences with each opcode once at least."""
    program = LineProgram(
        directories=("/src", "inner", "/usr/include"),
        files=(("main.c", 0), ("inner.h", 1), ("stdio.h", 2)),
        **shape,  # type: ignore[arg-type]
    )
    program.set_address(TEXT)
    program.set_column(3)
    program.copy()
    program.advance_line(41)
    program.advance_pc(7)
    program.set_file(2)
    program.unknown_extended(0x80, b"vendor")
    program.set_discriminator(12345)
    program.copy()
    program.special(3, 2)
    program.special(5, -3)
    program.flags()
    program.const_add_pc()
    program.negate_statement()
    program.unknown_standard()
    program.copy()
    program.fixed_advance_pc(0x123)
    program.advance_line(-17)
    program.set_file(1)
    program.set_column(200)
    program.special(0, 0)
    program.special(2, 4)
    program.advance_pc(1)
    program.unknown_extended(0xFF, b"")
    program.copy()
    program.advance_pc(300)
    program.end_sequence()
    program.set_address(TEXT + 0x3000)
    program.special(1, 1)
    program.negate_statement()
    program.special(1, 1)
    program.advance_pc(40)
    program.end_sequence()
    return program


SHAPES = {
    "plain": {},
    "64-bit DWARF": {"offset_size": 8},
    "4-byte addresses": {"address_size": 4},
    "min_inst_length 4": {"minimum_length": 4},
    "not statements": {"default_statement": False},
    "other line base": {"line_base": -3, "line_range": 12},
    "more standard opcodes": {"more_operands": (0, 1, 3)},
    "DWARF 2 opcodes only": {"opcode_base": 10},
}
LATER = {
    "VLIW": {"operations": 4, "minimum_length": 8},
    "VLIW, 64-bit DWARF": {"operations": 3, "minimum_length": 16, "offset_size": 8},
}
CASES = [
    *((version, name, shape) for version in (2, 3, 4, 5) for name, shape in SHAPES.items()),
    *((version, name, shape) for version in (4, 5) for name, shape in LATER.items()),
    (5, "MD5 and source", {"with_md5": True}),
    (5, "MD5, 64-bit DWARF", {"with_md5": True, "offset_size": 8}),
]


@pytest.mark.parametrize(("version", "name", "shape"), CASES, ids=[f"{version} {name}" for version, name, _ in CASES])
def test_every_opcode(
    version: int, name: str, shape: dict[str, object], tmp_path: Path, require_tool: RequireTool
) -> None:
    program = every_opcode(version=version, **shape)
    path = file_with(program, tmp_path / "program")
    for plain in (True, False):
        assert rows_of(path, plain) == program.rows
    if "operations" not in shape:  # llvm 14 takes an instruction's operations for one
        assert dumped_rows(require_tool("llvm-dwarfdump-14", "llvm-14"), path) == program.rows
    assert_places(path, program)


def dumped_rows(tool: str, path: Path) -> list[Row]:
    """The matrix as llvm-dwarfdump decodes it."""
    text = subprocess.run([tool, "--debug-line", str(path)], capture_output=True, text=True, check=True).stdout
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 6 and words[0].startswith("0x") and words[1].isdecimal():
            address, number, column, file = (int(word, 0) for word in words[:4])
            found.append(Row(address, file, number, column, "is_stmt" in words, "end_sequence" in words))
    return found


def assert_places(path: Path, program: LineProgram) -> None:
    """Every address is of the last row before it, with the file's path: as single reads and as an index tell it."""
    wanted: dict[int, tuple[str, int, int] | None] = {}
    for row, following in zip(program.rows, program.rows[1:], strict=False):
        number = row.file if program.version >= 5 else row.file - 1
        name, directory = program.files[number]
        folder = program.directories[directory]
        full = f"{folder}/{name}" if folder.startswith("/") else f"/src/{folder}/{name}"
        for address in range(row.address, following.address):
            wanted[address] = None if row.end else (full, row.line, row.column)
    symbols = ModuleSymbols.open(path)
    addresses = sorted(wanted)[::7]
    frames = IndexLookup(build_index(symbols, plain=True)).frames(np.array(addresses, dtype=np.uint64))
    for at, address in enumerate(addresses):
        found = symbols.frames_at(address)
        place = wanted[address]
        assert [(each.file, each.line, each.column) for each in found] == ([] if place is None else [
            (place[0], place[1] or None, place[2] or None)]), hex(address)  # fmt: skip
        low, high = frames.offsets[at], frames.offsets[at + 1]
        assert high - low == len(found)
        if found:
            told = frames.file_table[frames.files[low]], frames.lines[low], frames.columns[low]
            assert told == place
    assert symbols.problems == []


def test_a_program_of_version_4_in_a_unit_of_version_5(tmp_path: Path) -> None:
    program = every_opcode(version=4)
    assert rows_of(file_with(program, tmp_path / "program", unit_version=5), True) == program.rows


def test_a_file_that_is_defined_in_the_program(tmp_path: Path) -> None:
    """DW_LNE_define_file, of DWARF 2 to 4, is stepped over: its file is unknown, the lines are not."""
    program = LineProgram(version=4)
    program.set_address(TEXT)
    program.define_file("later.c", 0)
    program.set_file(2)
    program.advance_line(9)
    program.copy()
    program.advance_pc(16)
    program.end_sequence()
    path = file_with(program, tmp_path / "program")
    assert rows_of(path, True) == program.rows
    symbols = ModuleSymbols.open(path)
    assert [(each.file, each.line) for each in symbols.frames_at(TEXT)] == [(None, 10)]
    index = IndexLookup(build_index(symbols, plain=True)).frames(np.array([TEXT], dtype=np.uint64))
    assert (index.file_table[index.files[0]], index.lines[0]) == ("", 10)


OPCODES = st.lists(
    st.one_of(
        st.tuples(st.just("advance_pc"), st.integers(0, 500)),
        st.tuples(st.just("advance_line"), st.integers(0, 300)),
        st.tuples(st.just("set_file"), st.integers(0, 1)),
        st.tuples(st.just("set_column"), st.integers(0, 70000)),
        st.tuples(st.just("fixed_advance_pc"), st.integers(0, 0xFFFF)),
        st.tuples(st.just("set_discriminator"), st.integers(0, 1 << 40)),
        st.tuples(st.sampled_from(["copy", "const_add_pc", "negate_statement", "flags", "unknown_standard"])),
        st.tuples(st.just("special"), st.integers(0, 15), st.integers(-5, 8)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    version=st.integers(2, 5), minimum=st.sampled_from([1, 2, 4, 16]), operations=st.integers(1, 5),
    offset_size=st.sampled_from([4, 8]), more=st.lists(st.integers(0, 4), max_size=4), opcodes=OPCODES,
)  # fmt: skip
def test_any_program(
    version: int, minimum: int, operations: int, offset_size: int, more: list[int], opcodes: list[tuple[Any, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    program = LineProgram(
        version=version, minimum_length=minimum, operations=operations if version >= 4 else 1,
        offset_size=offset_size, more_operands=tuple(more), line_range=12,
    )  # fmt: skip
    program.set_address(TEXT)
    for name, *operands in opcodes:
        if name == "special" and program.line + operands[1] < 0:
            continue
        with suppress(ValueError):  # no special opcode does that
            getattr(program, name)(*operands)
    program.end_sequence()
    path = file_with(program, tmp_path_factory.mktemp("any") / "program")
    assert rows_of(path, True) == program.rows == rows_of(path, False)
