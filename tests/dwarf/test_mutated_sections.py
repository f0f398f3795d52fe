"""20,000 mutations of the sections of a small file, each read by everything: errors and reasons, never a crash.

The file has four units, each with its own abbreviations, line number program, range lists, strings and addresses. A
mutation stays inside what belongs to one of them, and the others say what they said before.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cfi_writer.elf_writer import ALLOC, EXECUTE, ElfSection, write_elf
from cfi_writer.leb128 import uleb
from dwarf_writer.entry_writer import DebugWriter, EntrySpec, UnitSpec, initial_length
from dwarf_writer.line_writer import LineProgram

from cfi_tables.elf_image import ElfError, ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf import function_scan as F
from unwind.dwarf.damage import DwarfError
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_index import HEADER, SymbolIndex, SymbolIndexError, _checksum
from unwind.symbolize.symbol_names import SymbolNames

TEXT = 0x401000
UNITS = 4
SIZE = 0x100  # of a unit's code
SECTIONS = (
    ".debug_info", ".debug_abbrev", ".debug_line", ".debug_rnglists", ".debug_str_offsets", ".debug_addr",
    ".debug_str", ".debug_line_str",
)  # fmt: skip
ROUNDS = 2400
INDEX_EVERY = 60
Place = dict[str, tuple[int, int]]
Build = Callable[..., Path]


def _own_sections(number: int, start: dict[str, int]) -> dict[str, bytes]:
    """The sections of one unit, to be put behind `start` bytes of those of others; offsets count from there."""
    low = TEXT + number * SIZE
    writer = DebugWriter()
    for section in SECTIONS:
        writer.append(section, bytes(start[section]))
    lines = LineProgram(files=(("main.c", 0), ("more.h", 0)))
    lines.set_address(low)
    for step in range(20):
        lines.set_file(step % 2)
        lines.set_column(step)
        lines.special(step % 9, 3)
        lines.advance_pc(3)
    lines.advance_pc(low + SIZE - lines.address)
    lines.end_sequence()
    ranges = b"\4" + uleb(0x10) + uleb(0x20) + b"\2" + uleb(0) + uleb(1) + b"\7" + (low + 0x80).to_bytes(8, "little")
    ranges += uleb(0x10) + b"\5" + low.to_bytes(8, "little") + b"\3" + uleb(2) + uleb(8) + b"\0"
    body = (5).to_bytes(2, "little") + b"\x08\0" + (1).to_bytes(4, "little") + (4).to_bytes(4, "little") + ranges
    addresses = [low + 0x40, low + 0x50, low + 0x60]
    assert [writer.address_index(each) for each in addresses] == [0, 1, 2]
    places: list[tuple[int, int, object]] = [
        (C.DW_AT_str_offsets_base, C.DW_FORM_sec_offset, start[".debug_str_offsets"] + 8),
        (C.DW_AT_addr_base, C.DW_FORM_sec_offset, start[".debug_addr"] + 8),
        (C.DW_AT_rnglists_base, C.DW_FORM_sec_offset, start[".debug_rnglists"] + 12),
        (C.DW_AT_stmt_list, C.DW_FORM_sec_offset, start[".debug_line"]),
        (C.DW_AT_name, C.DW_FORM_line_strp, f"unit{number}.c"),
        (C.DW_AT_comp_dir, C.DW_FORM_strx, "/src"),
        (C.DW_AT_low_pc, C.DW_FORM_addr, low),
        (C.DW_AT_high_pc, C.DW_FORM_udata, SIZE),
    ]
    inner = EntrySpec(
        C.DW_TAG_subprogram,
        [(C.DW_AT_name, C.DW_FORM_strx1, f"inner{number}"), (C.DW_AT_inline, C.DW_FORM_data1, 1)],
        label="inner",
    )
    call = [
        (C.DW_AT_abstract_origin, C.DW_FORM_ref4, "inner"),
        (C.DW_AT_low_pc, C.DW_FORM_addrx, low + 0x40),
        (C.DW_AT_high_pc, C.DW_FORM_data1, 8),
        (C.DW_AT_call_file, C.DW_FORM_data1, 1),
        (C.DW_AT_call_line, C.DW_FORM_udata, 200),
    ]
    outer = EntrySpec(
        C.DW_TAG_subprogram,
        [(C.DW_AT_name, C.DW_FORM_strp, f"outer{number}"), (C.DW_AT_ranges, C.DW_FORM_rnglistx, 0)],
        [EntrySpec(C.DW_TAG_inlined_subroutine, [*call])],
    )
    leaf = EntrySpec(
        C.DW_TAG_subprogram,
        [
            (C.DW_AT_linkage_name, C.DW_FORM_indirect, (C.DW_FORM_string, f"_Z5leaf{number}v")),
            (C.DW_AT_low_pc, C.DW_FORM_indirect, (C.DW_FORM_addr, low + 0xA0)),
            (C.DW_AT_high_pc, C.DW_FORM_sdata, 0x40),
            (0x2001, C.DW_FORM_block1, b"abcd"),
        ],
    )
    writer.sections[".debug_line"] = bytearray(bytes(start[".debug_line"]) + lines.finished())
    writer.append(".debug_rnglists", initial_length(body, 4))
    root = EntrySpec(C.DW_TAG_compile_unit, places, [inner, outer, leaf])
    return _finished(writer, UnitSpec(root), start)


def _finished(writer: DebugWriter, unit: UnitSpec, start: dict[str, int]) -> dict[str, bytes]:
    """What the unit adds to each section."""
    writer.write_units([unit])
    found = {name: data[start[name] :] for name, data in writer.finished().items()}
    # These three are written from their beginning.
    for name in (".debug_info", ".debug_str_offsets", ".debug_addr"):
        found[name] = writer.finished()[name]
    data = bytearray(writer.sections[".debug_abbrev"])
    found[".debug_abbrev"] = bytes(data)
    info = bytearray(found[".debug_info"])
    info[8:12] = start[".debug_abbrev"].to_bytes(4, "little")
    found[".debug_info"] = bytes(info)
    return found


@cache
def small_file() -> tuple[ElfImage, dict[str, bytes], list[Place]]:
    """(the file without its sections of DWARF, these, and where in each of them each unit's part lies)."""
    whole = dict.fromkeys(SECTIONS, b"")
    places: list[Place] = []
    for number in range(UNITS):
        start = {name: len(data) for name, data in whole.items()}
        added = _own_sections(number, start)
        for name, data in added.items():
            whole[name] += data
        places.append({name: (start[name], len(whole[name])) for name in SECTIONS})
    sections = [ElfSection(".text", b"\x90" * UNITS * SIZE, TEXT, ALLOC | EXECUTE)]
    sections += [ElfSection(name, data) for name, data in whole.items()]
    return ElfImage.from_bytes(write_elf(62, sections), "small"), whole, places


def opened(section: str, data: bytes) -> ModuleSymbols:
    symbols = ModuleSymbols.open(small_file()[0])
    assert symbols.debug_info is not None
    symbols.debug_info.sections._data[section] = data
    return symbols


def frames(symbols: ModuleSymbols, number: int) -> list[list[tuple[object, ...]]]:
    """What is said at some addresses of a unit."""
    low = TEXT + number * SIZE
    return [
        [(each.function, each.file, each.line, each.column) for each in symbols.frames_at(low + at)]
        for at in (0x11, 0x41, 0x4F, 0x61, 0x85, 0xA1, 0xFF)
    ]


@cache
def sound() -> list[list[list[tuple[object, ...]]]]:
    symbols = ModuleSymbols.open(small_file()[0])
    found = [frames(symbols, number) for number in range(UNITS)]
    assert symbols.problems == []
    return found


def test_the_file_is_sound() -> None:
    assert [len(each) for each in sound()[1]] == [1, 2, 1, 1, 1, 1, 1]
    assert [each[-1][0] for each in sound()[2]] == ["outer2"] * 5 + ["leaf2()", None]
    assert all(each[0][1] and each[0][2] for unit in sound() for each in unit)


def mutated(data: bytes, low: int, high: int, chosen: random.Random) -> bytes:
    """`data` with up to four changed bytes in [low, high)."""
    changed = bytearray(data)
    for _ in range(chosen.choice((1, 1, 2, 4))):
        at = chosen.randrange(low, high)
        changed[at] = chosen.choice((0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1 << chosen.randrange(8)))
    return bytes(changed)


@pytest.mark.parametrize("section", SECTIONS)
def test_mutations_of_one_unit(section: str) -> None:
    _, whole, places = small_file()
    chosen = random.Random(section)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = different = 0
    for turn in range(ROUNDS):
        number = turn % UNITS
        low, high = places[number][section]
        if section == ".debug_info":
            low += 4  # with its length, where the next unit begins is lost
        symbols = opened(section, mutated(whole[section], low, high, chosen))
        info = symbols.debug_info
        assert info is not None
        for unit in info.units:
            try:
                F.scan_unit(unit, plain=False)
            except DwarfError as error:
                assert error.problem.section.startswith(".debug_")
        found = frames(symbols, number)
        different += found != sound()[number]
        damaged = next((unit for unit in info.units if unit.offset == places[number][".debug_info"][0]), None)
        for other in (number + 1) % UNITS, (number + 2) % UNITS:
            middle = TEXT + other * SIZE + 0x41
            if damaged is None or damaged not in info.units_for_address(middle):
                assert frames(symbols, other)[1] == sound()[other][1]
        offsets = {each[".debug_info"][0] for each in places}
        for problem in info.problems:
            assert problem.section.startswith(".debug_") and problem.offset >= 0
            # A reference that goes astray is noticed in the unit that it leads to.
            assert problem.unit_offset is None or problem.unit_offset in offsets
        told += bool(symbols.problems)
        if turn % INDEX_EVERY == 0:
            assert_index(symbols)
    assert different > ROUNDS / 40 or section == ".debug_line_str"  # only the units' names are in that
    assert told > ROUNDS / 40 or section in (".debug_str", ".debug_line_str", ".debug_addr", ".debug_str_offsets")
    # KiB: nothing took memory by what a damaged number says.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10


def assert_index(symbols: ModuleSymbols) -> None:
    """An index is made, and its parts agree."""
    addresses = np.arange(TEXT, TEXT + UNITS * SIZE, 5, dtype=np.uint64)
    made = IndexLookup(build_index(symbols, plain=False)).frames(addresses)
    assert made.offsets[-1] == len(made.names) and np.all(np.diff(made.offsets) >= 0)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_truncation(section: str) -> None:
    """Cut off in the last unit's part at every byte: the units before it say what they said."""
    _, whole, places = small_file()
    low, high = places[-1][section]
    for end in range(low, high, max(1, (high - low) // 200)):
        symbols = opened(section, whole[section][:end])
        frames(symbols, UNITS - 1)
        for other in range(UNITS - 1):
            assert frames(symbols, other) == sound()[other], (section, end)


def test_mutated_indices(tmp_path: Path) -> None:
    """With the right checksum over wrong contents: refused, or an answer whose parts agree."""
    data = build_index(ModuleSymbols.open(small_file()[0]), plain=True).data
    addresses = np.arange(TEXT - 8, TEXT + UNITS * SIZE + 8, 3, dtype=np.uint64)
    chosen = random.Random(7)
    refused = 0
    for turn in range(1500):
        changed = data.copy()
        for _ in range(chosen.choice((1, 2, 8))):
            changed[chosen.randrange(HEADER.itemsize if turn % 2 else 0, len(changed))] = chosen.randrange(256)
        changed[: HEADER.itemsize].view(HEADER)["checksum"] = _checksum(changed)
        try:
            lookup = IndexLookup(SymbolIndex(changed, "changed"))
            found = lookup.frames(addresses)
            assert len(found.offsets) == len(addresses) + 1
            lookup.function_offsets(addresses)
        except SymbolIndexError as error:
            assert "delete the file" in str(error)
            refused += 1
    assert 100 < refused < 1500


def test_mutated_symbol_tables(build: Build) -> None:
    """Symbol tables, their strings and the headers of both: names, or an error that names the file."""
    path = build("gcc", "-O1")
    whole = path.read_bytes()
    image = ElfImage.open(path)
    table = int.from_bytes(whole[0x28:0x30], "little")
    parts = [(each.offset, each.offset + each.size) for each in image.section_list
             if each.name in (".symtab", ".strtab", ".dynsym", ".dynstr")]  # fmt: skip
    parts.append((table, table + 64 * len(image.section_list)))
    chosen = random.Random(3)
    text = image.sections[".text"]
    names = set()
    for turn in range(1500):
        low, high = parts[turn % len(parts)]
        try:
            changed = ElfImage.from_bytes(mutated(whole, low, high, chosen), "changed")
            symbols = SymbolNames([changed])
            names.add(len(symbols.all()))
            symbols.code_ranges()
            ModuleSymbols.open(changed).frames_at(text.address + 7)
        except ElfError as error:
            assert "changed" in str(error)
    assert len(names) > 3
