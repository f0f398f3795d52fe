"""Entries, ranges, locations and line rows equal to what pyelftools decodes from the same file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.die import DIE
from elftools.dwarf.locationlists import LocationEntry, LocationParser
from elftools.elf.elffile import ELFFile

from cfi_tables.elf_image import ElfImage
from unwind.dwarf import constants as C
from unwind.dwarf.child_scan import child_offsets
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.debug_info import DebugInfo
from unwind.dwarf.entry import Entry
from unwind.dwarf.line_program import read_line_table

Build = Callable[..., Path]

BUILDS = [
    ("g++", "-g", "-gdwarf-2", "-gstrict-dwarf", "-O1"),
    ("g++", "-g", "-gdwarf-3", "-O2"),
    ("g++", "-g", "-gdwarf-4", "-O2", "-fdebug-types-section"),
    ("g++", "-g", "-gdwarf-5", "-O2"),
    ("g++", "-g", "-gdwarf-5", "-O0", "-fdebug-types-section"),
    ("g++", "-g", "-gdwarf-5", "-gdwarf64", "-O2"),
    ("g++", "-g", "-gdwarf-5", "-Os", "-flto"),
    ("clang++", "-g", "-gdwarf-4", "-O2"),
    ("clang++", "-g", "-gdwarf-5", "-O2"),
    ("clang++", "-g", "-gdwarf-5", "-O2", "-ffunction-sections", "-gz"),
]


@pytest.fixture(params=BUILDS, ids=" ".join)
def program(request: pytest.FixtureRequest, build: Build) -> Path:
    return build(*request.param)


def entries(entry: Entry) -> Iterator[Entry]:
    yield entry
    for child in entry.children():
        yield from entries(child)


def oracle_units(dwarf: Any) -> list[Any]:
    return list(dwarf.iter_CUs())


def same_value(entry: Entry, attribute: int, theirs: Any, die: DIE) -> bool:
    kind = "constant"
    if theirs.form.startswith(("DW_FORM_str", "DW_FORM_line_str")):
        kind = "string"
    elif theirs.form not in ("DW_FORM_implicit_const", "DW_FORM_loclistx", "DW_FORM_rnglistx"):
        kind = describe_form_class(theirs.form)
    ours = entry.get(attribute)
    if kind == "reference":
        if theirs.form == "DW_FORM_ref_sig8":
            target = entry.reference(attribute)
            return target is not None and target.unit.signature == theirs.raw_value
        target = entry.reference(attribute)
        return ours is None and target is not None and target.offset == die.get_DIE_from_attribute(theirs.name).offset
    if kind == "string":
        return isinstance(ours, str) and ours.encode() == theirs.value
    if kind in ("block", "exprloc"):
        return isinstance(ours, bytes) and list(ours) == list(theirs.value)
    if theirs.form in ("DW_FORM_sec_offset", "DW_FORM_loclistx", "DW_FORM_rnglistx"):
        return ours is None
    if entry.unit.version < 4 and theirs.form in ("DW_FORM_data4", "DW_FORM_data8") and ours is None:
        return entry.section_offset(attribute) == theirs.raw_value
    return ours == theirs.value


def test_every_entry_and_attribute_is_as_pyelftools_reads_it(program: Path) -> None:
    info = DebugInfo(ElfImage.open(program))
    with program.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        theirs = oracle_units(dwarf)
        assert [unit.offset for unit in info.units] == [unit.cu_offset for unit in theirs]
        compared = 0
        for unit, their_unit in zip(info.units, theirs, strict=True):
            ours = list(entries(unit.root))
            dies = [die for die in their_unit.iter_DIEs() if not die.is_null()]
            assert [entry.offset for entry in ours] == [die.offset for die in dies]
            for entry, die in zip(ours, dies, strict=True):
                for at, form, _ in entry.abbreviation.attributes:
                    name = next(
                        each
                        for (each, value), (number, _, _) in zip(
                            die.attributes.items(), entry.abbreviation.attributes, strict=True
                        )
                        if number == at
                    )
                    attribute = die.attributes[name]
                    if attribute.form == "DW_FORM_addrx" or attribute.form.startswith("DW_FORM_addrx"):
                        assert entry.get(at) == dwarf.get_addr(their_unit, attribute.raw_value)
                    else:
                        assert same_value(entry, at, attribute, die), (hex(entry.offset), name, form)
                    compared += 1
        assert compared > 300
    assert info.problems == []


def test_parent_is_the_entry_that_lists_it(program: Path) -> None:
    info = DebugInfo(ElfImage.open(program))
    unit = max(info.units, key=lambda each: each.end - each.offset)
    for owner in list(entries(unit.root))[:200]:
        for child in owner.children():
            fresh = unit.entry_at(child.offset)
            assert fresh.parent() == owner
    assert unit.root.parent() is None


@pytest.mark.parametrize("plain", [True, False])
def test_the_scan_of_children_lists_them(program: Path, plain: bool) -> None:
    info = DebugInfo(ElfImage.open(program))
    for unit in info.units:
        for owner in [each for each in entries(unit.root) if each.abbreviation.has_children][:: 1 if plain else 9]:
            begin, end = owner.children_range()
            assert child_offsets(unit, begin, end, plain) == [each.offset for each in owner.children()]
        cut = copy(unit)
        cut.end = unit.child_offsets(unit.root)[-1] + 1
        with pytest.raises(DwarfError):
            child_offsets(cut, unit.root.children_range()[0], cut.end, plain)


def test_ranges_are_as_pyelftools_reads_them(program: Path) -> None:
    info = DebugInfo(ElfImage.open(program))
    with program.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        lists = dwarf.range_lists()
        compared = 0
        for unit, their_unit in zip(info.units, oracle_units(dwarf), strict=True):
            top = their_unit.get_top_DIE()
            low = top.attributes.get("DW_AT_low_pc")
            base = low.value if low is not None else 0
            for die in their_unit.iter_DIEs():
                if "DW_AT_ranges" not in die.attributes:
                    continue
                attribute = die.attributes["DW_AT_ranges"]
                raw = lists.get_range_list_at_offset(attribute.value, cu=their_unit)
                wanted = []
                start = base
                for item in raw:
                    if hasattr(item, "base_address"):
                        start = item.base_address
                    elif item.begin_offset != item.end_offset:
                        shift = 0 if getattr(item, "is_absolute", False) else start
                        wanted.append((item.begin_offset + shift, item.end_offset + shift))
                assert unit.entry_at(die.offset).ranges() == wanted
                compared += 1
    if any("-O2" in part for part in BUILDS) and compared == 0:
        assert all(not entry.has(C.DW_AT_ranges) for unit in info.units for entry in entries(unit.root))


def test_locations_cover_the_addresses_that_pyelftools_says(program: Path) -> None:
    info = DebugInfo(ElfImage.open(program))
    compared = 0
    with program.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        lists = dwarf.location_lists()
        if lists is None:
            assert not ElfImage.open(program).has(".debug_loclists")
            return
        parser = LocationParser(lists)
        for unit, their_unit in zip(info.units, oracle_units(dwarf), strict=True):
            low = their_unit.get_top_DIE().attributes.get("DW_AT_low_pc")
            for die in their_unit.iter_DIEs():
                attribute = die.attributes.get("DW_AT_location")
                if attribute is None or not LocationParser.attribute_has_location(attribute, their_unit["version"]):
                    continue
                found = parser.parse_from_attribute(attribute, their_unit["version"], die)
                if not isinstance(found, list):
                    assert unit.entry_at(die.offset).locations(C.DW_AT_location, 1) == bytes(found.loc_expr)
                    continue
                base = low.value if low is not None else 0
                spans = []
                for item in found:
                    if hasattr(item, "base_address"):
                        base = item.base_address
                    elif isinstance(item, LocationEntry):
                        shift = 0 if item.is_absolute else base
                        spans.append((item.begin_offset + shift, item.end_offset + shift, item.loc_expr))
                entry = unit.entry_at(die.offset)
                for probe in {edge + step for low_, high, _ in spans for edge in (low_, high) for step in (-1, 0)}:
                    first = next((bytes(e) for start, end, e in spans if start <= probe < end), None)
                    assert entry.locations(C.DW_AT_location, probe) == first
                    compared += 1
    assert compared > 0 or not ElfImage.open(program).has(".debug_loclists")


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "compiled"])
@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_line_rows_are_as_pyelftools_runs_the_program(options: tuple[str, ...], plain: bool, build: Build) -> None:
    info = DebugInfo(ElfImage.open(build(*options)))
    compared = 0
    # The assembler writes 32-bit line headers for 64-bit units, which pyelftools takes for 64-bit ones. The code
    # is the same without the option, and so are its rows.
    with build(*(each for each in options if each != "-gdwarf64")).open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info()
        for unit, their_unit in zip(info.units, oracle_units(dwarf), strict=True):
            offset = unit.line_offset
            if offset is None:
                continue
            table = read_line_table(unit, offset, plain)
            states = [each.state for each in dwarf.line_program_for_CU(their_unit).get_entries()]
            wanted = [
                (s.address, s.file, s.line, s.column, bool(s.is_stmt), bool(s.prologue_end), s.end_sequence)
                for s in states
                if s is not None
            ]
            flags = table.flags
            ours = zip(
                table.address.tolist(),
                table.file.tolist(),
                table.line.tolist(),
                table.column.tolist(),
                (flags & 1 != 0).tolist(),
                (flags & 2 != 0).tolist(),
                (flags & 4 != 0).tolist(),
                strict=True,
            )
            assert [row[:6] if not row[6] else row[:1] for row in ours] == [
                row[:6] if not row[6] else row[:1] for row in wanted
            ]
            compared += len(wanted)
    assert compared > 20
