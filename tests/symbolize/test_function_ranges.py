"""Functions by name → ranges: at every address of a program, against what addr2line says that is there."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.symbolizer import Symbolizer


def _functions_at(path, addresses: list[int]) -> list[list[str]]:
    """The functions at each address, innermost first."""
    command = ["addr2line", "-a", "-f", "-i", "-e", str(path), *map(hex, addresses)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("0x"):
            found.append([])
            place = 0
        else:
            if place % 2 == 0:
                found[-1].append(line)
            place += 1
    return found


def _inside(ranges: np.ndarray, address: int) -> bool:
    return bool(((ranges[:, 0] <= address) & (address < ranges[:, 1])).any())


@pytest.mark.parametrize("flags", [("-O2", "-g"), ("-O2",)])
def test_each_address_is_in_the_ranges_of_the_functions_there(programs, require_tool, tmp_path, monkeypatch, flags):
    require_tool("addr2line", "binutils")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = programs.build("inline_nest", flags=flags)
    text = next(each for each in ElfImage.open(path).section_list if each.name == ".text")
    addresses = list(range(text.address, text.address + text.size))
    there = _functions_at(path, addresses)
    symbolizer = Symbolizer.open(path)
    names = {name for chain in there for name in chain} & symbolizer.function_names() - {"??"}
    assert {"first_owner", "second_owner", "main"} <= names
    assert ("-g" in flags) == ("innermost_inline" in names)
    for name in names:
        found = symbolizer.function_ranges(name)
        assert (found.anywhere[1:, 0] > found.anywhere[:-1, 1]).all()
        # Behind its end addr2line goes on with the symbol before, which this does not.
        for address, chain in zip(addresses, there, strict=True):
            if _inside(found.anywhere, address):
                assert name in chain, hex(address)
                assert _inside(found.innermost, address) == (chain[0] == name), hex(address)
            elif "-g" in flags and name in ("outer_inline", "middle_inline", "innermost_inline", "first_owner"):
                assert name not in chain or _is_padding(symbolizer, address), hex(address)


def _is_padding(symbolizer: Symbolizer, address: int) -> bool:
    """Whether no function is known at the address."""
    return not symbolizer.frames(np.array([address], dtype=np.uint64)).names.any()


def test_wildcards_files_and_nothing(programs):
    symbolizer = Symbolizer.open(programs.build("inline_nest"))
    every = symbolizer.function_ranges("*_owner").anywhere
    both = [symbolizer.function_ranges(name).anywhere for name in ("first_owner", "second_owner")]
    for address in range(int(every[0, 0]), int(every[-1, 1])):
        assert _inside(every, address) == any(_inside(each, address) for each in both)
    assert len(symbolizer.function_ranges("first_owner", "inline_nest.c").anywhere) == 1
    assert symbolizer.function_ranges("first_owner", "other.c").anywhere.shape == (0, 2)
    assert symbolizer.function_ranges("no_such_function").anywhere.shape == (0, 2)
