"""Each walking rule on a small program of its own, by both back ends, against gdb or what the program must be doing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from oracles import elf_facts
from oracles.agreement import disagreements
from oracles.gdb import GdbOracle, Stop
from ptap_run import Ptap

WHOLE = "end_of_stack"


def probe_at(path: Path, address: int) -> str:
    return f'process("{path}").statement({address:#x})'


def probe_on(path: Path | str, function: str, suffix: str = "") -> str:
    return f'process("{path}").function("{function}"){suffix}'


def assert_equal_to_gdb(
    ptap: Ptap,
    gdb_oracle: GdbOracle,
    backend: str,
    program: Path,
    addresses: Sequence[int],
    *,
    arguments: Sequence[str] = (),
    hits: int = 12,
) -> list[dict[str, Any]]:
    """Stop at `addresses` of `program` under gdb and under ptap: the same frames at each hit."""
    theirs = gdb_oracle.run(
        program, [Stop(program, address) for address in addresses], arguments=arguments, max_hits=hits, values=False
    )
    run = ptap.trace([probe_at(program, each) for each in addresses], [program, *arguments], backend=backend)
    assert run.status == 0, run.stderr
    assert theirs, "gdb saw no hit"
    assert len(run.traces) >= len(theirs)
    for hit, trace in zip(theirs, run.traces, strict=False):
        assert disagreements(trace["frames"], hit) == []
    return run.traces


@pytest.mark.parametrize("linkage", ["static", "static_pie", "no_pie", "pie"])
def test_linkage(ptap, gdb_oracle, programs, backend, linkage):
    program = programs.build(linkage)
    addresses = [elf_facts.address(program, name) for name in ("leaf_of_linkage", "middle_of_linkage")]
    for trace in assert_equal_to_gdb(ptap, gdb_oracle, backend, program, addresses):
        assert trace["stop"] == WHOLE


def test_every_instruction_of_an_epilogue(ptap, gdb_oracle, programs, backend):
    """After a pop the slot lies below the stack pointer, and the register holds the caller's value already."""
    program = programs.build("epilogue")
    addresses = [each.address for each in elf_facts.instructions(program, "many_registers")]
    traces = assert_equal_to_gdb(ptap, gdb_oracle, backend, program, addresses, hits=200)
    assert {trace["stop"] for trace in traces} == {WHOLE}


def test_signal_handler(ptap, programs, backend):
    program = programs.build("signal_handler")
    run = ptap.trace(probe_on(program, "inspect_signal"), [program], backend=backend)
    assert run.traces, run.stderr
    for trace in run.traces:
        names = [frame["function"] for frame in trace["frames"]]
        assert names[:2] == ["inspect_signal", "on_signal"] or names[:2] == ["inspect_signal", "on_fault"]
        assert "main" in names
        assert trace["stop"] == WHOLE


def test_signal_at_first_instruction(ptap, programs, backend):
    """A fault at a function's first instruction: pc - 1 would be another function."""
    program = programs.build("signal_handler")
    run = ptap.trace(probe_on(program, "inspect_signal"), [program], backend=backend)
    names = run.functions(-1)
    assert names[1] == "on_fault"
    assert "faulting_store" in names


def test_alternate_signal_stack_seen_whole_by_ptrace(ptap, programs):
    program = programs.build("alternate_signal_stack")
    run = ptap.trace(probe_on(program, "inspect_signal"), [program], backend="ptrace")
    assert run.traces, run.stderr
    for index, trace in enumerate(run.traces):
        assert {"on_signal", "interrupted_work", "main"} <= set(run.functions(index))
        assert trace["stop"] == WHOLE


@pytest.mark.parametrize("backend", ["perf"], indirect=True)
def test_alternate_signal_stack_is_cut_with_a_reason_by_perf(ptap, programs, backend):
    """perf copies one stack; the other one is missing, which is said, and ptrace is named as the remedy."""
    program = programs.build("alternate_signal_stack")
    run = ptap.trace(probe_on(program, "inspect_signal"), [program], backend="perf")
    for trace in run.traces:
        names = [frame["function"] for frame in trace["frames"]]
        assert "main" in names if trace["stop"] == WHOLE else trace["stop"] in ("memory_not_captured", "stack_cut")
    assert any(trace["stop"] == "memory_not_captured" for trace in run.traces)


@pytest.mark.parametrize("depth", [1500, 20_000])
def test_deep_recursion_seen_whole_by_ptrace(ptap, programs, depth):
    program = programs.build("deep_recursion")
    run = ptap.trace(probe_on(program, "at_the_bottom"), [program, str(depth)], backend="ptrace")
    names = run.functions()
    assert names.count("descend") == depth
    assert names[0] == "at_the_bottom" and "main" in names
    assert run.traces[0]["stop"] == WHOLE


def test_more_than_a_thousand_frames(ptap, programs, backend):
    program = programs.build("deep_recursion")
    run = ptap.trace(probe_on(program, "at_the_bottom"), [program, "1500"], backend=backend)
    assert run.functions().count("descend") == 1500
    assert run.traces[0]["stop"] == WHOLE


@pytest.mark.parametrize("backend", ["perf"], indirect=True)
def test_deeper_than_perf_copies_is_marked_cut(ptap, programs, backend):
    program = programs.build("deep_recursion")
    run = ptap.trace(probe_on(program, "at_the_bottom"), [program, "20000"], backend="perf")
    assert run.traces[0]["stop"] == "stack_cut"
    assert len(run.traces[0]["frames"]) > 1000
    assert "1 stack_cut" in run.stderr
    text = ptap.run("--backtrace", "--backend", "perf", probe_on(program, "at_the_bottom"), "--", str(program), "20000")
    assert "--backend ptrace" in text.stdout


def test_max_depth_is_marked(ptap, programs, backend):
    program = programs.build("deep_recursion")
    run = ptap.trace(probe_on(program, "at_the_bottom"), [program], "--max-depth", "7", backend=backend)
    assert len(run.traces[0]["frames"]) == 7
    assert run.traces[0]["stop"] == "too_deep"


def test_library_opened_after_the_start(ptap, programs, backend):
    program = programs.build("dlopen_library")
    run = ptap.trace(probe_on(program, "called_back"), [program], backend=backend)
    assert len(run.traces) == 2, run.stderr
    for index, trace in enumerate(run.traces):
        names = run.functions(index)
        assert names[0] == "called_back" and "plugin_enter" in names and "main" in names
        assert trace["stop"] == WHOLE


def test_probe_in_a_library_opened_after_the_start(ptap, programs, backend):
    program = programs.build("dlopen_library")
    library = f"{program}.so"
    run = ptap.trace(probe_on(library, "plugin_enter"), [program], backend=backend)
    assert len(run.traces) == 2, run.stderr
    assert {trace["frames"][0]["module"] for trace in run.traces} == {library}


def test_exec_leaves_no_old_mappings(ptap, programs, backend):
    """Both programs have code at the same addresses; the old names must not appear in the new program."""
    program = programs.build("exec_other")
    after = Path(f"{program}.next")
    names_before = {symbol.name for symbol in elf_facts.symbols(program)}
    probes = [probe_on(program, "before_exec"), probe_on(after, "*after_exec*")]
    run = ptap.trace(probes, [program], backend=backend)
    assert {trace["frames"][0]["module"] for trace in run.traces} == {str(program), str(after)}
    for trace in run.traces:
        names = {frame["function"] for frame in trace["frames"]}
        assert trace["stop"] == WHOLE
        if trace["frames"][0]["module"] == str(after):
            assert trace["comm"].startswith("exec_other.next"[:15])
            assert not names & {"before_exec", "old_outer"}
            assert {frame["module"] for frame in trace["frames"]}.isdisjoint({str(program)})
        else:
            assert {"before_exec", "old_outer", "main"} <= names <= names_before | names


def test_fork_without_exec(ptap, programs, backend):
    program = programs.build("fork_child")
    run = ptap.trace(probe_on(program, "work_in_child"), [program], backend=backend)
    assert len(run.traces) == 2, run.stderr
    assert len({trace["pid"] for trace in run.traces}) == 2
    for index, trace in enumerate(run.traces):
        assert run.functions(index).count("spawn_generation") == index + 1
        assert trace["stop"] == WHOLE


def test_threads(ptap, programs, backend):
    program = programs.build("workers")
    run = ptap.trace(probe_on(program, "count_words"), [program], backend=backend)
    assert run.status == 0
    assert len({trace["tid"] for trace in run.traces}) > 1
    assert len({trace["pid"] for trace in run.traces}) > 1
    assert {trace["stop"] for trace in run.traces} == {WHOLE}


def test_plt_entries(ptap, gdb_oracle, programs, backend):
    """Each instruction of .plt, whose CFA is a DWARF expression on the pc."""
    program = programs.build("plt_call")
    addresses = elf_facts.plt_addresses(program)
    traces = assert_equal_to_gdb(ptap, gdb_oracle, backend, program, addresses, hits=60)
    assert {trace["stop"] for trace in traces} == {WHOLE}


def test_return_probe_on_a_library_function(ptap, programs, backend):
    program = programs.build("orders")
    run = ptap.trace(probe_on("libc.so.6", "qsort", ".return"), [program], backend=backend)
    assert run.traces, run.stderr
    # order_book_sort jumps to qsort, so qsort returns to who called order_book_sort.
    assert run.functions()[:2] == ["check_out_all", "main"]


def test_return_probes_leave_no_trampolines_in_traces(ptap, programs, backend):
    """With return probes active on the recursion, the real return addresses are in every trace."""
    program = programs.build("deep_recursion")
    probes = [probe_on(program, "descend", ".return"), probe_on(program, "at_the_bottom")]
    run = ptap.trace(probes, [program, "50"], "--count", "1", backend=backend)
    assert run.functions().count("descend") == 50
    assert run.traces[0]["stop"] == WHOLE


def test_exception_unwinding(ptap, programs, backend):
    """A destructor that runs while an exception passes: the runtime's frames are between it and main."""
    program = programs.build("exception_throw")
    run = ptap.trace('process("libstdc++.so.6").function("__cxa_throw")', [program], backend=backend)
    assert run.traces, run.stderr
    for index, trace in enumerate(run.traces):
        assert "main" in run.functions(index)
        assert trace["stop"] == WHOLE


@pytest.mark.parametrize("name", ["debug_frame_only", "no_debug_info", "stripped"])
def test_sources_of_cfi_and_names(ptap, programs, backend, name):
    program = programs.build(name)
    run = ptap.trace('process("libc.so.6").function("qsort")', [program], backend=backend)
    assert run.traces, run.stderr
    for index, trace in enumerate(run.traces):
        assert trace["stop"] == WHOLE, trace
        names = run.functions(index)
        if name == "stripped":
            assert None in names
        else:
            assert "main" in names
    if name != "debug_frame_only":
        assert f"no line information for {program}" in run.stderr


@pytest.mark.parametrize("backend", ["perf"], indirect=True)
def test_vdso(ptap, programs, backend):
    """The vdso is in no file: its CFI and names are read from the process. Samples hit it, no probe can."""
    program = programs.build("vdso_call")
    run = ptap.trace("timer.profile(4999)", [program, "5000000"], backend=backend)
    inside = [trace for trace in run.traces if any(frame["module"] == "[vdso]" for frame in trace["frames"])]
    assert inside, "no sample hit the vdso"
    for trace in inside:
        assert trace["stop"] == WHOLE, trace
        names = [frame["function"] for frame in trace["frames"] if frame["space"] == "user"]
        assert "main" in names
        assert all(frame["function"] for frame in trace["frames"] if frame["module"] == "[vdso]")


def test_tail_calls_are_not_invented(ptap, programs, backend):
    program = programs.build("tail_call")
    run = ptap.trace(probe_on(program, "tail_leaf"), [program], backend=backend)
    names = run.functions()
    assert names[:2] == ["tail_leaf", "tail_caller"]


def test_static_functions_of_one_name(ptap, programs, backend):
    program = programs.build("static_same_name")
    functions = elf_facts.symbols(program)
    names = [symbol.name for symbol in functions]
    twice = sorted({name for name in names if names.count(name) > 1 and not name.startswith("_")})
    assert twice
    run = ptap.trace(probe_on(program, twice[0]), [program], backend=backend)
    assert len({trace["frames"][0]["file"] for trace in run.traces}) > 1
