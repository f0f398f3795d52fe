"""Debug files that dwz has made smaller: partial units, and entries and strings in a file that several share.

llvm-symbolizer reads the program before dwz; what dwz leaves must give the same.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_frames_against_llvm import explained, with_alias

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]
Oracle = Callable[[Path, list[int]], list[list[dict[str, Any]]]]
Addresses = Callable[[Path, int], list[int]]
RequireTool = Callable[[str, str], str]


class Shared:
    """Two programs of the same sources; `path` refers to the shared file."""

    def __init__(self, folder: Path, whole: Path, other: Path, dwz: str, options: tuple[str, ...]) -> None:
        self.whole = whole
        self.folder = folder / "shared"
        self.folder.mkdir()
        self.path, self.common = self.folder / "program", self.folder / "common.debug"
        shutil.copy(whole, self.path)
        shutil.copy(other, self.folder / "other")
        command = [dwz, *options, "-m", "common.debug", "program", "other"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        assert self.common.exists()


@pytest.fixture
def shared(build: Build, tmp_path: Path, require_tool: RequireTool) -> Callable[..., Shared]:
    """`shared("g++", "-O2", …)`: the program and one that differs in a level of optimization, after dwz."""

    def make(*options: str, dwz: tuple[str, ...] = ()) -> Shared:
        whole = build(*options, "-g", "-Wl,--build-id")
        other = build(*options, "-g", "-Wl,--build-id", "-fno-inline-small-functions")
        return Shared(tmp_path, whole, other, require_tool("dwz", "dwz"), dwz)

    return make


def places(path: Path) -> list[Any]:
    search = FunctionSearch(ModuleSymbols.open(path))
    assert search.nearest_names("mian")
    return [search.functions("*"), search.functions("*Crate*"), search.statements("*", "*", 10)]


@pytest.mark.parametrize(
    ("options", "dwz", "section"),
    [
        (("g++", "-O2", "-gdwarf-4"), (), ".gnu_debugaltlink"),
        (("g++", "-O2", "-gdwarf-5"), (), ".gnu_debugaltlink"),
        (("g++", "-O2", "-gdwarf-5"), ("--dwarf-5",), ".debug_sup"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_frames_are_those_before_dwz(
    options: tuple[str, ...],
    dwz: tuple[str, ...],
    section: str,
    shared: Callable[..., Shared],
    llvm_frames: Oracle,
    text_addresses: Addresses,
) -> None:
    made = shared(*options, dwz=dwz)
    assert ElfImage.open(made.path).has(section)
    addresses = text_addresses(made.whole, 3)
    symbols = ModuleSymbols.open(made.path)
    for address, theirs in zip(addresses, llvm_frames(made.whole, addresses), strict=True):
        ours = symbols.frames_at(address)
        assert explained(ours, with_alias(symbols, ours, theirs)) is None, hex(address)
    assert places(made.path) == places(made.whole)
    assert symbols.problems == []
    assert symbols.debug_info is not None and symbols.debug_info.alternate is not None


def test_partial_units_in_one_file(
    build: Build, tmp_path: Path, llvm_frames: Oracle, text_addresses: Addresses, require_tool: RequireTool
) -> None:
    whole = build("g++", "-g", "-O2", "-flto", "-flto-partition=max")
    path = tmp_path / "program"
    subprocess.run([require_tool("dwz", "dwz"), "-o", str(path), str(whole)], check=True, capture_output=True)
    addresses = text_addresses(whole, 7)
    symbols = ModuleSymbols.open(path)
    for address, theirs in zip(addresses, llvm_frames(whole, addresses), strict=True):
        ours = symbols.frames_at(address)
        assert explained(ours, with_alias(symbols, ours, theirs)) is None, hex(address)
    assert symbols.problems == []


def test_debug_file_and_shared_file_of_a_stripped_program(
    shared: Callable[..., Shared], text_addresses: Addresses, tmp_path: Path
) -> None:
    """As distributions keep them: .build-id/xx/….debug, and .dwz beside .build-id, to which a relative path leads."""
    made = shared("g++", "-O2", "-gdwarf-5")
    identity = ElfImage.open(made.path).build_id
    assert identity is not None
    text = identity.hex()
    debug = tmp_path / "debug" / ".build-id" / text[:2] / f"{text[2:]}.debug"
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", str(made.path), str(debug)], check=True)
    subprocess.run(["strip", str(made.path)], check=True)
    (tmp_path / "debug" / ".dwz").mkdir()
    made.common.rename(tmp_path / "debug" / ".dwz" / "common.debug")
    symbols = ModuleSymbols.open(made.path, (str(tmp_path / "debug"),))
    reference = ModuleSymbols.open(made.whole)
    addresses = text_addresses(made.whole, 11)
    assert [symbols.frames_at(a) for a in addresses] == [reference.frames_at(a) for a in addresses]
    assert symbols.problems == []


def test_missing_shared_file_is_told_with_the_unit_and_lines_stay(
    shared: Callable[..., Shared], text_addresses: Addresses
) -> None:
    made = shared("g++", "-O2", "-gdwarf-5")
    made.common.unlink()
    symbols = ModuleSymbols.open(made.path)
    reference = ModuleSymbols.open(made.whole)
    for address in text_addresses(made.whole, 7):
        ours, wanted = symbols.frames_at(address), reference.frames_at(address)
        assert [frame.line for frame in ours] == [frame.line for frame in wanted]
    problems = symbols.problems
    assert problems and all("unit at 0x" in problem and str(made.common) in problem for problem in problems)
    FunctionSearch(symbols).functions("*")


def test_shared_file_of_another_build_is_refused(shared: Callable[..., Shared], text_addresses: Addresses) -> None:
    made = shared("g++", "-O2", "-gdwarf-5")
    wanted = ElfImage.open(made.common).build_id
    shutil.copy(made.whole, made.common)
    found = ElfImage.open(made.common).build_id
    symbols = ModuleSymbols.open(made.path)
    for address in text_addresses(made.whole, 7):
        symbols.frames_at(address)
    assert wanted is not None and found is not None
    assert any(wanted.hex() in problem and found.hex() in problem for problem in symbols.problems)


@pytest.mark.parametrize("dwz", [(), ("--dwarf-5",)], ids=["GNU", "DWARF 5"])
def test_damaged_link_is_told(dwz: tuple[str, ...], shared: Callable[..., Shared], text_addresses: Addresses) -> None:
    made = shared("g++", "-O2", "-gdwarf-5", dwz=dwz)
    name = ".debug_sup" if dwz else ".gnu_debugaltlink"
    section = ElfImage.open(made.path).sections[name]
    content = bytearray(made.path.read_bytes())
    content[section.offset + 3 : section.offset + section.size] = b"x" * (section.size - 3)
    made.path.write_bytes(content)
    symbols = ModuleSymbols.open(made.path)
    for address in text_addresses(made.whole, 7):
        symbols.frames_at(address)
    assert any(name in problem and str(made.path) in problem for problem in symbols.problems)


def test_damage_in_the_shared_file_costs_names_but_nothing_more(
    shared: Callable[..., Shared], text_addresses: Addresses
) -> None:
    made = shared("g++", "-O2", "-gdwarf-5")
    whole = made.common.read_bytes()
    sections = [ElfImage.open(made.common).sections[name] for name in (".debug_info", ".debug_abbrev")]
    source = random.Random(11)
    addresses = text_addresses(made.whole, 41)
    told = 0
    for number in range(45):
        changed = bytearray(whole)
        section = sections[number % 2]
        if number % 3 == 2:
            del changed[source.randrange(len(changed)) :]
        for _ in range(200 if number % 3 < 2 else 0):
            changed[section.offset + source.randrange(section.size)] = source.choice([0, 1, 0x7F, 0x80, 0xFF])
        made.common.write_bytes(changed)
        symbols = ModuleSymbols.open(made.path)
        for address in addresses:
            for frame in symbols.frames_at(address):
                assert frame.line is None or frame.line > 0
        FunctionSearch(symbols).functions("*a*")
        told += any(str(made.common) in problem for problem in symbols.problems)
    assert told >= 20
