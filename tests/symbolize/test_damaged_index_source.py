"""Damaged debugging information: an index is made all the same, of what is left, and the damage is told."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.index_build import build_index
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]

SECTIONS = {
    "-gdwarf-4": (".debug_info", ".debug_abbrev", ".debug_line", ".debug_ranges", ".debug_str"),
    "-gdwarf-5": (".debug_info", ".debug_abbrev", ".debug_line", ".debug_rnglists", ".debug_line_str"),
}
ROUNDS = 12


def mutated(data: bytes, chosen: random.Random) -> bytes:
    """`data` cut short, or with a few bytes changed."""
    if chosen.random() < 0.2:
        return data[: chosen.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chosen.choice((1, 3, 30))):
        changed[chosen.randrange(len(changed))] = chosen.choice((0, 1, 0x7F, 0x80, 0xFF, chosen.randrange(256)))
    return bytes(changed)


@pytest.mark.parametrize("version", SECTIONS)
def test_every_mutation_gives_an_index(version: str, build: Build) -> None:
    path = build("g++", "-g", version, "-O2")
    text = ElfImage.open(path).sections[".text"]
    addresses = np.arange(text.address, text.address + text.size, dtype=np.uint64)
    whole = IndexLookup(build_index(ModuleSymbols.open(path), plain=True)).frames(addresses)
    different = told = 0
    for section in SECTIONS[version]:
        chosen = random.Random(section)
        for _ in range(ROUNDS):
            symbols = ModuleSymbols.open(path)
            assert symbols.debug_info is not None
            sections = symbols.debug_info.sections
            sections._data[section] = mutated(bytes(sections.get(section)), chosen)
            frames = IndexLookup(build_index(symbols, plain=True)).frames(addresses)
            assert frames.offsets[-1] == len(frames.names) and np.all(np.diff(frames.offsets) >= 0)
            for number in np.unique(frames.names).tolist():
                assert isinstance(frames.name_table[number], str)
            different += not np.array_equal(frames.lines, whole.lines)
            told += bool(symbols.problems)
    assert different > ROUNDS and told > ROUNDS
