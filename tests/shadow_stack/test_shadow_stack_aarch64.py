"""aarch64 programs under qemu: at every instruction the tables must give the true call stack and saved registers."""

from __future__ import annotations

import re
import subprocess
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from oracles import elf_facts
from programs.build import PROGRAMS, SOURCES
from shadow_stack import aarch64_walk
from shadow_stack.aarch64_run import Aarch64Run
from shadow_stack.damaged_frame import damage_frame

from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.layout import RULE_FLAG_RETURN_ADDRESS_SIGNED
from cfi_tables.lookup import find_rule, register_list
from cfi_tables.table import build_table

pytestmark = pytest.mark.xdist_group("shadow_stack_aarch64")  # the runs are made once, by one worker

_INSTRUCTIONS = 200_000
_EXACT = 0.9995
_THREADS = 2
_UNWINDER = ("_Unwind_RaiseException", "_Unwind_Resume")
"""Functions that replace what they saved before they go to a landing pad."""
_KNOWN = Path(__file__).with_name("known_inexact_aarch64.txt")
_WHAT = {
    aarch64_walk.WRONG_CALLER: "wrong caller",
    aarch64_walk.WRONG_CFA: "wrong CFA",
    aarch64_walk.WRONG_REGISTER: "wrong register",
    aarch64_walk.ENDS_EARLY: "ends early",
    aarch64_walk.ENDS_LATE: "ends late",
    aarch64_walk.NO_ROW: "no row",
    aarch64_walk.OTHER_MEMORY: "needs other memory",
    aarch64_walk.NOT_SUPPORTED: "not supported",
}


@dataclass(frozen=True)
class Stepped:
    """One run: a program of tests/programs in one variant."""

    program: str
    flags: tuple[str, ...]
    linkage: tuple[str, ...] = ("-static",)
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join([self.program, *self.flags])

    @property
    def listed_as(self) -> tuple[str, ...]:
        """How known_inexact_aarch64.txt speaks of it."""
        return "any", self.program, self.name


_SIGNED = "-mbranch-protection=standard"
_PIE = ("-static-pie", "-fPIE")
"""For C++: a static program that is not PIE sorts all of its FDEs at the first exception, which takes long."""
RUNS = [
    # The long ones first, for the two threads to end together.
    Stepped("exception_throw", ("-O2",), _PIE),
    Stepped("exception_throw", ("-Os", _SIGNED), _PIE),
    Stepped("deep_recursion", ("-O2", _SIGNED), arguments=("120",)),
    *(
        Stepped(program, flags)
        for program in ("library_call", "setjmp_longjmp", "dynamic_frame", "epilogue")
        for flags in (("-O2",), ("-Os",), ("-O2", _SIGNED))
    ),
    Stepped("tail_call", ("-O2",)),
]


@dataclass
class Checked:
    """What one run came to."""

    path: Path
    instructions: int = 0
    states: int = 0
    exact: int = 0
    frames: int = 0
    status: int | None = None
    signed: int = 0
    """States whose innermost frame has a signed return address."""
    inexact: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(function, what)."""
    without_row: Counter[int] = field(default_factory=Counter)
    """File virtual address."""
    returned_elsewhere: list[str] = field(default_factory=list)
    """Functions."""


def _build(run: Stepped, directory: Path) -> Path:
    program = PROGRAMS[run.program]
    compiler = "aarch64-linux-gnu-g++" if program.language == "c++" else "aarch64-linux-gnu-gcc"
    target = directory / re.sub(r"\W+", "_", run.name)
    subprocess.run(
        [compiler, "-g", "-fomit-frame-pointer", "-fno-optimize-sibling-calls" if run.arguments else "-g", *run.flags,
         *run.linkage, "-o", str(target), *(str(SOURCES / source) for source in program.sources)],
        check=True,
    )  # fmt: skip
    return target


class _Functions:
    """The functions of a program by address, from nm."""

    def __init__(self, path: Path) -> None:
        found = {each.address: each.name for each in elf_facts.symbols(path) if each.kind in "TtWwi"}
        self._starts, self._names = sorted(found), [found[address] for address in sorted(found)]

    def at(self, address: int) -> str:
        return self._names[bisect_right(self._starts, address) - 1]


def _check(run: Stepped, path: Path) -> Checked:
    result = Checked(path)
    table = build_table(ElfImage.open(path)).data
    functions = _Functions(path)
    compare, find, registers_of = (
        compiled(aarch64_walk.compare), compiled(find_rule), compiled(register_list)
    )  # fmt: skip
    first, second = (np.zeros(aarch64_walk.WIDTH, dtype=np.int64) for _ in range(2))
    with Aarch64Run([str(path), *run.arguments]) as stepped:
        for registers in stepped.states():
            code, pc, exact = compare(
                table, stepped.bias, registers, stepped.stack, stepped.stack_begin, stepped.calls, stepped.depth,
                first, second,
            )  # fmt: skip
            result.states += 1
            result.frames += stepped.depth + 1
            address = pc - stepped.bias - (0 if exact else 1)
            if code == aarch64_walk.EXACT:
                result.exact += 1
            elif code == aarch64_walk.NO_ROW:
                result.without_row[address] += 1
            else:
                result.inexact[functions.at(address), _WHAT[code]] += 1
            rule = find(table, 0, int(registers[aarch64_walk.PROGRAM_COUNTER]) - stepped.bias)
            if rule >= 0 and table[registers_of(table, 0, rule) + 1] & RULE_FLAG_RETURN_ADDRESS_SIGNED:
                result.signed += 1
        result.status, result.instructions = stepped.status, stepped.instructions
        result.returned_elsewhere = [functions.at(address - stepped.bias) for address in stepped.returned_elsewhere]
    return result


def _require_tools(require_tool) -> None:
    for tool, package in (
        ("qemu-aarch64", "qemu-user"), ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"), ("readelf", "binutils"), ("nm", "binutils"),
    ):  # fmt: skip
        require_tool(tool, package)


@pytest.fixture(scope="module")
def checked(require_tool, tmp_path_factory: pytest.TempPathFactory) -> dict[Stepped, Checked]:
    """What each run came to."""
    _require_tools(require_tool)
    directory = tmp_path_factory.mktemp("aarch64")
    paths = [_build(run, directory) for run in RUNS]
    # The last alone, so that the hot loops are compiled once.
    last = _check(RUNS[-1], paths[-1])
    with ThreadPoolExecutor(_THREADS) as pool:
        return {**dict(zip(RUNS, pool.map(_check, RUNS[:-1], paths), strict=False)), RUNS[-1]: last}


def _known() -> dict[str, set[tuple[str, str]]]:
    """For each program (or "any", or a program and its flags) the (function, what) that the list tells."""
    known: dict[str, set[tuple[str, str]]] = {}
    for line in _KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            program, function, what, _cause = (word.strip() for word in line.split("|"))
            known.setdefault(program, set()).add((function, what))
    return known


def _covered(path: Path) -> list[tuple[int, int]]:
    """The address ranges that have CFI, as readelf reads it."""
    text = subprocess.run(["readelf", "-wNf", str(path)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"FDE cie=\w+ pc=([0-9a-f]+)\.\.([0-9a-f]+)", text)
    assert found
    return [(int(start, 16), int(end, 16)) for start, end in found]


def test_programs_ran_to_their_end(checked: dict[Stepped, Checked]) -> None:
    assert {run.name: result.status for run, result in checked.items() if result.status != 0} == {}


def test_what_is_not_exact_is_known(checked: dict[Stepped, Checked]) -> None:
    """Each run finds what the list says of its program, no more and no less; code without a row has no FDE."""
    known = _known()
    assert set(known) <= {name for run in checked for name in run.listed_as}
    differences = []
    for run, result in checked.items():
        listed = set().union(*(known.get(name, set()) for name in run.listed_as))
        covered = _covered(result.path)
        differences += [f"{run.name}: no longer occurs: {one}" for one in sorted(listed - set(result.inexact))]
        differences += [f"{run.name}: {one}" for one in sorted(set(result.inexact) - listed)]
        differences += [
            f"{run.name}: no row at {address:#x}"
            for address in result.without_row
            if any(start <= address < end for start, end in covered)
        ]
    assert differences == []


def test_only_jumps_out_of_frames_return_elsewhere(checked: dict[Stepped, Checked]) -> None:
    for run, result in checked.items():
        wanted = {"setjmp_longjmp": {"__longjmp"}, "exception_throw": set(_UNWINDER)}
        assert set(result.returned_elsewhere) == wanted.get(run.program, set()), run.name


def test_signed_return_addresses_are_met(checked: dict[Stepped, Checked]) -> None:
    """The signed programs step in signed frames; that the walk is exact there, another test says."""
    for run, result in checked.items():
        assert (result.signed > 20) == (_SIGNED in run.flags), run.name


def test_nearly_every_instruction_is_exact(checked: dict[Stepped, Checked]) -> None:
    """Of all states in code with CFI; the rest is listed, see above."""
    instructions = sum(result.instructions for result in checked.values())
    states = sum(result.states for result in checked.values())
    exact = sum(result.exact for result in checked.values())
    without_row = sum(sum(result.without_row.values()) for result in checked.values())
    inexact = sum(sum(result.inexact.values()) for result in checked.values())
    rewritten = sum(result.inexact[one] for result in checked.values() for one in result.inexact if one[0] in _UNWINDER)
    frames = sum(result.frames for result in checked.values())
    print(
        f"{instructions} instructions in {len(checked)} runs, {states} states, {frames} frames: {exact} states exact, "
        f"{without_row} end at code without CFI, {inexact} inexact, {rewritten} of them by a rewritten return address"
    )
    assert exact + without_row + inexact == states
    assert instructions >= _INSTRUCTIONS
    assert exact >= _EXACT * (states - without_row - rewritten)


@pytest.mark.parametrize(("function", "register"), [("known_registers", 19), ("many_registers", 30)])
def test_a_wrong_table_would_be_noticed(function: str, register: int, require_tool, tmp_path: Path) -> None:
    """The tool itself: with one register's rule put wrong in one function, the walk is wrong there."""
    _require_tools(require_tool)
    run = Stepped("epilogue", ("-O2",))
    program = _build(run, tmp_path)
    damaged = tmp_path / "damaged"
    damage_frame(program, damaged, elf_facts.address(program, function), register)
    known = {name for name, _ in _known()["any"]}
    assert {name for name, _ in _check(run, damaged).inexact} - known == {function}
