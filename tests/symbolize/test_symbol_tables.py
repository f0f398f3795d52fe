"""Names without debugging information, separate debug files, and what is said when lines are missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]
Addresses = Callable[[Path, int], list[int]]


def nm(path: Path, *options: str) -> dict[str, int]:
    """Code symbols by name, as nm reads them."""
    output = subprocess.run(["nm", *options, str(path)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in output.splitlines()]
    return {row[2].partition("@")[0]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in "tTwW"}


def test_symbol_table_names_functions_without_dwarf(build: Build, text_addresses: Addresses) -> None:
    path = build("gcc", "-O2")
    symbols = ModuleSymbols.open(path)
    start = nm(path)["balance"]
    (frame,) = symbols.frames_at(start + 3)
    assert (frame.function, frame.offset, frame.line, frame.inlined) == ("balance", 3, None, False)
    assert frame.function_start == start
    named = [symbols.frames_at(address) for address in text_addresses(path, 7)]
    assert any(named)


def test_missing_debug_information_is_reported_with_a_remedy(build: Build) -> None:
    symbols = ModuleSymbols.open(build("gcc", "-O2", "-Wl,--build-id"))
    assert symbols.missing is not None
    assert symbols.missing.build_id is not None
    place = f".build-id/{symbols.missing.build_id[:2]}/{symbols.missing.build_id[2:]}.debug"
    assert place in symbols.missing.remedy and "-g" in symbols.missing.remedy
    assert ModuleSymbols.open(build("gcc", "-g", "-O2")).missing is None


def test_stripped_library_is_named_by_its_dynamic_symbols(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    shutil.copy(build("gcc", "-O2", "-shared", "-fPIC"), path)
    subprocess.run(["strip", str(path)], check=True)
    start = nm(path, "-D")["balance"]
    symbols = ModuleSymbols.open(path)
    (frame,) = symbols.frames_at(start + 1)
    assert (frame.function, frame.offset) == ("balance", 1)
    (place,) = FunctionSearch(symbols).functions("balanc?")
    assert (place.address, place.file, place.die) == (start, None, None)


@pytest.mark.parametrize("by_link", [True, False], ids=["debuglink", "build-id"])
def test_separate_debug_file_gives_the_same_frames(
    by_link: bool, build: Build, tmp_path: Path, text_addresses: Addresses
) -> None:
    whole = build("g++", "-g", "-O2", "-Wl,--build-id")
    stripped = tmp_path / "program"
    shutil.copy(whole, stripped)
    folder = tmp_path / "debug"
    if by_link:
        debug = tmp_path / "program.debug"
        subprocess.run(["objcopy", "--only-keep-debug", str(whole), str(debug)], check=True)
        subprocess.run(["strip", str(stripped)], check=True)
        subprocess.run(["objcopy", "--add-gnu-debuglink=program.debug", "program"], cwd=tmp_path, check=True)
    else:
        subprocess.run(["strip", str(stripped)], check=True)
        build_id = ModuleSymbols.open(whole).image.build_id
        assert build_id is not None
        debug = folder / ".build-id" / build_id.hex()[:2] / f"{build_id.hex()[2:]}.debug"
        debug.parent.mkdir(parents=True)
        subprocess.run(["objcopy", "--only-keep-debug", str(whole), str(debug)], check=True)
    ours = ModuleSymbols.open(stripped, debug_directories=(str(folder),))
    assert ours.missing is None
    reference = ModuleSymbols.open(whole)
    addresses = text_addresses(whole, 5)
    assert [ours.frames_at(a) for a in addresses] == [reference.frames_at(a) for a in addresses]
    assert max(len(ours.frames_at(a)) for a in addresses) >= 3


def test_the_best_of_several_aliases_is_chosen(tmp_path: Path) -> None:
    source = tmp_path / "alias.c"
    source.write_text(
        "int __impl_open(void) { return 3; }\n"
        'int open_it(void) __attribute__((alias("__impl_open")));\n'
        'static int local_one(void) __attribute__((alias("__impl_open"), used));\n'
        'int __weak_name(void) __attribute__((weak, alias("__impl_open")));\n'
    )
    path = tmp_path / "alias.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)
    start = nm(path)["open_it"]
    assert ModuleSymbols.open(path).frames_at(start)[0].function == "open_it"


def test_code_that_nothing_covers_has_no_frames(build: Build) -> None:
    symbols = ModuleSymbols.open(build("gcc", "-g", "-O2"))
    assert symbols.frames_at(0) == []
    assert symbols.frames_at(1 << 63) == []
    assert symbols.frames_at(-1) == []
