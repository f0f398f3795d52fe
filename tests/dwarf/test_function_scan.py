"""The hot-loop scan of a unit: both forms agree, and the rows are those that reading entry by entry gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cfi_tables.elf_image import ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.entry import Entry

Build = Callable[..., Path]

SCOPES = {C.DW_TAG_namespace, C.DW_TAG_class_type, C.DW_TAG_structure_type, C.DW_TAG_union_type}


@pytest.fixture(
    params=[("g++", "-g", "-gdwarf-5", "-O2"), ("g++", "-g", "-gdwarf-2", "-O1"), ("clang++", "-g", "-O2")],
    ids=" ".join,
)
def info(request: pytest.FixtureRequest, build: Build) -> DebugInfo:
    return DebugInfo(ElfImage.open(build(*request.param)))


def kept(entry: Entry, owner: int, rows: list[tuple[int, int, int]]) -> None:
    for child in entry.children():
        inner = owner
        scope = child.tag in SCOPES and child.abbreviation.has_children
        if scope or child.tag in (C.DW_TAG_subprogram, C.DW_TAG_inlined_subroutine):
            inner = len(rows)
            rows.append((child.offset, child.tag, owner))
        kept(child, inner, rows)


def test_plain_and_compiled_give_the_same_rows(info: DebugInfo) -> None:
    for unit in info.units:
        assert np.array_equal(F.scan_unit(unit, True), F.scan_unit(unit, False))


def test_rows_are_the_functions_and_scopes_of_the_tree(info: DebugInfo) -> None:
    total = 0
    for unit in info.units:
        rows: list[tuple[int, int, int]] = []
        kept(unit.root, -1, rows)
        table = F.scan_unit(unit, True)
        assert [tuple(row) for row in table[:, [F.OFFSET, F.TAG, F.PARENT]].tolist()] == rows
        total += len(rows)
        for index, row in enumerate(table.tolist()):
            inside = [other for other in range(len(table)) if index in ancestors(table, other) or other == index]
            assert row[F.END] == max(inside) + 1
    assert total > 10


def ancestors(table: np.ndarray, row: int) -> set[int]:
    found = set()
    row = int(table[row, F.PARENT])
    while row >= 0:
        found.add(row)
        row = int(table[row, F.PARENT])
    return found


def test_columns_hold_what_the_entries_say(info: DebugInfo) -> None:
    compared = 0
    plain_columns = {
        C.DW_AT_decl_line: F.DECL_LINE,
        C.DW_AT_decl_file: F.DECL_FILE,
        C.DW_AT_call_line: F.CALL_LINE,
        C.DW_AT_call_file: F.CALL_FILE,
        C.DW_AT_call_column: F.CALL_COLUMN,
        C.DW_AT_declaration: F.DECLARATION,
    }
    for unit in info.units:
        for row in F.scan_unit(unit, True).tolist():
            entry = unit.entry_at(row[F.OFFSET])
            for attribute, column in plain_columns.items():
                assert row[column] == int(entry.get(attribute) or 0)
            origin = entry.reference(C.DW_AT_abstract_origin) or entry.reference(C.DW_AT_specification)
            assert bool(row[F.ORIGIN_FORM]) == (origin is not None)
            if origin is not None:
                assert row[F.ORIGIN] == origin.offset
                compared += 1
            name = entry.get(C.DW_AT_name)
            assert bool(row[F.NAME_FORM]) == (name is not None)
            if row[F.NAME_FORM] == C.DW_FORM_strp:
                assert info.sections.string(".debug_str", row[F.NAME]) == name
    assert compared > 2
