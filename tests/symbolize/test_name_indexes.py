"""Indices in the file: a search by .debug_names and addresses by .gdb_index give what reading all units gives.

The programs are clang's, with lld, in several units; the twin without indices is the same file with its sections
removed by objcopy.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from unwind.dwarf.gdb_index import read_code_ranges
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

_SHARED = """
#pragma once
#include <vector>
namespace depot {
struct Bin {
  int weight;
  explicit Bin(int w) : weight(w) {}
  ~Bin();
  int operator+(int more) const { return weight + more; }
};
template <class T> inline T twice(T x) { T y = x + x; if (y > 50) y -= 3; return y; }
inline __attribute__((always_inline)) int tare(const Bin &bin) { volatile int w = bin.weight; return w - 1; }
int load(int n);
}
"""
_UNITS = {
    "first.cpp": """
#include "shared.h"
static __attribute__((noinline)) int helper(int x) { volatile int y = x; return y * 3; }
int main(int argc, char **) { depot::Bin bin(argc); return helper(depot::load(argc)) + depot::tare(bin) + (bin + 2); }
""",
    "second.cpp": """
#include "shared.h"
static __attribute__((noinline)) int helper(int x) { volatile int y = x; return y + 5; }
depot::Bin::~Bin() { helper(weight); }
int depot::load(int n) { std::vector<int> all; all.push_back(helper(n)); return twice(n) + twice((long)n) + all[0]; }
""",
    "third.cpp": """
extern "C" __attribute__((used)) int third_only(int x) { volatile int y = x; return y; }
""",
}
_PATTERNS = [
    *("main", "helper", "tare", "twice", "load", "depot::load", "depot::tare", "~Bin", "Bin", "third_only", "thir*"),
    *("operator+", "depot::Bin::operator+", "_ZN5depot4loadEi", "twice<int>", "push_back", "nothing_of_this_name"),
    *("depot::*", "*", "[mh]*", "depot::load(int)", "std::vector<int>::push_back"),
]
_PRESENT = {"main", "helper", "tare", "load", "depot::load", "~Bin", "third_only", "thir*", "*", "_ZN5depot4loadEi"}
_BUILDS = {
    "names": ("-gdwarf-5", "-gpubnames", "-Wl,--gdb-index"),
    "older": ("-gdwarf-4", "-ggnu-pubnames", "-Wl,--gdb-index"),
    "lto": ("-gdwarf-5", "-gpubnames", "-flto"),
}


@pytest.fixture(scope="module", params=list(_BUILDS))
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A program with indices, and the same one without."""
    if shutil.which("clang++") is None or shutil.which("ld.lld") is None or shutil.which("objcopy") is None:
        pytest.skip("clang, lld and objcopy are needed (apt-get install clang lld binutils)")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "shared.h").write_text(_SHARED)
    for name, text in _UNITS.items():
        (folder / name).write_text(text)
    with_indices, without = folder / "with", folder / "without"
    command = ["clang++", "-O2", "-g", *_BUILDS[request.param], "-fuse-ld=lld", *_UNITS, "-o", "with"]
    subprocess.run(command, cwd=folder, check=True)
    removed = ("--remove-section=.debug_names", "--remove-section=.gdb_index")
    subprocess.run(["objcopy", *removed, str(with_indices), str(without)], check=True)
    return with_indices, without


def _found(search: FunctionSearch, pattern: str) -> list[tuple[object, ...]]:
    return [(each.name, each.linkage_name, each.address, each.end, each.inlined) for each in search.functions(pattern)]


def test_a_search_by_names_finds_what_reading_all_units_finds(twins: tuple[Path, Path]) -> None:
    with_indices, without = twins
    for pattern in _PATTERNS:
        ours = _found(FunctionSearch(ModuleSymbols.open(with_indices)), pattern)
        assert ours == _found(FunctionSearch(ModuleSymbols.open(without)), pattern), pattern
        assert bool(ours) or pattern not in _PRESENT, pattern


def test_only_units_with_the_name_are_read(twins: tuple[Path, Path]) -> None:
    symbols = ModuleSymbols.open(twins[0])
    info = symbols.debug_info
    assert info is not None
    search = FunctionSearch(symbols)
    if not info.sections.get(".debug_names"):
        assert twins[0].parent.name.startswith("older")
        return
    assert _found(search, "third_only")
    (third,) = [unit for unit in info.units if (unit.name or "").endswith("third.cpp")]
    assert set(symbols.__dict__["_tables"]) == {third.offset}


def test_addresses_lie_in_the_units_that_say_so_themselves(twins: tuple[Path, Path]) -> None:
    infos = [ModuleSymbols.open(path).debug_info for path in twins]
    assert infos[0] is not None and infos[1] is not None
    has_index = bool(infos[0].sections.get(".gdb_index"))
    assert (read_code_ranges(infos[0]) is not None) == has_index
    assert has_index or twins[0].parent.name.startswith("lto")
    ranges = infos[1].address_ranges
    for pc in np.unique(np.concatenate((ranges.low, ranges.high, ranges.low - np.uint64(1)))).tolist():
        found = [[unit.offset for unit in info.address_ranges.find(pc)] for info in infos if info is not None]
        assert found[0] == found[1], hex(pc)


def test_damaged_indices_lose_no_function(twins: tuple[Path, Path], tmp_path: Path) -> None:
    """Headers, lists of units and abbreviations: an index that is not whole is told, or left alone."""
    with_indices, without = twins
    info = ModuleSymbols.open(with_indices).debug_info
    assert info is not None
    whole = with_indices.read_bytes()
    everything = _found(FunctionSearch(ModuleSymbols.open(without)), "*")
    random_source = random.Random(5)
    for name in (".debug_names", ".gdb_index"):
        if not info.sections.get(name):
            continue
        start = info.image.sections[name].offset
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[start + random_source.randrange(40)] ^= random_source.randrange(1, 256)
            path = tmp_path / "damaged"
            path.write_bytes(damaged)
            symbols = ModuleSymbols.open(path)
            ours = FunctionSearch(symbols)
            assert _found(ours, "*") == everything
            assert {each[2] for each in _found(FunctionSearch(symbols), "main")} <= {each[2] for each in everything}
