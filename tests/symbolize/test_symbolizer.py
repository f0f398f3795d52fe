"""Batches of modules whose debugging information is not all in one linked file: they say what single reads say."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from split_program import BUILDS, PACKAGES, SplitProgram
from test_damaged_index_source import mutated
from test_symbol_index import columns_of, expected

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from cfi_tables.relocation import section_addresses
from unwind.symbolize import entry_names
from unwind.symbolize.index_build import build_index, build_lookup
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbolizer import FEW, Symbolizer

RequireTool = Callable[[str, str], str]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def code_of(path: Path, step: int = 3) -> list[int]:
    """Every `step` bytes of the code of a module, as the reader says where it lies."""
    image = ElfImage.open(path)
    starts = section_addresses(image)
    sections = [each for each in image.section_list if each.flags & SHF_EXECINSTR and each.size]
    return [starts[each.index] + byte for each in sections for byte in range(0, each.size, step)]


def assert_same_as_single_reads(path: Path, least_depth: int) -> list[int]:
    """The index of both forms of the hot loops says what single reads say of all code; gives the depths."""
    symbols = ModuleSymbols.open(path)
    addresses = code_of(path)
    assert len(addresses) > FEW
    wanted = np.array(addresses, dtype=np.uint64)
    symbolizer = Symbolizer.open(path)
    frames = symbolizer.frames(wanted)
    assert symbolizer.has_index()
    offsets = symbolizer.function_offsets(wanted)
    kept = Symbolizer.open(path).frames(wanted)  # by what the cache has, which is unpacked
    for column in ("offsets", "reasons", "functions", "names", "files", "lines", "columns", "inlined"):
        assert np.array_equal(getattr(kept, column), getattr(frames, column)), column
    depths = []
    for at, address in enumerate(addresses):
        reference = symbols.frames_at(address)
        assert columns_of(frames, at) == expected(reference), hex(address)
        assert offsets[at] == (-1 if not reference or reference[-1].offset is None else reference[-1].offset)
        depths.append(len(reference))
    assert max(depths) >= least_depth
    assert symbolizer.problems == symbols.problems == []
    forms = [build_index(ModuleSymbols.open(path), plain=plain).data.tobytes() for plain in (True, False)]
    assert forms[0] == forms[1]
    return depths


@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_split_files(options: tuple[str, ...], split: Callable[..., SplitProgram]) -> None:
    assert_same_as_single_reads(split(*options).path, 3 if options[0].endswith("++") else 2)


@pytest.mark.parametrize(
    ("tool", "package", "options"),
    PACKAGES[::3],
    ids=[f"{tool} {' '.join(options)}" for tool, _, options in PACKAGES[::3]],
)
def test_packages(
    tool: str, package: str, options: tuple[str, ...], split: Callable[..., SplitProgram], require_tool: RequireTool
) -> None:
    program = split(*options)
    program.package(require_tool(tool, package))
    assert_same_as_single_reads(program.path, 2)


def test_an_index_without_a_split_file_is_not_kept(split: Callable[..., SplitProgram]) -> None:
    """What the index lacks is there as soon as the file is."""
    program = split("gcc", "-gdwarf-5", "-O2")
    (hidden,) = (each for each in program.files if "ledger" in each.name)
    hidden.rename(hidden.with_suffix(".away"))
    addresses = np.array(code_of(program.path), dtype=np.uint64)
    symbolizer = Symbolizer.open(program.path)
    frames = symbolizer.frames(addresses)
    symbols = ModuleSymbols.open(program.path)
    for at, address in enumerate(addresses.tolist()):
        assert columns_of(frames, at) == expected(symbols.frames_at(address)), hex(address)
    assert any(hidden.name in problem for problem in symbolizer.problems)
    hidden.with_suffix(".away").rename(hidden)
    assert not Symbolizer.open(program.path).has_index()
    assert max(assert_same_as_single_reads(program.path, 2)) > np.diff(frames.offsets).max()
    assert Symbolizer.open(program.path).has_index()


@pytest.mark.parametrize("packaged", [False, True], ids=["dwo", "dwp"])
def test_damaged_split_files(packaged: bool, split: Callable[..., SplitProgram], require_tool: RequireTool) -> None:
    program = split("g++", "-gdwarf-5", "-O2")
    target = program.files[0]
    if packaged:
        program.package(require_tool("llvm-dwp-14", "llvm-14"))
        target = program.folder / "program.dwp"
    whole = target.read_bytes()
    addresses = np.array(code_of(program.path, 7), dtype=np.uint64)
    chosen = random.Random(5)
    told = 0
    for _ in range(25):
        target.write_bytes(mutated(whole, chosen))
        symbols = ModuleSymbols.open(program.path)
        frames = build_lookup(symbols, plain=True).frames(addresses)
        assert frames.offsets[-1] == len(frames.names) and np.all(np.diff(frames.offsets) >= 0)
        told += bool(symbols.problems)
    assert told > 5


@pytest.mark.parametrize(
    "options",
    [
        ("gcc", "-gdwarf-4"),
        ("g++", "-gdwarf-5", "-gz", "-ffunction-sections"),
        ("g++", "-gdwarf-4", "-ffunction-sections", "-fdebug-types-section"),
        ("clang++", "-gdwarf-5", "-ffunction-sections"),
        ("clang++", "-gdwarf-5", "-gsplit-dwarf"),
    ],
    ids=" ".join,
)
def test_object_file(
    options: tuple[str, ...], tmp_path: Path, symbol_sources: dict[str, str], require_tool: RequireTool
) -> None:
    compiler = require_tool(options[0], "clang" if "clang" in options[0] else options[0])
    source = "inventory.cpp" if compiler.endswith("++") else "ledger.c"
    (tmp_path / source).write_text(symbol_sources[source])
    subprocess.run([*options, "-O2", "-c", "-o", "object.o", source], cwd=tmp_path, check=True)
    assert_same_as_single_reads(tmp_path / "object.o", 2)


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


def test_names_shared_by_dwz_are_not_asked_for_one_by_one(
    tmp_path: Path, symbol_sources: dict[str, str], require_tool: RequireTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ledger.c").write_text(symbol_sources["ledger.c"])
    for name, level in (("program", "-O2"), ("other", "-O1")):
        subprocess.run(["gcc", "-g", level, "-Wl,--build-id", "-o", name, "ledger.c"], cwd=tmp_path, check=True)
    command = [require_tool("dwz", "dwz"), "-m", "common.debug", "program", "other"]
    subprocess.run(command, cwd=tmp_path, check=True)
    symbols = ModuleSymbols.open(tmp_path / "program")
    wanted = [expected(symbols.frames_at(address)) for address in code_of(tmp_path / "program")]
    monkeypatch.setattr(entry_names, "function_name", lambda entry: pytest.fail(f"{entry} was asked for"))
    lookup = build_lookup(ModuleSymbols.open(tmp_path / "program"), plain=True)
    frames = lookup.frames(np.array(code_of(tmp_path / "program"), dtype=np.uint64))
    assert [columns_of(frames, at) for at in range(len(wanted))] == wanted
    assert {"post", "balance", "main"} <= {name for frames_here in wanted for name, *_ in frames_here}
