"""Functions, files, lines, inlined calls and argument values of whole stacks, against gdb at the same stops.

Every function and inlined copy of a program is a stop; every frame's arguments are compared. All compilers,
optimizations and DWARF versions in turn.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Ptap
from gdb_comparison import argument_differences, place_differences
from oracles.gdb import GdbOracle, Stop

PROGRAMS = {
    "arguments": "arguments.c",
    "cpp_arguments": "cpp_arguments.cpp",
    "inline_nest": "inline_nest.c",
    "orders": "*.c",
    "shapes": "shapes.cpp",
}
HITS = 40


def probe_addresses(ptap: Ptap, probe: str) -> list[int]:
    listed = ptap.run("list", "--format", "json", probe)
    assert listed.status == 0, listed.stderr
    return [int(json.loads(line)["address"], 16) for line in listed.lines]


def compare(ptap: Ptap, gdb_oracle: GdbOracle, program: Path, files: str) -> None:
    probe = f'process("{program}").function("*@{files}")'
    addresses = probe_addresses(ptap, probe)
    theirs = gdb_oracle.run(program, [Stop(program, each) for each in addresses], max_hits=HITS)
    # By address: a function's probe would leave out the calls inlined at its first instruction, and gdb does not.
    probes = [f'process("{program}").statement({each:#x})' for each in sorted(set(addresses))]
    run = ptap.trace(probes, [program], "--arguments", "all", "--count", str(HITS))
    ours = run.traces
    assert theirs and len(ours) == len(theirs), run.stderr
    differences = []
    for hit, trace in zip(theirs, ours, strict=True):
        differences += place_differences(program, hit, trace) + argument_differences(hit, trace)
    assert differences == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_frames_and_arguments_equal_gdbs(ptap, gdb_oracle, programs, variant, name):
    compare(ptap, gdb_oracle, programs.build_variant(name, variant), PROGRAMS[name])
