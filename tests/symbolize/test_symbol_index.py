"""Symbol indices: equal to reading the DWARF address by address, and to llvm-symbolizer; damage and caching."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_frames_against_llvm import explained, with_alias

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from unwind.dwarf.function_scan import OFFSET, scan_unit
from unwind.symbolize import scan_columns
from unwind.symbolize.function_name import readable_name
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_cache import index_path
from unwind.symbolize.index_lookup import AddressFrames, IndexLookup, Reason
from unwind.symbolize.module_scan import scan_module
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.symbolize.symbol_index import SymbolIndex, SymbolIndexError
from unwind.symbolize.symbolizer import FEW, Symbolizer, symbolize
from unwind.symbolize.unit_frames import unit_frames

Build = Callable[..., Path]
Oracle = Callable[[Path, list[int]], list[list[dict[str, Any]]]]
Frame = tuple[str | None, str | None, int | None, int | None, bool]

LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
PYTHON = Path("/usr/bin/python3.11")

BUILDS = [
    ("gcc", "-g", "-O2", "-gdwarf-2", "-gstrict-dwarf"),
    ("gcc", "-g", "-O2", "-gdwarf-3"),
    ("gcc", "-g", "-O0", "-gdwarf-4"),
    ("g++", "-g", "-O2", "-gdwarf-4"),
    ("g++", "-g", "-O2", "-gdwarf-5"),
    ("g++", "-g", "-O3", "-flto"),
    ("g++", "-g", "-O2", "-fdebug-types-section", "-ffunction-sections", "-Wl,--gc-sections"),
    ("g++", "-g", "-O2", "-no-pie", "-gz"),
    ("clang", "-g", "-O2"),
    ("clang++", "-g", "-O2", "-gdwarf-4"),
    ("clang++", "-g", "-O2", "-gdwarf-5"),
    ("clang++", "-g", "-O1", "-gdwarf-5", "-gdwarf64"),
    ("gcc", "-O2"),
    ("g++", "-O2", "-s"),
]


def columns_of(frames: AddressFrames, index: int) -> list[Frame]:
    """The frames of address `index` as `expected` gives them."""
    found: list[Frame] = []
    for at in range(int(frames.offsets[index]), int(frames.offsets[index + 1])):
        name = frames.name_table[int(frames.names[at])]
        found.append(
            (
                readable_name(name) if name else None,
                frames.file_table[int(frames.files[at])] or None,
                int(frames.lines[at]) or None,
                int(frames.columns[at]) or None,
                bool(frames.inlined[at]),
            )
        )
    return found


def expected(frames: list[SymbolFrame]) -> list[Frame]:
    return [(each.function, each.file, each.line, each.column, each.inlined) for each in frames]


def code_addresses(image: ElfImage, count: int, seed: int = 1) -> list[int]:
    """About `count` addresses, uniform over all sections with code, and the ends of these sections."""
    sections = [each for each in image.section_list if each.flags & SHF_EXECINSTR and each.size]
    total = sum(each.size for each in sections)
    chosen = random.Random(seed)
    found = []
    for each in sections:
        if each.size * 3 < count:
            found += range(each.address - 1, each.address + each.size + 1)
        else:
            share = max(3, count * each.size // total)
            found += [each.address + chosen.randrange(each.size) for _ in range(share)]
    chosen.shuffle(found)
    return found


def assert_same(symbols: ModuleSymbols, index: SymbolIndex, addresses: list[int]) -> int:
    """The index says what reading the DWARF at each address says; gives the greatest depth."""
    lookup = IndexLookup(index)
    wanted = np.array(addresses, dtype=np.uint64)
    frames = lookup.frames(wanted)
    offsets = lookup.function_offsets(wanted)
    for at, address in enumerate(addresses):
        reference = symbols.frames_at(address)
        assert columns_of(frames, at) == expected(reference), hex(address)
        assert (frames.reasons[at] == Reason.FOUND) == bool(reference)
        offset = reference[-1].offset if reference else None
        assert offsets[at] == (-1 if offset is None else offset), hex(address)
    return int(np.diff(frames.offsets).max())


@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_index_says_what_the_units_say(options: tuple[str, ...], build: Build) -> None:
    symbols = ModuleSymbols.open(build(*options))
    index = build_index(symbols, plain=True)
    depth = assert_same(symbols, index, code_addresses(symbols.image, 6000))
    assert symbols.problems == []
    if options[0].endswith("++") and "-g" in options:
        assert depth >= 3


@pytest.fixture(scope="module")
def debian(request: pytest.FixtureRequest) -> Callable[[Path, str], ModuleSymbols]:
    def open_with_debug(path: Path, package: str) -> ModuleSymbols:
        if not path.exists() or find_debug_file(ElfImage.open(path)).image is None:
            pytest.skip(f"{package} is not installed")
        return ModuleSymbols.open(path)

    return open_with_debug


@pytest.mark.parametrize(
    ("path", "package"), [(LIBC, "libc6-dbg"), (PYTHON, "python3.11-dbg")], ids=["libc", "python3.11"]
)
def test_debian_debug_files(
    path: Path, package: str, debian: Callable[[Path, str], ModuleSymbols], llvm_frames: Oracle
) -> None:
    symbols = debian(path, package)
    index = build_index(symbols, plain=False)
    addresses = code_addresses(symbols.image, 10_000)
    assert_same(symbols, index, addresses[:3000])
    frames = IndexLookup(index).frames(np.array(addresses, dtype=np.uint64))
    different = []
    for at, (address, theirs) in enumerate(zip(addresses, llvm_frames(path, addresses), strict=True)):
        ours = frame_objects(frames, at)
        reference = symbols.frames_at(address) if index_differs(ours, theirs) else ours
        why = explained(reference, with_alias(symbols, reference, theirs))
        if why is not None:
            different.append(f"{address:#x}: {why}")
    assert len(addresses) > 9_900
    assert different == []


def frame_objects(frames: AddressFrames, index: int) -> list[SymbolFrame]:
    return [
        SymbolFrame(name, None, None, file, line, column, inlined)
        for name, file, line, column, inlined in columns_of(frames, index)
    ]


def index_differs(ours: list[SymbolFrame], theirs: list[dict[str, Any]]) -> bool:
    """Whether the reason of a difference needs more than what the columns say: linkage names, aliases."""
    return explained(ours, theirs) is not None


def test_both_forms_make_the_same_index(build: Build) -> None:
    symbols = ModuleSymbols.open(build("g++", "-g", "-O2", "-gdwarf-5"))
    plain, compiled = (build_index(symbols, plain=each).data.tobytes() for each in (True, False))
    assert plain == compiled


def test_lookups_of_few_and_of_many_agree(build: Build) -> None:
    symbols = ModuleSymbols.open(build("g++", "-g", "-O2", "-gdwarf-5"))
    index = build_index(symbols, plain=True)
    addresses = np.array(code_addresses(symbols.image, 5000), dtype=np.uint64)
    many = IndexLookup(index).frames(addresses)
    for at in range(0, len(addresses), 31):
        one = IndexLookup(index).frames(addresses[at : at + 1])
        assert columns_of(one, 0) == columns_of(many, at)
        assert one.reasons[0] == many.reasons[at]


@pytest.mark.parametrize("plain", [True, False])
def test_hot_loops_look_up_what_numpy_does(plain: bool, build: Build) -> None:
    symbols = ModuleSymbols.open(build("g++", "-g", "-O3", "-flto"))
    lookup = IndexLookup(build_index(symbols, plain=True))
    far = [0, 1, 2**63 - 1, 2**63, 2**64 - 1, 0xFFFFFFFF81000000]
    addresses = np.array([*code_addresses(symbols.image, 20_000), *far], dtype=np.uint64)
    few, many = lookup.few_frames(addresses), lookup.many_frames(addresses, plain)
    assert np.diff(few.offsets).max() >= 3
    for name in ("offsets", "reasons", "functions", "names", "files", "lines", "columns", "inlined"):
        ours, theirs = getattr(many, name), getattr(few, name)
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), name


def test_an_index_keeps_what_code_needs(build: Build) -> None:
    """Declarations that nothing completes are left out; where another unit may complete them, they are not."""
    for options, is_whole in ((("-O2",), False), (("-O3", "-flto"), True)):
        info = ModuleSymbols.open(build("g++", "-g", *options)).debug_info
        assert info is not None
        rows = scan_module(info, plain=True)
        offsets = {int(each[OFFSET]) for unit in info.units for each in scan_unit(unit, plain=True)}
        kept = set(rows.entries[:, scan_columns.OFFSET].tolist())
        assert kept == offsets if is_whole else kept < offsets
        parents = rows.entries[:, scan_columns.PARENT]
        assert (parents < np.arange(len(parents))).all()
        without = rows.entries[:, scan_columns.START] == scan_columns.WITHOUT_CODE
        needed = {*parents.tolist(), *rows.entries[:, scan_columns.ORIGIN_ENTRY].tolist()}
        assert is_whole or set(np.flatnonzero(without).tolist()) <= needed
        completed = rows.entries[:, scan_columns.ORIGIN_ENTRY]
        at = np.flatnonzero(completed >= 0)
        assert len(at) > 20
        assert np.array_equal(rows.entries[completed[at], scan_columns.OFFSET], rows.entries[at, scan_columns.ORIGIN])


def test_a_few_addresses_are_read_from_their_units(
    build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = build("g++", "-g", "-O2", "-gdwarf-4")
    addresses = np.array(code_addresses(ElfImage.open(path), 400), dtype=np.uint64)
    without = Symbolizer.open(path)
    first = without.frames(addresses[:FEW])
    assert not without.has_index()
    many = without.frames(addresses)
    assert without.has_index()
    for at in range(FEW):
        assert columns_of(first, at) == columns_of(many, at)
        assert first.reasons[at] == many.reasons[at]
    again = Symbolizer.open(path)
    monkeypatch.setattr("unwind.symbolize.index_build.build_lookup", lambda *_: pytest.fail("built again"))
    assert columns_of(again.frames(addresses), 7) == columns_of(many, 7)


def test_every_miss_has_its_reason(build: Build) -> None:
    path = build("gcc", "-g", "-O2", "-gdwarf-4")
    image = ElfImage.open(path)
    data = image.sections[".data"].address
    addresses = np.array([0xFFFFFFFFFFFF, data, image.sections[".text"].address + 1, 2**64 - 1], dtype=np.uint64)
    wanted = [Reason.UNMAPPED, Reason.NO_SUCH_CODE, Reason.FOUND, Reason.UNMAPPED]
    by_index = IndexLookup(build_index(ModuleSymbols.open(path), plain=True)).frames(addresses)
    assert by_index.reasons.tolist() == wanted
    assert unit_frames(ModuleSymbols.open(path), addresses).reasons.tolist() == wanted


def test_without_symbols_that_is_the_reason(tmp_path: Path) -> None:
    (tmp_path / "start.s").write_text(".globl _start\n_start: nop\n nop\n mov $60, %eax\n syscall\n")
    program = tmp_path / "program"
    subprocess.run(["gcc", "-nostdlib", "-static", "-s", "-o", program, tmp_path / "start.s"], check=True)
    text = ElfImage.open(program).sections[".text"]
    frames = symbolize(program, np.array([text.address], dtype=np.uint64))
    assert frames.reasons.tolist() == [Reason.NO_SYMBOLS]
    many = symbolize(program, np.full(FEW + 1, text.address, dtype=np.uint64))
    assert set(many.reasons.tolist()) == {Reason.NO_SYMBOLS}


def test_a_damaged_unit_leaves_the_others(tmp_path: Path, build: Build) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.c").write_text(f"__attribute__((noinline)) int {name}(int x) {{ return x * 3 + 1; }}\n")
    (tmp_path / "main.c").write_text(
        "int first(int), second(int); int main(int c, char **v) { return first(second(c)); }"
    )
    program = tmp_path / "program"
    sources = [tmp_path / f"{name}.c" for name in ("main", "first", "second")]
    subprocess.run(["gcc", "-g", "-O1", "-o", program, *sources], check=True)
    symbols = ModuleSymbols.open(program)
    addresses = {name: min(symbols.symbol_names.addresses_of(name)) for name in ("main", "first", "second")}
    info = symbols.debug_info
    assert info is not None
    unit = next(each for each in info.units if (each.name or "").endswith("first.c"))
    data = bytearray(info.sections.get(".debug_info"))
    data[unit.die_offset] = 0x7F  # an abbreviation that the unit does not declare
    damaged = ModuleSymbols.open(program)
    assert damaged.debug_info is not None
    damaged.debug_info.sections._data[".debug_info"] = bytes(data)
    index = build_index(damaged, plain=True)
    frames = IndexLookup(index).frames(np.array(list(addresses.values()), dtype=np.uint64))
    found = {name: columns_of(frames, at)[-1] for at, name in enumerate(addresses)}
    assert [found[name][0] for name in addresses] == list(addresses)
    assert found["main"][2] and found["second"][2]
    assert any(f"{unit.offset:#x}" in problem for problem in damaged.problems)


def test_damaged_files_are_refused(build: Build, tmp_path: Path) -> None:
    index = build_index(ModuleSymbols.open(build("gcc", "-g", "-O2")), plain=True)
    whole = index.data.tobytes()
    path = tmp_path / "index.symbols"
    for damage in (b"", whole[:50], whole[:-8], whole[:900] + bytes([whole[900] ^ 1]) + whole[901:], whole + bytes(8)):
        path.write_bytes(damage)
        with pytest.raises(SymbolIndexError, match="delete"):
            SymbolIndex.load(path)
    path.write_bytes(whole)
    assert SymbolIndex.load(path).data.tobytes() == whole


def test_parts_that_do_not_agree_are_told(build: Build) -> None:
    """Lookups of an index whose checksum is right but whose parts are not end in an error that names it."""
    index = build_index(ModuleSymbols.open(build("g++", "-g", "-O2")), plain=True)
    chosen = random.Random(3)
    address = int(index.arrays["block_address"][0])
    addresses = np.arange(address, address + 4096, dtype=np.uint64)
    names = [name for name in index.columns if len(index.columns[name].data)]
    refused = refused_bulk = 0
    for name in names:
        column = index.columns[name]
        kept = column.data.copy()
        for _ in range(4):
            changed = kept.copy()
            for at in chosen.choices(range(len(kept)), k=8):
                changed[at] = chosen.randrange(256)
            object.__setattr__(column, "data", changed)
            try:
                IndexLookup(index).frames(addresses)
            except SymbolIndexError:
                refused += 1
            try:
                IndexLookup(index).many_frames(addresses, plain=True)
            except ValueError:
                refused_bulk += 1
        object.__setattr__(column, "data", kept)
    assert refused > 0
    assert refused_bulk > 0


def test_index_of_another_build_is_not_taken(build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path, other = build("gcc", "-g", "-O2", "-Wl,--build-id"), build("gcc", "-g", "-O0", "-Wl,--build-id")
    place = index_path(ElfImage.open(path), None)
    place.parent.mkdir(parents=True)
    build_index(ModuleSymbols.open(other), plain=True).save(place)
    assert not Symbolizer.open(path).has_index()


def test_a_lookup_by_a_kept_index_loads_neither_numba_nor_the_readers(build: Build, tmp_path: Path) -> None:
    path = build("gcc", "-g", "-O2")
    code = (
        "import sys, numpy as np\n"
        "from unwind.symbolize.symbolizer import symbolize\n"
        f"frames = symbolize({str(path)!r}, np.arange(0x1000, 0x1040, dtype=np.uint64))\n"
        "print('numba' in sys.modules, 'unwind.dwarf.debug_info' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for built in (False, True):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        if built:
            assert done.stdout.split() == ["False", "False"]


def test_an_address_below_all_code_is_a_miss(build: Build) -> None:
    lookup = IndexLookup(build_index(ModuleSymbols.open(build("gcc", "-g", "-O2")), plain=True))
    for addresses in ([0], [0, 1]):
        frames = lookup.frames(np.array(addresses, dtype=np.uint64))
        assert frames.offsets[-1] == 0 and (frames.reasons != Reason.FOUND).all()
