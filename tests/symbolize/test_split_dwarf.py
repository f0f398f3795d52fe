"""Split DWARF: frames equal llvm-symbolizer's and places those of the same program unsplit, from .dwo files and
packages; and what is said, and still known, where a file is missing, damaged or of another build.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from split_program import BUILDS, PACKAGES, SplitProgram
from test_frames_against_llvm import differences

from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]
Oracle = Callable[[Path, list[int]], list[list[dict[str, Any]]]]
Addresses = Callable[[Path, int], list[int]]
RequireTool = Callable[[str, str], str]


def places(path: Path) -> list[Any]:
    search = FunctionSearch(ModuleSymbols.open(path))
    assert search.nearest_names("secon")
    return [search.functions("*"), search.functions("weigh"), search.functions("post"), search.statements("*", "*", 10)]


@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_frames_are_llvm_symbolizers(
    options: tuple[str, ...], split: Callable[..., SplitProgram], llvm_frames: Oracle, text_addresses: Addresses
) -> None:
    program = split(*options)
    addresses = text_addresses(program.path, 3)
    assert differences(program.path, addresses, llvm_frames) == []
    symbols = ModuleSymbols.open(program.path)
    wanted = 3 if options[0].endswith("++") else 2
    assert max(len(symbols.frames_at(address)) for address in addresses) >= wanted
    assert places(program.path) == places(program.unsplit())


@pytest.mark.parametrize(
    ("tool", "package", "options"), PACKAGES, ids=[f"{tool} {' '.join(options)}" for tool, _, options in PACKAGES]
)
def test_package_gives_the_same_frames(
    tool: str,
    package: str,
    options: tuple[str, ...],
    split: Callable[..., SplitProgram],
    text_addresses: Addresses,
    require_tool: RequireTool,
) -> None:
    program = split(*options)
    addresses = text_addresses(program.path, 5)
    before = ModuleSymbols.open(program.path)
    wanted = [before.frames_at(address) for address in addresses]
    found = places(program.path)
    program.package(require_tool(tool, package))
    after = ModuleSymbols.open(program.path)
    assert [after.frames_at(address) for address in addresses] == wanted
    assert places(program.path) == found
    assert after.problems == []


def test_entries_may_stay_in_the_object_files(
    tmp_path: Path, symbol_sources: dict[str, str], llvm_frames: Oracle, text_addresses: Addresses
) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not installed")
    (tmp_path / "inventory.cpp").write_text(symbol_sources["inventory.cpp"])
    options = ["clang++", "-g", "-O2", "-gsplit-dwarf=single"]
    subprocess.run([*options, "-c", "inventory.cpp"], cwd=tmp_path, check=True)
    subprocess.run([*options, "-o", "program", "inventory.o"], cwd=tmp_path, check=True)
    assert list(tmp_path.glob("*.dwo")) == []
    path = tmp_path / "program"
    assert differences(path, text_addresses(path, 3), llvm_frames) == []


def test_files_beside_a_program_that_was_moved(
    split: Callable[..., SplitProgram], text_addresses: Addresses, tmp_path: Path
) -> None:
    program = split("g++", "-gdwarf-5", "-O2")
    addresses = text_addresses(program.path, 7)
    before = ModuleSymbols.open(program.path)
    wanted = [before.frames_at(address) for address in addresses]
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in (program.path, *program.files):
        each.rename(moved / each.name)
    after = ModuleSymbols.open(moved / "program")
    assert [after.frames_at(address) for address in addresses] == wanted
    assert after.problems == []


def test_separate_debug_file_of_a_split_program(
    split: Callable[..., SplitProgram], text_addresses: Addresses, tmp_path: Path, require_tool: RequireTool
) -> None:
    """The package lies beside the program, the skeleton units are in the debug file."""
    program = split("clang", "-gdwarf-5", "-O2")
    addresses = text_addresses(program.path, 7)
    before = ModuleSymbols.open(program.path)
    wanted = [before.frames_at(address) for address in addresses]
    program.package(require_tool("llvm-dwp-14", "llvm-14"))
    folder = tmp_path / "bin" / ".debug"
    folder.mkdir(parents=True)
    for file in ("program", "program.dwp"):
        (tmp_path / file).rename(tmp_path / "bin" / file)
    for command in (
        ["objcopy", "--only-keep-debug", "program", ".debug/program.debug"],
        ["strip", "program"],
        ["objcopy", "--add-gnu-debuglink=.debug/program.debug", "program"],
    ):
        subprocess.run(command, cwd=tmp_path / "bin", check=True)
    after = ModuleSymbols.open(tmp_path / "bin" / "program", ())
    assert [after.frames_at(address) for address in addresses] == wanted
    assert after.problems == []


# --- files that cannot be used


def told_of(path: Path, addresses: list[int]) -> list[str]:
    """The problems after every address was asked for; functions stay named by the symbol table."""
    symbols = ModuleSymbols.open(path)
    named = [symbols.frames_at(address) for address in addresses]
    start = next(each.address for each in symbols.symbol_names.all() if each.name == "main")
    frame = symbols.frames_at(start)[-1]
    assert frame.function == "main" and frame.line and frame.file
    assert any(named)
    assert {place.name for place in FunctionSearch(symbols).functions("main")} == {"main"}
    return symbols.problems


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_missing_files_are_told_with_the_unit_and_the_place(
    version: str, split: Callable[..., SplitProgram], text_addresses: Addresses
) -> None:
    program = split("gcc", version, "-O2")
    for each in program.files:
        each.unlink()
    told = told_of(program.path, text_addresses(program.path, 5))
    assert len(told) == 2
    for file, problem in zip(program.files, told, strict=True):
        assert str(file) in problem and re.search(r"unit at 0x[0-9a-f]+", problem)


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_file_of_another_build_is_refused(
    version: str, split: Callable[..., SplitProgram], text_addresses: Addresses
) -> None:
    program = split("gcc", version, "-O2")
    first, second = program.files
    shutil.copy(second, first)
    addresses = text_addresses(program.path, 5)
    (problem,) = told_of(program.path, addresses)
    found = re.search(r"dwo_id is ([0-9a-f]{16}), not ([0-9a-f]{16})", problem)
    assert str(first) in problem and found is not None and found[1] != found[2]
    dumped = subprocess.run(
        ["readelf", "--debug-dump=info", str(program.path)], capture_output=True, text=True, check=True
    ).stdout
    for identifier in found.groups():
        assert f"0x{int(identifier, 16):x}" in dumped


@pytest.mark.parametrize("content", [b"", b"no ELF file", None], ids=["empty", "text", "executable"])
def test_file_that_is_no_split_file(
    content: bytes | None, split: Callable[..., SplitProgram], text_addresses: Addresses
) -> None:
    program = split("gcc", "-gdwarf-5", "-O2")
    program.files[0].write_bytes(program.path.read_bytes() if content is None else content)
    (problem,) = told_of(program.path, text_addresses(program.path, 5))
    assert str(program.files[0]) in problem


@pytest.mark.parametrize("packaged", [False, True], ids=["dwo", "dwp"])
@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_damage_costs_answers_but_nothing_more(
    packaged: bool,
    version: str,
    split: Callable[..., SplitProgram],
    text_addresses: Addresses,
    require_tool: RequireTool,
) -> None:
    program = split("g++", version, "-O2", "-fdebug-types-section")
    target = program.files[0]
    if packaged:
        program.package(require_tool("llvm-dwp-14", "llvm-14"))
        target = program.folder / "program.dwp"
    whole = target.read_bytes()
    source = random.Random(7)
    addresses = text_addresses(program.path, 61)
    told = 0
    for number in range(60):
        changed = bytearray(whole)
        if number % 3 == 0:
            del changed[source.randrange(len(changed)) :]
        for _ in range(source.randrange(1, 40) if number % 3 else 0):
            changed[source.randrange(64, len(changed))] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        target.write_bytes(changed)
        symbols = ModuleSymbols.open(program.path)
        for address in addresses:
            for frame in symbols.frames_at(address):
                assert frame.line is None or frame.line >= 0
        FunctionSearch(symbols).functions("*a*")
        told += any(str(target) in problem for problem in symbols.problems)
    assert told >= 20
