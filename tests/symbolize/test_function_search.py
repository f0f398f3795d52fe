"""Names and lines to addresses: compared with gdb's breakpoints, nm and readelf's line table."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from unwind.symbolize.function_name import without_parameters, without_template_arguments
from unwind.symbolize.function_search import FunctionSearch
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]


def search(path: Path) -> FunctionSearch:
    return FunctionSearch(ModuleSymbols.open(path))


def symbol_address(path: Path, name: str) -> int:
    output = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in output.splitlines() if line.split()[-1] == name)


def gdb_break(path: Path, place: str) -> set[int]:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed (apt-get install gdb)")
    command = ["gdb", "-batch", "-nx", "-ex", f"break {place}", "-ex", "info breakpoints", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {int(each, 16) for each in re.findall(r"0x[0-9a-f]{16}", output)}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_unoptimized_functions_are_probed_where_gdb_breaks(compiler: str, build: Build) -> None:
    path = build(compiler, "-g", "-O0")
    for name in ("balance", "post", "main"):
        (place,) = search(path).functions(name)
        assert place.address == symbol_address(path, name)
        assert {place.after_prologue} == gdb_break(path, name)
        assert not place.optimized


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_optimized_functions_say_so(compiler: str, build: Build) -> None:
    (place,) = search(build(compiler, "-g", "-O2")).functions("balance")
    assert place.optimized


@pytest.mark.parametrize("options", [("g++", "-g", "-O2"), ("clang++", "-g", "-O2"), ("g++", "-g", "-O3", "-gdwarf-4")])
def test_inlined_copies_are_those_that_the_frames_show(options: tuple[str, ...], build: Build) -> None:
    path = build(*options)
    symbols = ModuleSymbols.open(path)
    places = [each for each in FunctionSearch(symbols).functions("inner") if each.inlined]
    assert len(places) >= 2
    for place in places:
        names = [frame.function for frame in symbols.frames_at(place.address)]
        at = next(index for index, name in enumerate(names) if name and name.startswith("inner"))
        assert names[at + 1] == place.owner
        assert symbols.frames_at(place.address)[at].inlined
        assert place.file is not None and place.file.endswith("/inventory.cpp")


def test_every_way_to_name_a_method_finds_it(build: Build) -> None:
    path = build("g++", "-g", "-O0")
    wanted = symbol_address(path, "_ZN5store4Rack5countEi")
    for pattern in (
        "count",
        "_ZN5store4Rack5countEi",
        "store::Rack::count(int)",
        "store::Rack::count",
        "*::Rack::c*t",
    ):
        assert wanted in {place.address for place in search(path).functions(pattern)}, pattern
    assert search(path).functions("COUNT") == []
    assert search(path).functions("store::Rack::missing") == []


def test_file_and_line_choose_among_functions(build: Build) -> None:
    found = search(build("g++", "-g", "-O0"))
    (place,) = found.functions("main", "inventory.cpp")
    assert found.functions("main", "other.cpp") == []
    assert [each.name for each in found.functions("*", "inv*.cpp", place.line)] == ["main"]


def test_static_functions_of_one_name_are_all_found(tmp_path: Path) -> None:
    for name, body in (("a", "x + 1"), ("b", "x * 5")):
        (tmp_path / f"{name}.c").write_text(
            f"__attribute__((noinline)) static int twin(int x) {{ return {body}; }}\n"
            f"int use_{name}(int x) {{ return twin(x) + 1; }}\n"
        )
    path = tmp_path / "twins.so"
    subprocess.run(["gcc", "-g", "-O1", "-shared", "-fPIC", "-o", str(path), "a.c", "b.c"], cwd=tmp_path, check=True)
    places = search(path).functions("twin")
    assert [Path(place.file or "").name for place in places] == ["a.c", "b.c"]
    (only,) = search(path).functions("twin", "b.c")
    assert only.address == places[1].address


def test_an_alias_is_found_and_its_function_known(tmp_path: Path) -> None:
    (tmp_path / "alias.c").write_text(
        'int real_one(int x) { return x; }\nint other_name(int) __attribute__((alias("real_one")));\n'
    )
    path = tmp_path / "alias.so"
    subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-o", str(path), "alias.c"], cwd=tmp_path, check=True)
    (place,) = search(path).functions("other_name")
    assert (place.name, place.line) == ("other_name", 1)
    assert place.address == symbol_address(path, "real_one")
    assert place.die is not None


def test_a_definition_is_found_by_its_symbol(build: Build) -> None:
    path = build("g++", "-g", "-O2")
    symbols = ModuleSymbols.open(path)
    for name in ("_ZN5store4Rack5countEi", "c_entry", "main"):
        entry = symbols.definition(name)
        assert entry is not None and symbol_address(path, name) in {low for low, _ in entry.ranges()}
    assert symbols.definition("no_such_function") is None
    assert ModuleSymbols.open(build("gcc", "-O2")).definition("balance") is None


def line_addresses(path: Path, line: int) -> set[int]:
    output = subprocess.run(
        ["readelf", "--debug-dump=decodedline", str(path)], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(rf"^ledger\.c\s+{line}\s+(0x[0-9a-f]+).*x\s*$", output, re.M)
    return {int(each, 16) for each in rows}


@pytest.mark.parametrize("options", [("gcc", "-g", "-O0"), ("gcc", "-g", "-O2"), ("clang", "-g", "-O2")])
def test_statements_lie_on_rows_of_their_line(options: tuple[str, ...], build: Build) -> None:
    path = build(*options)
    line = next(
        number
        for number, text in enumerate((path.parent / "ledger.c").read_text().splitlines(), 1)
        if "sum += post" in text
    )
    places = search(path).statements("balance", "ledger.c", line)
    addresses = {place.address for place in places}
    assert addresses and addresses <= line_addresses(path, line)
    assert min(gdb_break(path, f"ledger.c:{line}")) in addresses
    assert {place.function for place in places} == {"balance"}


def test_statement_in_inlined_copies(build: Build) -> None:
    path = build("gcc", "-g", "-O2")
    line = next(
        number
        for number, text in enumerate((path.parent / "ledger.c").read_text().splitlines(), 1)
        if "static int post" in text
    )
    symbols = ModuleSymbols.open(path)
    places = FunctionSearch(symbols).statements("post", None, line)
    assert {place.owner for place in places} == {"balance", "main"}
    for place in places:
        frame = symbols.frames_at(place.address)[0]
        assert (frame.function, frame.line, place.inlined) == ("post", line, True)


def test_a_line_without_code_gives_the_nearest(build: Build) -> None:
    path = build("gcc", "-g", "-O0")
    lines = (path.parent / "ledger.c").read_text().splitlines()
    end = next(number for number, text in enumerate(lines, 1) if "return sum" in text)
    found = search(path)
    assert found.statements("balance", "ledger.c", 500) == []
    nearest = found.nearest_lines("balance", "ledger.c", 500)
    assert nearest[-1] == end + 1 and end in nearest
    for line in nearest:
        assert found.statements("balance", "ledger.c", line)


def test_suggestions(build: Build) -> None:
    found = search(build("gcc", "-g", "-O0"))
    assert "balance" in found.nearest_names("balnce")
    assert [Path(each).name for each in found.nearest_files("leger.c")] == ["ledger.c"]
    assert "balance" in search(build("gcc", "-O2")).nearest_names("ballance")


def test_parameters_are_cut_from_names() -> None:
    for name in (
        "a::b(int)",
        "int a::b<int>(char const*) const",
        "a::operator()(int) const",
        "(anonymous namespace)::f(int (*)(char))",
        "a::operator<<(std::ostream&)",
        "main",
    ):
        bare = without_parameters(name)
        assert (bare in name and not bare.endswith(")")) or bare.endswith("operator()")
    assert without_parameters("int a::b<int>(char const*) const") == "a::b<int>"
    assert without_parameters("a::operator()(int) const") == "a::operator()"
    assert without_parameters("(anonymous namespace)::f(int)") == "(anonymous namespace)::f"
    assert without_parameters("a::operator<<(int)") == "a::operator<<"
    assert without_parameters("main") == "main"


def test_template_arguments_are_cut_from_names() -> None:
    assert without_template_arguments("a::b<c<int> >::f<d<char> >") == "a::b<c<int> >::f"
    assert without_template_arguments("a::generic::<a::T>") == "a::generic"
    assert without_template_arguments("a::operator<<") == "a::operator<<"
    assert without_template_arguments("main") == "main"


def test_template_functions_are_found_without_their_arguments(tmp_path: Path) -> None:
    (tmp_path / "t.cpp").write_text(
        "namespace n { template <class T> __attribute__((noinline)) T pick(T x) { return x + 1; } }\n"
        "int use(int x) { return n::pick(x) + (int)n::pick(2.0 * x); }\n"
    )
    path = tmp_path / "t.so"
    subprocess.run(["g++", "-g", "-O1", "-shared", "-fPIC", "-o", str(path), "t.cpp"], cwd=tmp_path, check=True)
    wanted = {symbol_address(path, name) for name in ("_ZN1n4pickIiEET_S1_", "_ZN1n4pickIdEET_S1_")}
    for pattern in ("pick", "n::pick"):
        assert {place.address for place in search(path).functions(pattern)} == wanted
    (one,) = search(path).functions("n::pick<int>")
    assert one.address == symbol_address(path, "_ZN1n4pickIiEET_S1_")
