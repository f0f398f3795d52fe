"""Damaged DWARF: every mutation ends, nothing but a DwarfError or a noted problem comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.debug_info import DebugInfo
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]

SECTIONS = (".debug_info", ".debug_abbrev", ".debug_line", "ranges", "locations", ".debug_str")
# What the sections of lists are called before DWARF 5, and in it.
NAMES = {"ranges": (".debug_ranges", ".debug_rnglists"), "locations": (".debug_loc", ".debug_loclists")}


def name_of(section: str, program: Path) -> str:
    return next(name for name in NAMES.get(section, (section,)) if ElfImage.open(program).has(name))


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def program(request: pytest.FixtureRequest, build: Build) -> Path:
    return build("g++", "-g", request.param, "-O2")


def open_mutated(program: Path, section: str, change: Callable[[bytes], bytes]) -> ModuleSymbols:
    symbols = ModuleSymbols.open(program)
    assert symbols.debug_info is not None
    sections = symbols.debug_info.sections
    sections._data[section] = change(bytes(sections.get(section)))
    return symbols


def use_everything(symbols: ModuleSymbols, program: Path) -> None:
    text = ElfImage.open(program).sections[".text"]
    for address in range(text.address, text.address + text.size, 5):
        for frame in symbols.frames_at(address):
            assert frame.line is None or frame.line >= 0
    search = FunctionSearch(symbols)
    search.functions("*a*")
    search.statements("*", "*.cpp", 14)
    search.nearest_names("aria")
    info = symbols.debug_info
    assert info is not None
    for unit in info.units:
        try:
            stack = [unit.root]
            while stack:
                entry = stack.pop()
                for attribute, _, _ in entry.abbreviation.attributes:
                    entry.get(attribute)
                    entry.reference(attribute)
                    entry.locations(attribute, text.address)
                entry.ranges()
                stack.extend(entry.children())
        except DwarfError as error:
            assert error.problem.section and str(error)


@pytest.mark.parametrize("section", SECTIONS)
def test_truncated_sections_give_reasons(program: Path, section: str) -> None:
    section = name_of(section, program)
    size = len(ElfImage.open(program).section_data(section))
    for part in (1, size // 4, size // 2, size - 3):
        symbols = open_mutated(program, section, lambda data, part=part: data[:part])  # type: ignore[misc]
        use_everything(symbols, program)
        if section in (".debug_info", ".debug_line", ".debug_abbrev") and part < size - 3:
            assert symbols.problems, part


@pytest.mark.parametrize("section", SECTIONS)
def test_random_bytes_never_crash_or_hang(program: Path, section: str) -> None:
    section = name_of(section, program)
    for seed in range(8):
        source = random.Random(f"{section}{seed}")

        def change(data: bytes, source: random.Random = source) -> bytes:
            mutated = bytearray(data)
            for _ in range(source.choice((1, 4, 30))):
                mutated[source.randrange(len(mutated))] = source.choice((0, 0xFF, 0x80, source.randrange(256)))
            return bytes(mutated)

        use_everything(open_mutated(program, section, change), program)


def test_plain_and_compiled_scans_agree_on_damage(program: Path) -> None:
    for seed in range(12):
        source = random.Random(seed)
        outcomes = []
        for plain in (True, False):
            source.seed(seed)
            info = DebugInfo(ElfImage.open(program))
            data = bytearray(info.sections.get(".debug_info"))
            for _ in range(6):
                data[source.randrange(20, len(data))] = source.randrange(256)
            info.sections._data[".debug_info"] = bytes(data)
            rows = []
            for unit in info.units:
                try:
                    rows.append(F.scan_unit(unit, plain).tolist())
                except DwarfError as error:
                    rows.append([[error.problem.offset]])
            outcomes.append((rows, info.problems))
        assert outcomes[0] == outcomes[1]


def test_one_bad_unit_leaves_the_others(build: Build) -> None:
    program = build("g++", "-g", "-O2", "-flto", "-flto-partition=max")
    symbols = ModuleSymbols.open(program)
    info = symbols.debug_info
    assert info is not None and len(info.units) > 1
    text = ElfImage.open(program).sections[".text"]
    addresses = range(text.address, text.address + text.size, 3)
    first = next(unit for address in addresses if (unit := info.unit_for_address(address)) is not None)

    def ruin(data: bytes) -> bytes:
        return data[: first.die_offset] + b"\xff\x7f" + data[first.die_offset + 2 :]

    ruined = open_mutated(program, ".debug_info", ruin)
    others = [a for a in addresses if (u := info.unit_for_address(a)) is not None and u is not first]
    assert others
    for address in others:
        assert [f.function for f in ruined.frames_at(address)] == [f.function for f in symbols.frames_at(address)]
    for address in addresses:
        if info.unit_for_address(address) is first:
            ruined.frames_at(address)
    assert any(problem.unit_offset == first.offset for problem in ruined.debug_info.problems)  # type: ignore[union-attr]
