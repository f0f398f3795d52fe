"""Rules as text: every line of libc's table, and its expressions against pyelftools' reading of them."""

from __future__ import annotations

import re

import pytest
from elftools.dwarf.callframe import FDE
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.elf.elffile import ELFFile

from cfi_tables.elf_image import ElfImage
from cfi_tables.expression_text import describe_expression
from cfi_tables.show import format_rows
from cfi_tables.table import build_table
from cfi_tables.x86_64 import ARCHITECTURE


@pytest.fixture(scope="module")
def libc(system_file):
    path = system_file("libc.so.6")
    return path, build_table(ElfImage.open(path))


def test_all_rows_and_one_row_agree(libc):
    _, table = libc
    lines = list(format_rows(table))
    assert len(lines) == table.row_count
    end = table.text_range[0]
    for line in lines:  # without holes
        low, high = (int(word, 16) for word in line.split()[0].split("-"))
        assert low == end < high
        end = high
    assert end == table.text_range[1]
    for line in lines[:: len(lines) // 25]:
        low, high = (int(word, 16) for word in line.split()[0].split("-"))
        for address in (low, high - 1):
            (only,) = format_rows(table, address)
            assert only == line or ("no information" in line and "no information" in only)
    (outside,) = format_rows(table, table.text_range[1])
    assert "no information" in outside


def test_expressions_against_pyelftools(libc):
    path, table = libc
    shown = "\n".join(format_rows(table))
    compared = 0
    with open(path, "rb") as file:
        dwarf = ELFFile(file).get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
        parser = DWARFExprParser(dwarf.structs)
        for entry in dwarf.EH_CFI_entries():
            if not isinstance(entry, FDE):
                continue
            for instruction in entry.instructions:
                for argument in instruction.args:
                    if not isinstance(argument, list):
                        continue
                    text = describe_expression(bytes(argument), ARCHITECTURE)
                    operations = parser.parse_expr(argument)
                    words = text.split("; ")
                    assert len(words) == len(operations)
                    for word, operation in zip(words, operations, strict=True):
                        name = operation.op_name.removeprefix("DW_OP_")
                        if breg := re.fullmatch(r"breg(\d+)", name):
                            offset = operation.args[0]
                            assert word.endswith(f"{offset:+d}" if offset else word[-1])
                            assert word.startswith("rsp") == (breg[1] == "7")
                        else:
                            assert word.split()[0] == name
                    if len(operations) > 2 or instruction.opcode != 0x0F:
                        assert f"({text})" in shown
                    compared += 1
    assert compared > 15


def test_damaged_expressions_are_told():
    assert describe_expression(b"\x77", ARCHITECTURE) == "<damaged>"
    assert describe_expression(b"\x30\xff", ARCHITECTURE) == "lit0; <unknown operation 0xff>"
    assert describe_expression(b"\x0e\x01", ARCHITECTURE) == "<damaged>"
    assert describe_expression(b"", ARCHITECTURE) == ""
