"""The C lookup against the Python one, at every row boundary of libc."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from cfi_tables.lookup import find_rule
from cfi_tables.table import build_table

_CORE = Path(__file__).resolve().parents[2] / "runtime_c" / "core"


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_c_lookup_equals_python(compiler, tmp_path, system_file):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed: apt install {compiler}")
    library = tmp_path / "lookup.so"
    subprocess.run(
        [compiler, "-std=c11", "-ffreestanding", "-nostdlib", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion",
         "-shared", "-fPIC", "-o", str(library), str(_CORE / "ptap_lookup.c")], check=True,
    )  # fmt: skip
    find = ctypes.CDLL(str(library)).ptap_find_rule
    find.restype = ctypes.c_int32
    find.argtypes = [ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64]
    table = build_table(ElfImage.open(system_file("libc.so.6")))
    data = table.data.tobytes()
    view = memoryview(data)
    low, high = table.text_range
    for address in [0, low - 1, *[address for address, _ in table.rows()], high]:
        for pc in (address, address + 1):
            assert find(data, len(data), pc) == find_rule(view, 0, pc), hex(pc)
        if address:
            assert find(data, len(data), address - 1) == find_rule(view, 0, address - 1), hex(address)
