"""The automaton changes nothing but the speed: with room for few states or none the rows are the same."""

from __future__ import annotations

import pytest

from cfi_tables import program_automaton, section_programs, state_pool
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import build_table


@pytest.mark.parametrize("room", [0, 1, 5, 40])
def test_a_full_pool_gives_the_same_table(room, system_file, monkeypatch):
    image = ElfImage.open(system_file("ls"))
    wanted = build_table(image, use_compiled=False).data.tobytes()
    pools = state_pool.pools

    def small(memory, cie_count, size, program_bytes):
        states, *others = pools(memory, cie_count, size, program_bytes)
        return states[: 1 + room * (state_pool.POOLED_WORDS + size)], *others

    monkeypatch.setattr(state_pool, "pools", small)
    used = []
    run_fde = program_automaton.run_fde
    monkeypatch.setattr(program_automaton, "run_fde", lambda *arguments: used.append(1) or run_fde(*arguments))
    assert build_table(image, use_compiled=False).data.tobytes() == wanted
    assert used, "the pool was never full"


@pytest.mark.parametrize("slots", [2, 64])
def test_few_moves_give_the_same_table(slots, system_file, monkeypatch):
    image = ElfImage.open(system_file("ls"))
    wanted = build_table(image, use_compiled=False).data.tobytes()
    pools = state_pool.pools
    made = []

    def small(*arguments):
        states, state_slots, rules, first, moves, kinds = pools(*arguments)
        made.append(moves[: 1 + slots])
        return states, state_slots, rules, first, made[-1], kinds

    monkeypatch.setattr(state_pool, "pools", small)
    assert build_table(image, use_compiled=False).data.tobytes() == wanted
    assert all(2 * moves[-1] == slots for moves in made), "the moves were never full"


def test_pools_that_were_too_small_give_the_same_table(system_file, monkeypatch):
    image = ElfImage.open(system_file("ls"))
    wanted = build_table(image, use_compiled=False).data.tobytes()
    monkeypatch.setattr(section_programs, "_POOL_AT_FIRST", 16)
    made = []
    part = section_programs._Part
    monkeypatch.setattr(section_programs, "_Part", lambda *arguments: made.append(1) or part(*arguments))
    assert build_table(image, use_compiled=False).data.tobytes() == wanted
    assert len(made) == 2
