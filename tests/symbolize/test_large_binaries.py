"""10,000 random addresses of large programs: depth, functions, files and lines are those of two other tools.

Where a tool says something else, difference_cause.py shows why, and difference_list.json says where: for each file,
tool and cause how many addresses and which functions. Nothing else may differ, and all of that must.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from difference_cause import FileFacts, difference
from difference_list import COUNT, TOOLS, Measured, listed, measure, programs
from programs.debian_archive import NotInArchive
from programs.large_program import NoLargeProgram
from symbolization_tools import ToolFrame
from test_symbol_index import columns_of, expected

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from ptap.report.symbol_lines import SymbolLines
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.symbolize.symbolizer import Symbolizer

RequireTool = Callable[[str, str], str]


@pytest.fixture(scope="module", params=["sqlite3", "protoc", "python3.11", "vmlinux"])
def program(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A large program with DWARF."""
    try:
        path = programs()[request.param]()
        image = ElfImage.open(path)
    except (NoLargeProgram, NotInArchive, OSError, ElfError) as error:
        pytest.skip(str(error))
    if not image.has(".debug_info") and find_debug_file(image).image is None:
        pytest.skip(f"the debug file of {path} is not installed (Debian: apt install python3.11-dbg)")
    return str(request.param), path


@pytest.fixture(scope="module")
def symbols(program: tuple[str, Path]) -> ModuleSymbols:
    return ModuleSymbols.open(program[1])


@pytest.fixture(scope="module")
def measured(program: tuple[str, Path], symbols: ModuleSymbols, require_tool: RequireTool) -> Measured:
    tools = {name: require_tool(command, package) for name, (_, command, package) in TOOLS.items()}
    return measure(symbols, program[1], tools)


@pytest.mark.xdist_group("large binaries")
def test_frames_are_those_of_both_tools(program: tuple[str, Path], symbols: ModuleSymbols, measured: Measured) -> None:
    name = program[0]
    assert len(measured.addresses) >= 0.99 * COUNT
    assert measured.unexplained == []
    assert symbols.problems == []
    known = listed()[name]
    build_id = symbols.image.build_id
    if build_id is not None and known["build_id"] == build_id.hex():
        assert measured.causes == {tool: known[tool] for tool in TOOLS}
    else:  # another build of it: the same causes, at other places
        for tool in TOOLS:
            assert set(measured.causes[tool]) <= {cause for each in listed().values() for cause in each[tool]}


@pytest.mark.xdist_group("large binaries")
def test_the_addresses_are_worth_it(program: tuple[str, Path], measured: Measured) -> None:
    """Most have lines, many have inlined calls, and some lie in padding or in a PLT."""
    depths = [len(frames) for frames in measured.frames]
    assert max(depths) >= 4 and sum(depth > 1 for depth in depths) > COUNT / 20
    assert sum(bool(frames and frames[0].line) for frames in measured.frames) > COUNT * 0.7
    assert any(not frames or frames[0].line is None for frames in measured.frames)


@pytest.mark.xdist_group("large binaries")
def test_wrong_frames_have_no_cause(program: tuple[str, Path], measured: Measured) -> None:
    facts = FileFacts(program[1])
    at, right = next((at, each) for at, each in enumerate(measured.frames) if len(each) >= 3 and each[0].line)
    told = [ToolFrame(each.function, each.file, each.line, each.column) for each in right]
    outer = right[-1]
    assert outer.function is not None and outer.line is not None and outer.file is not None
    other = next(
        each[0].function for each in measured.frames if each and each[0].function not in (None, outer.function)
    )
    wrong = [
        right[1:],
        [*right[:-1], replace(outer, line=outer.line + 1)],
        [*right[:-1], replace(outer, file=f"{outer.file}x")],
        [*right[:-1], replace(outer, column=(outer.column or 0) + 1)],
        [*right[:-1], replace(outer, function=other, linkage_name=None)],
        [*right[:-2], right[-1], right[-2]],
    ]
    address = measured.addresses[at]
    plain = difference(facts, address, right, told, told, set())
    assert plain is None or plain.unexplained is None
    for frames in wrong:
        found = difference(facts, address, frames, told, told, set())
        assert found is not None and found.unexplained is not None, frames


@pytest.mark.xdist_group("large binaries")
def test_the_index_and_the_command_say_the_same(
    program: tuple[str, Path], symbols: ModuleSymbols, measured: Measured
) -> None:
    addresses = np.array(measured.addresses, dtype=np.uint64)
    symbolizer = Symbolizer.open(program[1])
    symbolizer._lookup = IndexLookup(build_index(symbols, plain=False))  # not one that an earlier run has kept
    frames = symbolizer.frames(addresses)
    different = [
        hex(address)
        for at, (address, ours) in enumerate(zip(measured.addresses, measured.frames, strict=True))
        if columns_of(frames, at) != expected(ours)
    ]
    assert different == []
    texts = [f"{address:x}" for address in measured.addresses]
    assert SymbolLines(symbolizer, False).of(texts)[0] == "".join(map(as_text, measured.frames))
    for line, ours in zip(SymbolLines(symbolizer, True).of(texts)[0].splitlines(), measured.frames, strict=True):
        told = [
            (each["function"], each["file"], each["line"], each["column"], each["inlined"])
            for each in json.loads(line)["frames"]
        ]
        assert told == (expected(ours) or [(None, None, None, None, False)])


def as_text(frames: list[SymbolFrame]) -> str:
    """What `addr2line -fipC` prints for these frames."""
    lines = [f"{each.function or '??'} at {each.file or '??'}:{each.line or '?'}\n" for each in frames]
    return " (inlined by) ".join(lines) if lines else "?? ??:0\n"
