"""Whole stacks of every test program against gdb's, frame for frame, with both capture back ends.

The ptap command is run as a user runs it, with address randomization; gdb runs the same program once more. Hits of
different threads and processes come in any order, so each trace is matched with the stack that it differs least from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from oracles import elf_facts
from oracles.agreement import GDB_GAVE_UP, disagreements
from oracles.gdb import GdbOracle, Hit
from programs.build import VARIANTS
from ptap_run import Ptap

WHOLE = "end_of_stack"
CUT = ("stack_cut", "memory_not_captured")
"""Where perf events copy one stack of at most 65,528 bytes; what they give must be right as far as it goes."""

GDB_REFUSES_LOWER_STACKS = "previous frame inner to this frame"
MOST_HITS = 200


@dataclass(frozen=True)
class Probed:
    """A program, and where it is probed."""

    functions: tuple[str, ...]
    """Of the program itself."""
    program: str = ""
    """When it is not called as its entry in the table is."""
    companion: tuple[str, str] | None = None
    """(suffix, function): a function of the file that the program loads or becomes."""
    library: tuple[str, str] | None = None
    """(name as ldd has it, function): a function of a shared library."""
    arguments: tuple[str, ...] = ()
    flags: tuple[str, ...] = ("-O2", "-g")
    compiler: str = "gcc"
    ends_early: frozenset[str] = field(default_factory=frozenset)
    """Functions where the walk must stop although gdb goes on by guessing."""


PROGRAMS: dict[str, Probed] = {
    "plt_call": Probed((), library=("libc.so.6", "labs")),
    "plt_call_branch_tracking": Probed((), library=("libc.so.6", "labs")),
    "signal_handler": Probed(("inspect_signal",)),
    "alternate_signal_stack": Probed(("inspect_signal",)),
    "deep_recursion": Probed(("at_the_bottom",)),
    "dlopen_library": Probed(("called_back",), companion=(".so", "plugin_enter")),
    "exec_other": Probed(("before_exec",), companion=(".next", "after_exec")),
    "fork_child": Probed(("work_in_child",)),
    "thread_pool": Probed(("run_task",)),
    "static": Probed(("leaf_of_linkage",)),
    "static_pie": Probed(("leaf_of_linkage",)),
    "no_pie": Probed(("leaf_of_linkage",)),
    "pie": Probed(("leaf_of_linkage",)),
    "epilogue": Probed(("mix",)),
    "dynamic_frame": Probed(("look_at",)),
    "dynamic_frame_unoptimized": Probed(("look_at",), program="dynamic_frame", flags=("-O0", "-g")),
    "setjmp_longjmp": Probed(("jump_out", "after_jump")),
    "exception_throw": Probed(("in_destructor", "in_handler")),
    "tail_call": Probed(("tail_leaf", "tail_middle")),
    "noreturn_call": Probed(("leave",)),
    "cfi_directives": Probed(("assembly_leaf",), ends_early=frozenset({"without_cfi"})),
    "debug_frame_only": Probed(("compare_numbers",)),
    "no_debug_info": Probed(("compare_numbers",)),
    "stripped": Probed((), library=("libc.so.6", "qsort")),
    "library_call": Probed(("compare_numbers",)),
    "inline_nest": Probed(("called_from_nest",)),
    "static_same_name": Probed(("refresh",)),
    "static_same_name_of_clang": Probed(("refresh",), program="static_same_name", compiler="clang"),
    "orders": Probed(("apply_discount", "by_number")),
    "shapes": Probed(("_ZNK7drawing6Circle4areaEd",)),
    "workers": Probed(("count_words",)),
}


def places(probed: Probed, program: Path) -> list[tuple[Path, str, int]]:
    """(file, function's name, address) of each stop: behind the prologue where code is not optimized."""
    starts = elf_facts.second_line_addresses if "-O0" in probed.flags else elf_facts.addresses
    found = [(program, name, address) for name in probed.functions for address in starts(program, name)]
    if probed.companion:
        other = program.with_name(program.name + probed.companion[0])
        found.append((other, probed.companion[1], elf_facts.address(other, probed.companion[1])))
    if probed.library:
        path = Path(elf_facts.libraries(program)[probed.library[0]])
        found.append((path, probed.library[1], elf_facts.address(path, probed.library[1], dynamic=True)))
    return found


def probe_words(place: tuple[Path, str, int]) -> str:
    path, name, _ = place
    return f'process("{path}").function("{"drawing::Circle::area" if name.startswith("_Z") else name}")'


def traces_of(ptap: Ptap, backend: str, probes: Sequence[str], program: Path) -> list[dict[str, Any]]:
    """The traces that the ptap command writes, with address randomization as users have it."""
    run = ptap.trace(probes, [program], backend=backend, prefix=())
    assert run.status == 0, run.stderr
    return run.traces


@pytest.fixture(scope="module")
def stacks(programs, gdb_oracle: GdbOracle) -> Callable[[str], tuple[Path, tuple[Hit, ...]]]:
    """`stacks(name)` gives a program and what gdb sees in it, asked once for both back ends."""

    @cache
    def ask(name: str) -> tuple[Path, tuple[Hit, ...]]:
        probed = PROGRAMS[name]
        program = programs.build(probed.program or name, probed.compiler, probed.flags)
        return program, gdb_stacks(gdb_oracle, program, [(path, at) for path, _, at in places(probed, program)])

    return ask


def gdb_stacks(gdb_oracle: GdbOracle, program: Path, stops: Sequence[tuple[Path, int]]) -> tuple[Hit, ...]:
    hits = gdb_oracle.run(
        program, stops, follow="both", max_hits=MOST_HITS, max_frames=None, values=False, registers=False
    )
    assert hits, "gdb saw no hit: the test would say nothing"
    return tuple(hits)


def assert_all_match(traces: Sequence[dict[str, Any]], hits: Sequence[Hit], ends_early: frozenset[str]) -> None:
    """Each trace is one of gdb's stacks, each of which is used once; one that is cut says so."""
    assert len(traces) == len(hits)
    left = list(hits)
    for one in traces:
        compared = [(difference(one, hit, ends_early), index) for index, hit in enumerate(left)]
        told, index = min(compared, key=lambda found: len(found[0]))
        assert not told, "\n".join(told)
        left.pop(index)


def difference(one: dict[str, Any], hit: Hit, ends_early: frozenset[str]) -> list[str]:
    guessed_from = next((name for name in hit.functions if name in ends_early), None)
    told = disagreements(one["frames"], hit, until=guessed_from, cut=one["stop"] in CUT)
    gave_up = guessed_from is not None or hit.stop_reason.startswith(GDB_GAVE_UP)
    if guessed_from is None and one["stop"] == WHOLE and hit.stop_reason.startswith(GDB_REFUSES_LOWER_STACKS):
        # Code that goes to a higher stack says so in its CFI; tests/shadow_stack shows that what we find there is true.
        return told
    if one["stop"] not in CUT and (one["stop"] == WHOLE) == gave_up:
        told.append(f"the walk stopped with {one['stop']} after {one['frames'][-1]['function']}")
    return told


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_s_stacks(stacks, ptap: Ptap, name: str, backend: str) -> None:
    program, hits = stacks(name)
    probed = PROGRAMS[name]
    probes = list(dict.fromkeys(probe_words(place) for place in places(probed, program)))
    traces = traces_of(ptap, backend, probes, program)
    if backend == "ptrace":
        assert not {one["stop"] for one in traces} & set(CUT)
    assert_all_match(traces, hits, probed.ends_early)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_inlined_calls_of_every_variant(programs, gdb_oracle: GdbOracle, ptap: Ptap, variant) -> None:
    program = programs.build_variant("inline_nest", variant)
    starts = elf_facts.second_line_addresses if "-O0" in variant.flags else elf_facts.addresses
    hits = gdb_stacks(gdb_oracle, program, [(program, place) for place in starts(program, "called_from_nest")])
    probe = f'process("{program}").function("called_from_nest")'
    assert_all_match(traces_of(ptap, "ptrace", [probe], program), hits, frozenset())


def test_a_function_without_cfi_ends_the_walk_with_its_reason(stacks, ptap: Ptap) -> None:
    program, _ = stacks("cfi_directives")
    probe = f'process("{program}").function("assembly_leaf")'
    traces = traces_of(ptap, "ptrace", [probe], program)
    ended = [one["stop"] for one in traces if one["frames"][-1]["function"] == "without_cfi"]
    assert ended == ["no_row", "no_row"]
