"""Batches of modules whose debugging information is not all in one linked file: they say what single reads say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_symbol_index import columns_of, expected

from cfi_tables.elf_image import ET_REL, SHF_EXECINSTR, ElfImage
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbolizer import FEW, Symbolizer

RequireTool = Callable[[str, str], str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def assert_same_as_single_reads(path: Path, least_depth: int) -> None:
    symbols = ModuleSymbols.open(path)
    sections = [each for each in symbols.image.section_list if each.flags & SHF_EXECINSTR and each.size]
    if symbols.image.file_type == ET_REL:  # where its sections lie is for the reader to say
        names = [place for name in ("main", "c_entry") for place in symbols.symbol_names.addresses_of(name)]
        addresses = [start + byte for start in names for byte in range(0, 40, 3)]
    else:
        addresses = [address for each in sections for address in range(each.address, each.address + each.size, 3)]
    assert len(addresses) > FEW
    symbolizer = Symbolizer.open(path)
    frames = symbolizer.frames(np.array(addresses, dtype=np.uint64))
    assert symbolizer.has_index()
    depth = 0
    for at, address in enumerate(addresses):
        assert columns_of(frames, at) == expected(symbols.frames_at(address)), hex(address)
        depth = max(depth, len(symbols.frames_at(address)))
    assert depth >= least_depth


@pytest.mark.parametrize("options", [("g++", "-gdwarf-4"), ("g++", "-gdwarf-5"), ("clang++", "-gdwarf-5")])
def test_split_files(
    options: tuple[str, ...], tmp_path: Path, symbol_sources: dict[str, str], require_tool: RequireTool
) -> None:
    compiler = require_tool(options[0], options[0].rstrip("+") if "clang" in options[0] else options[0])
    (tmp_path / "inventory.cpp").write_text(symbol_sources["inventory.cpp"])
    command = [compiler, *options[1:], "-O2", "-gsplit-dwarf", "-o", "program", "inventory.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert_same_as_single_reads(tmp_path / "program", 3)


def test_object_file(tmp_path: Path, symbol_sources: dict[str, str], require_tool: RequireTool) -> None:
    (tmp_path / "inventory.cpp").write_text(symbol_sources["inventory.cpp"])
    command = [require_tool("g++", "g++"), "-g", "-O2", "-c", "-o", "inventory.o", "inventory.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert_same_as_single_reads(tmp_path / "inventory.o", 2)


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_entries_shared_by_dwz(
    version: str, tmp_path: Path, symbol_sources: dict[str, str], require_tool: RequireTool
) -> None:
    (tmp_path / "inventory.cpp").write_text(symbol_sources["inventory.cpp"])
    for name, level in (("program", "-O2"), ("other", "-O1")):
        command = [require_tool("g++", "g++"), "-g", version, level, "-Wl,--build-id", "-o", name, "inventory.cpp"]
        subprocess.run(command, cwd=tmp_path, check=True)
    command = [require_tool("dwz", "dwz"), "-m", "common.debug", "program", "other"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert ElfImage.open(tmp_path / "program").has(".gnu_debugaltlink")
    assert_same_as_single_reads(tmp_path / "program", 3)
