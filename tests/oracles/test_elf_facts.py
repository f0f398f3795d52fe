"""Facts about ELF files, checked against each other and against what gdb runs into."""

from __future__ import annotations

import itertools

import pytest
from oracles import elf_facts
from oracles.elf_facts import FactsError
from oracles.gdb import GdbOracle


def test_instructions_cover_a_function_without_gaps(programs) -> None:
    program = programs.build("epilogue")
    code = elf_facts.instructions(program, "many_registers")
    (symbol,) = [one for one in elf_facts.symbols(program) if one.name == "many_registers"]
    assert code[0].address == symbol.address
    for one, following in itertools.pairwise(code):
        assert one.address + one.size == following.address
    assert code[-1].address + code[-1].size == symbol.address + symbol.size


def test_an_epilogue_begins_with_a_restore_and_ends_with_a_return(programs) -> None:
    program = programs.build("epilogue")
    code = {one.address: one for one in elf_facts.instructions(program, "many_registers")}
    places = elf_facts.epilogue_addresses(program, "many_registers")
    assert code[places[-1]].mnemonic.startswith("ret")
    assert sum(code[place].mnemonic == "pop" for place in places) >= 5
    assert elf_facts._restores(code[places[0]])


def test_return_addresses_are_where_callees_return_to(programs, gdb_oracle: GdbOracle) -> None:
    program = programs.build("epilogue")
    expected = elf_facts.return_addresses(program, "many_registers", "mix")
    hits = gdb_oracle.run(program, [(program, elf_facts.address(program, "mix"))], max_hits=len(expected))
    bias = hits[0].frames[0].pc - elf_facts.address(program, "mix")
    assert [hit.frames[1].pc - bias for hit in hits] == expected
    assert set(expected) <= set(elf_facts.call_sites(program))


def test_names_that_are_not_unique_are_refused(programs) -> None:
    program = programs.build("static_same_name")
    assert len(elf_facts.addresses(program, "refresh")) == 3
    with pytest.raises(FactsError, match="3 symbols"):
        elf_facts.address(program, "refresh")
    with pytest.raises(FactsError, match="0 symbols"):
        elf_facts.address(program, "no_such_symbol")


def test_where_call_frame_information_lies(programs) -> None:
    assert ".debug_frame" in elf_facts.sections(programs.build("debug_frame_only"))
    covered = elf_facts.covered_by_eh_frame(programs.build("debug_frame_only"))
    sort = elf_facts.address(programs.build("debug_frame_only"), "sort_numbers")
    assert not any(start <= sort < end for start, end in covered)
    usual = programs.build("library_call")
    sort = elf_facts.address(usual, "sort_numbers")
    assert any(start <= sort < end for start, end in elf_facts.covered_by_eh_frame(usual))


def test_plt_and_its_second_half(programs) -> None:
    lazy, split = programs.build("plt_call"), programs.build("plt_call_branch_tracking")
    assert len(elf_facts.plt_addresses(split)) > len(elf_facts.plt_addresses(lazy)) > 0
    assert ".plt.sec" in elf_facts.sections(split)
    assert ".plt.sec" not in elf_facts.sections(lazy)


def test_stripped_programs_have_no_symbols_and_no_debug_information(programs) -> None:
    assert elf_facts.symbols(programs.build("stripped")) == []
    assert ".debug_info" not in elf_facts.sections(programs.build("no_debug_info"))
    assert ".debug_info" in elf_facts.sections(programs.build("library_call"))


def test_lines_of_addresses(programs) -> None:
    program = programs.build("pie", flags=("-O0", "-g"))
    first = elf_facts.address(program, "middle_of_linkage")
    (second,) = elf_facts.second_line_addresses(program, "middle_of_linkage")
    assert second > first
    (file, opening), (_, body) = elf_facts.line_at(program, first), elf_facts.line_at(program, second)
    assert file == "linkage.c"
    assert opening < body
    assert elf_facts.line_at(programs.build("stripped"), 0x1000) is None
