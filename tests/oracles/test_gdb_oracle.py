"""The oracle itself: it finds what the programs' sources say is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from oracles import elf_facts
from oracles.gdb import GdbOracle, OracleError
from programs.build import SOURCES

AFTER_MAIN = ["__libc_start_call_main", "__libc_start_main_impl", "_start"]
KNOWN_VALUES = {0x1111, 0x2222, 0x3333, 0x4444, 0x5555}


def line_with(source: str, text: str) -> int:
    """The one line of a program's source that has `text`."""
    found = [number for number, line in enumerate((SOURCES / source).read_text().splitlines(), 1) if text in line]
    assert len(found) == 1, (source, text, found)
    return found[0]


def test_functions_files_and_lines_are_the_source_s(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("pie")
    (hit,) = gdb_oracle.run(program, [(program, elf_facts.address(program, "leaf_of_linkage"))])
    assert hit.functions[:3] == ["leaf_of_linkage", "middle_of_linkage", "main"]
    assert [frame.file for frame in hit.frames[:3]] == [str(SOURCES / "linkage.c")] * 3
    assert hit.frames[1].line == line_with("linkage.c", "leaf_of_linkage(value + 1)")
    assert hit.frames[2].line == line_with("linkage.c", "middle_of_linkage(19)")
    assert hit.stop_reason == "outermost"


@pytest.mark.parametrize("linkage", ["static", "static_pie", "no_pie", "pie"])
def test_stops_in_every_kind_of_executable(programs, gdb_oracle: GdbOracle, linkage: str) -> None:
    program = programs.build(linkage)
    place = elf_facts.address(program, "leaf_of_linkage")
    (hit,) = gdb_oracle.run(program, [(program, place)])
    assert hit.functions[:3] == ["leaf_of_linkage", "middle_of_linkage", "main"]
    moved = hit.frames[0].pc - place
    assert (moved == 0) == elf_facts.has_fixed_address(program)


def test_segments_that_share_a_page_of_the_file_are_told_apart(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("inline_nest", "clang", ("-O2", "-flto", "-g"))  # linked by lld
    (hit, *_) = gdb_oracle.run(program, [(program, elf_facts.address(program, "called_from_nest"))], max_hits=1)
    assert hit.functions[0] == "called_from_nest"


def test_inlined_calls_show_from_their_first_instruction_on(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("inline_nest")
    entry = elf_facts.address(program, "first_owner")
    called = elf_facts.address(program, "called_from_nest")
    at_entry, in_call = gdb_oracle.run(program, [(program, entry), (program, called)], hits_per_stop=1)
    assert at_entry.functions[:3] == ["outer_inline", "first_owner", "main"]
    assert [frame.inlined for frame in at_entry.frames[:3]] == [True, False, False]
    assert in_call.functions[:6] == [
        "called_from_nest",
        "innermost_inline",
        "middle_inline",
        "outer_inline",
        "first_owner",
        "main",
    ]
    assert [frame.inlined for frame in in_call.frames[:6]] == [False, True, True, True, False, False]
    assert in_call.frames[1].pc == in_call.frames[4].pc
    assert in_call.frames[1].registers is None
    assert in_call.frames[4].registers is not None


def test_arguments_have_the_values_that_main_passes(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("arguments", flags=("-O0", "-g"))
    hits = gdb_oracle.run(program, [(program, elf_facts.address(program, "stop_here"))])
    taken = {hit.frames[1].function: hit.frames[1] for hit in hits}
    integers = taken["take_integers"]
    assert [(one.name, one.type) for one in integers.arguments][4:6] == [("e", "int"), ("f", "unsigned int")]
    assert [one.value for one in integers.arguments][2:7] == [
        "-300",
        "60000",
        "-70000",
        "4000000000",
        "-5000000000",
    ]
    assert (taken["take_strings"].argument("text").value or "").endswith('"plain text"')
    assert taken["take_enumerations"].argument("known").value == "COLOUR_BLUE"
    assert taken["take_bit_fields"].argument("bits").value == "{low = 5, middle = -9, high = 11259375, set = true}"
    assert not any(one.unavailable for one in integers.arguments)


def test_an_optimized_out_argument_is_marked(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("orders")
    hits = gdb_oracle.run(program, [(program, elf_facts.address(program, "apply_discount"))], max_hits=1)
    inlined = next(frame for frame in hits[0].frames if frame.function == "price_parts")
    assert inlined.argument("parts").unavailable
    assert hits[0].frames[0].argument("cents").value == "4500"


def test_recovered_registers_are_the_caller_s_at_every_instruction(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("epilogue")
    places = [one.address for one in elf_facts.instructions(program, "many_registers")]
    hits = gdb_oracle.run(program, [(program, place) for place in places], hits_per_stop=1, max_hits=500)
    assert {hit.stop for hit in hits} == set(range(len(places)))
    stack_pointers = set()
    for hit in hits:
        caller = hit.frames[1]
        assert caller.function == "known_registers" and caller.registers is not None
        stack_pointers.add(caller.registers["rsp"])
        kept = set(caller.registers.values()) & KNOWN_VALUES
        assert kept == KNOWN_VALUES, f"at {places[hit.stop]:#x}"
    assert len(stack_pointers) == 1


def test_each_static_function_of_one_name_is_its_own_stop(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("static_same_name")
    places = elf_facts.addresses(program, "refresh")
    hits = gdb_oracle.run(program, [(program, place) for place in places])
    files = [Path(hit.frames[0].file or "").name for hit in hits]
    assert files == ["static_same_name.c", "static_same_name_first.c", "static_same_name_second.c"]


def test_threads_are_told_apart(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("thread_pool")
    hits = gdb_oracle.run(program, [(program, elf_facts.address(program, "run_task"))])
    assert len(hits) == 12
    assert len({hit.tid for hit in hits}) == 4
    assert len({hit.pid for hit in hits}) == 1


@pytest.mark.parametrize(("follow", "generations"), [("both", 2), ("child", 2), ("parent", 0)])
def test_children_are_followed_as_asked(programs, gdb_oracle: GdbOracle, follow, generations: int) -> None:
    program = programs.build("fork_child")
    stop = (program, elf_facts.address(program, "work_in_child"))
    hits = gdb_oracle.run(program, [stop], follow=follow)
    assert len({hit.pid for hit in hits}) == len(hits) == generations


def test_threads_of_a_child_are_followed(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("workers")
    stop = (program, elf_facts.address(program, "count_words"))
    hits = gdb_oracle.run(program, [stop], follow="both")
    by_process = [sum(hit.pid == pid for hit in hits) for pid in {hit.pid for hit in hits}]
    assert by_process == [4, 4]


def test_a_library_is_stopped_in_each_time_it_is_loaded(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("dlopen_library")
    library = program.with_name(program.name + ".so")
    stops = [
        (program, elf_facts.address(program, "called_back")),
        (library, elf_facts.address(library, "plugin_enter")),
    ]
    hits = gdb_oracle.run(program, stops)
    assert [hit.stop for hit in hits] == [1, 0, 1, 0]
    assert hits[1].functions[:4] == ["called_back", "plugin_inner", "plugin_enter", "main"]


def test_exec_changes_what_the_addresses_mean(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("exec_other")
    following = program.with_name(program.name + ".next")
    stops = [
        (program, elf_facts.address(program, "before_exec")),
        (following, elf_facts.address(following, "after_exec")),
    ]
    before, after = gdb_oracle.run(program, stops)
    assert before.functions == ["before_exec", "old_outer", "main", *AFTER_MAIN]
    assert after.functions == ["after_exec", "new_inner", "new_outer", "main", *AFTER_MAIN]
    assert before.pid == after.pid


def test_signal_frames_are_marked(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("signal_handler")
    hits = gdb_oracle.run(program, [(program, elf_facts.address(program, "inspect_signal"))])
    raised, fault = hits
    assert [frame.kind for frame in fault.frames[:4]] == ["normal", "normal", "signal", "normal"]
    assert fault.functions[3] == "faulting_store"
    assert "interrupted_work" in raised.functions


def test_the_vdso_can_be_stopped_in(programs, gdb_oracle: GdbOracle, tmp_path: Path) -> None:
    program = programs.build("vdso_call")
    vdso = elf_facts.vdso_image(tmp_path)
    entry = elf_facts.address(vdso, "__vdso_clock_gettime", dynamic=True)
    hits = gdb_oracle.run(program, [("[vdso]", entry)])
    assert len(hits) == 3
    for hit in hits:
        assert [name for name in hit.functions if name in ("read_clock", "main")] == ["read_clock", "main"]


def test_depth_is_not_limited_unless_asked(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("deep_recursion")
    stop = (program, elf_facts.address(program, "at_the_bottom"))
    quick = {"arguments": ["3000"], "values": False, "registers": False}
    (whole,) = gdb_oracle.run(program, [stop], max_frames=None, **quick)
    assert whole.functions == ["at_the_bottom"] + ["descend"] * 3000 + ["main", *AFTER_MAIN]
    (cut,) = gdb_oracle.run(program, [stop], max_frames=10, **quick)
    assert len(cut.frames) == 10 and cut.stop_reason == "limit"


def test_invented_tail_call_frames_are_left_out(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("tail_call")
    (hit,) = gdb_oracle.run(program, [(program, elf_facts.address(program, "tail_leaf"))])
    assert hit.functions[:3] == ["tail_leaf", "tail_caller", "main"]


def test_hits_are_limited_by_stop_and_in_all(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("thread_pool")
    stop = (program, elf_facts.address(program, "run_task"))
    assert len(gdb_oracle.run(program, [stop], hits_per_stop=2)) == 2
    assert len(gdb_oracle.run(program, [stop], max_hits=3)) == 3


def test_a_program_that_does_not_end_is_ended(require_tool: Callable[[str, str], str]) -> None:
    require_tool("gdb", "gdb")
    sleep = require_tool("sleep", "coreutils")
    impatient = GdbOracle(seconds=5)
    with pytest.raises(OracleError, match=r"more than 5 s|no answer within 5"):
        impatient.run(sleep, [], arguments=["1000"])
    assert impatient.run(sleep, [], arguments=["1000"], check=False) == []


def test_errors_say_what_is_wrong(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    with pytest.raises(OracleError, match="apt install gdb"):
        GdbOracle(command="no-such-gdb").run("/bin/true", [])
    require_tool("gdb", "gdb")
    with pytest.raises(OracleError):
        GdbOracle().run(tmp_path / "absent", [])
