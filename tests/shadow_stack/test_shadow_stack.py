"""The walk at every instruction of real programs, against the call stack that their calls and returns make.

The dynamic linker's start is stepped too where a run says so, so that ld.so, libc, libstdc++ and libgcc are covered.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from oracles import elf_facts
from shadow_stack.damaged_frame import damage_frame
from shadow_stack.recorded_run import build_stepper
from shadow_stack.shadow_check import CheckedRun, check_run, functions_of

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfImage

pytestmark = pytest.mark.xdist_group("shadow_stack")  # the runs are made once, by one worker

_INSTRUCTIONS = 2_000_000
_EXACT = 0.9999
_THREADS = 2
_KNOWN = Path(__file__).with_name("known_inexact.txt")
_R14 = 14


@dataclass(frozen=True)
class Stepped:
    """One run: a program of tests/programs in one variant."""

    program: str
    compiler: str = "gcc"
    optimization: str = "-O2"
    whole: bool = False
    """From the first instruction of the dynamic linker, else from the program's own entry point."""

    @property
    def listed_as(self) -> tuple[str, str]:
        """How known_inexact.txt speaks of it: the program, or the program as one compiler makes it."""
        return self.program, f"{self.program}/{self.compiler}"

    @property
    def name(self) -> str:
        return " ".join([self.program, self.compiler, self.optimization, "whole" if self.whole else "from its entry"])


_VARIED = (
    "plt_call", "plt_call_branch_tracking", "alternate_signal_stack", "signal_handler", "setjmp_longjmp",
    "dynamic_frame", "epilogue", "tail_call", "orders",
)  # fmt: skip
RUNS = [
    # The long ones first, for the two threads to end together.
    Stepped("exception_throw", "gcc", "-O2", whole=True),
    Stepped("exception_throw", "clang", "-O3", whole=True),
    Stepped("shapes", "clang", "-Os", whole=True),
    Stepped("plt_call", "gcc", "-O2", whole=True),
    Stepped("plt_call_branch_tracking", "gcc", "-Os", whole=True),
    Stepped("alternate_signal_stack", "gcc", "-O3", whole=True),
    Stepped("signal_handler", "clang", "-O2", whole=True),
    Stepped("setjmp_longjmp", "gcc", "-Os", whole=True),
    Stepped("dynamic_frame", "clang", "-O3", whole=True),
    Stepped("orders", "gcc", "-O3", whole=True),
    Stepped("static_pie", "gcc", "-Os"),
    Stepped("static_pie", "clang", "-O3"),
    Stepped("static", "gcc", "-O2"),
    Stepped("cfi_directives", "gcc", "-O2"),
    Stepped("cfi_directives", "clang", "-O2"),
    *(
        Stepped(program, compiler, optimization)
        for program in _VARIED
        for compiler in ("gcc", "clang")
        for optimization in ("-Os", "-O2", "-O3")
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _own_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tables go to a place of their own, so that none is of another version or of a damaged program."""
    directory = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfi_tables.cache.tables_directory", lambda: directory)
        yield


@pytest.fixture(scope="module")
def checked(programs, require_tool, tmp_path_factory: pytest.TempPathFactory) -> dict[Stepped, CheckedRun]:
    """What each run came to."""
    for tool, package in (("gcc", "gcc"), ("readelf", "binutils"), ("nm", "binutils")):
        require_tool(tool, package)
    stepper = build_stepper(tmp_path_factory.mktemp("stepper"))
    paths = {run: programs.build(run.program, run.compiler, (run.optimization, "-g")) for run in RUNS}
    if find_debug_file(ElfImage.open(_library(paths[RUNS[0]], "libc.so.6"))).image is None:
        pytest.skip("libc's functions have no names without its debug file (Debian: apt install libc6-dbg)")

    def check(run: Stepped) -> CheckedRun:
        options = [] if run.whole else ["-e"]
        if run.program == "cfi_directives":
            options += ["-s", _switching_code(paths[run])]
        return check_run(stepper, [str(paths[run])], *options)

    # The first alone, so that the hot loops are compiled once.
    results = {RUNS[-1]: check(RUNS[-1])}
    with ThreadPoolExecutor(_THREADS) as pool:
        results.update(zip(RUNS[:-1], pool.map(check, RUNS[:-1]), strict=True))
    return results


def _library(program: Path, name: str) -> Path:
    """The library `name` that `program` uses."""
    text = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    match = re.search(rf"{re.escape(name)} => (\S+)", text)
    assert match, text
    return Path(match[1])


def _switching_code(program: Path) -> str:
    """The one function that goes to another stack and back, in bytes from the entry point."""
    entry = elf_facts.address(program, "_start")
    symbol = next(one for one in elf_facts.symbols(program) if one.name == "switched_stack")
    return f"{symbol.address - entry},{symbol.address + symbol.size - entry}"


def _known() -> dict[str, set[tuple[str, ...]]]:
    """For each program the (module, function, what) that known_inexact.txt tells."""
    known: dict[str, set[tuple[str, ...]]] = {}
    for line in _KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            program, module, function, what, _cause = (word.strip() for word in line.split("|"))
            known.setdefault(program, set()).add((module, function, what))
    return known


@cache
def _covered(path: str) -> list[tuple[int, int]]:
    """The address ranges that have CFI, as readelf reads it."""
    done = subprocess.run(["readelf", "-wNf", path], capture_output=True, text=True, check=True)
    found = re.findall(r"FDE cie=\w+ pc=([0-9a-f]+)\.\.([0-9a-f]+)", done.stdout)
    assert found, f"{path}: readelf finds no CFI"
    return [(int(start, 16), int(end, 16)) for start, end in found]


def test_programs_ran_to_their_end(checked: dict[Stepped, CheckedRun]) -> None:
    assert {run.name: result.status for run, result in checked.items() if result.status != 0} == {}


def test_what_is_not_exact_is_known(checked: dict[Stepped, CheckedRun]) -> None:
    """Each run finds what the list says of its program, no more and no less.

    A walk that ends where the table has no row is right when readelf finds no FDE there; else it belongs in the list.
    """
    known = _known()
    assert set(known) <= {name for run in checked for name in run.listed_as}
    differences = []
    for run, result in checked.items():
        found = {tuple(place.inexact): f"at {place.address:#x}, {place.reason.name}" for place in result.places}
        for place in result.without_cfi:
            if any(start <= place.address < end for start, end in _covered(place.path)):
                found[place.module, place.function, "no row"] = f"at {place.address:#x}"
        listed = set().union(*(known.get(name, set()) for name in run.listed_as))
        differences += [f"{run.name}: no longer occurs: {one}" for one in sorted(listed - set(found))]
        differences += [f"{run.name}: {one} {found[one]}" for one in sorted(set(found) - listed)]
    assert differences == []


def test_only_the_exception_unwinder_replaces_return_addresses(checked: dict[Stepped, CheckedRun]) -> None:
    for run, result in checked.items():
        assert result.returned_elsewhere == {}, run.name
        assert {module for module, _ in result.rewrites} <= {"libgcc_s.so.1"}, run.name
        assert bool(result.rewrites) == (run.program in ("exception_throw", "shapes")), run.name


def test_nearly_every_instruction_is_exact(checked: dict[Stepped, CheckedRun]) -> None:
    """Of all states in code with CFI; the rest is listed, see above."""
    instructions = sum(result.instructions for result in checked.values())
    states = sum(result.states for result in checked.values())
    without_cfi = sum(sum(result.without_cfi.values()) for result in checked.values())
    exact = sum(result.exact for result in checked.values())
    frames = sum(result.frames for result in checked.values())
    inexact = sum(sum(result.inexact.values()) for result in checked.values())
    print(
        f"{instructions} instructions in {len(checked)} runs, {states} states, {frames} frames: {exact} states exact, "
        f"{without_cfi} end at code without CFI, {inexact} inexact"
    )
    assert exact + without_cfi + inexact == states
    assert instructions >= _INSTRUCTIONS
    assert exact >= _EXACT * (states - without_cfi)


def test_a_wrong_table_would_be_noticed(programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool itself: with the rules of the epilogue of one function put wrong, its instructions are named."""
    monkeypatch.setattr("cfi_tables.cache.tables_directory", lambda: tmp_path)  # the build-id stays the same
    program = programs.build("epilogue", "gcc", ("-O2", "-g"))
    names = functions_of(str(program))
    assert "many_registers" in names
    damaged = tmp_path / "epilogue"
    damage_frame(program, damaged, elf_facts.address(program, "many_registers"), _R14)
    result = check_run(build_stepper(tmp_path), [str(damaged)], "-e")
    assert {one.function for one in result.inexact} == {"many_registers"}
