"""Objects that are not linked: at every byte of their functions the frames that llvm-symbolizer gives after linking."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_frames_against_llvm import explained, with_alias

from cfi_tables.elf_image import ElfImage
from cfi_tables.symbol_table import STT_FUNC, symbols
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Oracle = Callable[[Path, list[int]], list[list[dict[str, Any]]]]
RequireTool = Callable[[str, str], str]


def functions(path: Path) -> dict[str, tuple[int, int]]:
    """(address, size) of each function by name, in the linked file."""
    table = symbols(ElfImage.open(path))
    assert table is not None
    rows = [row for row in range(len(table)) if table.type[row] == STT_FUNC and table.size[row]]
    return {table.name(row): (int(table.value[row]), int(table.size[row])) for row in rows}


@pytest.mark.parametrize(
    "options",
    [
        ("gcc", "-O2", "-gdwarf-4"),
        ("gcc", "-O2", "-gdwarf-5", "-ffunction-sections", "-gz"),
        ("g++", "-O2", "-gdwarf-5"),
        ("g++", "-O0", "-gdwarf-4", "-ffunction-sections", "-fdebug-types-section"),
        ("clang", "-O2", "-gdwarf-5"),
        ("clang++", "-O2", "-gdwarf-4", "-ffunction-sections"),
        ("clang++", "-O2", "-gdwarf-5", "-gsplit-dwarf"),
    ],
    ids=" ".join,
)
def test_frames_are_those_after_linking(
    options: tuple[str, ...],
    symbol_sources: dict[str, str],
    tmp_path: Path,
    llvm_frames: Oracle,
    require_tool: RequireTool,
) -> None:
    compiler = require_tool(options[0], "clang" if "clang" in options[0] else options[0])
    source = "inventory.cpp" if compiler.endswith("++") else "ledger.c"
    (tmp_path / source).write_text(symbol_sources[source])
    commands = [[*options, "-fPIC", "-c", "-o", "object.o", source], ["gcc", "-shared", "-nostdlib", "-o", "linked.so"]]
    commands[1] += ["-Wl,--unresolved-symbols=ignore-all", "object.o"]
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    linked = tmp_path / "linked.so"
    ours = ModuleSymbols.open(tmp_path / "object.o")
    compared = inlined = 0
    for name, (place, size) in functions(linked).items():
        (start,) = ours.symbol_names.addresses_of(name)
        addresses = list(range(place, place + size, 3))
        for address, theirs in zip(addresses, llvm_frames(linked, addresses), strict=True):
            frames = ours.frames_at(address - place + start)
            assert explained(frames, with_alias(ours, frames, theirs)) is None, (name, address - place)
            compared += 1
            inlined += len(frames) > 1
    assert compared > 50
    assert inlined or "-O0" in options
    assert ours.problems == []
    (found,) = (place for place in FunctionSearch(ours).functions("main") if not place.inlined)
    assert {found.address} == ours.symbol_names.addresses_of("main")
