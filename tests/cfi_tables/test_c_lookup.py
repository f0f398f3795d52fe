"""The C lookup against the Python one, by both compilers and on damage; larger files are in test_every_row.py."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cfi_tables import layout, table_encoding
from cfi_tables.elf_image import ElfImage
from cfi_tables.lookup import find_rule
from cfi_tables.table import build_table

_CORE = Path(__file__).resolve().parents[2] / "runtime_c" / "core"


def _c_lookup(compiler, tmp_path):
    find = _library(compiler, tmp_path).ptap_find_rule
    find.restype = ctypes.c_int32
    find.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]
    return find


def _library(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: apt install {compiler}")
    library = tmp_path / "lookup.so"
    subprocess.run(
        [compiler, "-std=c11", "-ffreestanding", "-nostdlib", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion",
         "-shared", "-fPIC", "-o", str(library), str(_CORE / "ptap_lookup.c")], check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_lookup_equals_python(compiler, tmp_path, system_file):
    find = _c_lookup(compiler, tmp_path)
    table = build_table(ElfImage.open(system_file("libc.so.6")))
    data = table.data.tobytes()
    view = memoryview(data)
    low, high = table.text_range
    for address in [0, low - 1, *[address for address, _ in table.rows()], high]:
        for pc in (address, address + 1):
            assert find(data, len(data), pc) == find_rule(view, 0, pc), hex(pc)
        if address:
            assert find(data, len(data), address - 1) == find_rule(view, 0, address - 1), hex(address)


def _pages(library, data):
    pages = (ctypes.c_uint32 * library.ptap_page_count(data))()
    library.ptap_list_pages(data, pages)
    return pages


@pytest.mark.parametrize("rows", [1, 20])
def test_c_lookup_by_pages_is_the_same(tmp_path, system_file, monkeypatch, rows):
    """Around every row and every page's start, with the smallest blocks and the usual ones."""
    monkeypatch.setattr(table_encoding, "_BLOCK_ROWS", rows)
    library = _library("gcc", tmp_path)
    table = build_table(ElfImage.open(system_file("libc.so.6")))
    data = table.data.tobytes()
    pages = _pages(library, data)
    low, high = table.text_range
    first = low - low % layout.DELTA_ALIGNMENT
    starts = [first + (number << 12) for number in range(len(pages))]
    find, by_page = library.ptap_find_rule, library.ptap_find_rule_by_page
    find.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64]
    by_page.argtypes = [*find.argtypes, ctypes.c_void_p]
    found = set()
    for address in [low, high, *starts, *[address for address, _ in table.rows()]]:
        for pc in (address - 1, address, address + 1):
            rule = by_page(data, len(data), pc, pages)
            assert rule == find(data, len(data), pc), hex(pc)
            found.add(rule)
    assert len(found) > 20 and -1 in found
    block_bytes = int(table.data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)[0]["block_bytes"])
    assert (block_bytes == layout.MINIMUM_BLOCK_BYTES) is (rows == 1)


def test_c_lookup_of_damaged_blocks(tmp_path, system_file):
    """Whatever bits the blocks hold, C gives what Python gives: a rule of the table, or none."""
    find = _c_lookup("gcc", tmp_path)
    table = build_table(ElfImage.open(system_file("ls")))
    header = table.data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)[0]
    begin = int(header["blocks_offset"])
    size = int(header["block_bytes"]) * int(header["block_count"]) + layout.BLOCK_SPARE_BYTES
    rules = {record for _, record in table.rows()} | {-1}
    source = np.random.default_rng(7)
    low, high = table.text_range
    for fill in (*([source.integers(0, 256, size)] for _ in range(20)), [0], [0xFF]):
        data = table.data.copy()
        data[begin : begin + size] = fill[0]
        view = memoryview(data.tobytes())
        for pc in source.integers(low, high, 300).tolist():
            found = find(data.ctypes.data, len(data), pc)
            assert found in rules
            assert found == find_rule(view, 0, pc), hex(pc)
