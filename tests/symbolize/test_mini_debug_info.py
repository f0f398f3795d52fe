"""MiniDebugInfo, made as distributions make it: the names that gdb gives, and what is said of a damaged one."""

from __future__ import annotations

import lzma
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from unwind.symbolize.module_symbols import ModuleSymbols

Build = Callable[..., Path]
Addresses = Callable[[Path, int], list[int]]
RequireTool = Callable[[str, str], str]


def symbol_names(path: Path, *options: str) -> set[str]:
    rows = subprocess.run(["nm", *options, str(path)], capture_output=True, text=True, check=True).stdout.split("\n")
    return {row.split()[-1].partition("@")[0] for row in rows if re.match(r"\w+ [tTwW] ", row)}


def with_mini_debug_info(whole: Path, folder: Path, damage: Callable[[bytes], bytes] = bytes) -> Path:
    """A stripped copy of `whole` whose functions are in .gnu_debugdata only."""
    kept, names, mini = folder / "kept", folder / "names", folder / "mini"
    stripped, target = folder / "stripped", folder / "program"
    names.write_text("\n".join(symbol_names(whole) - symbol_names(whole, "-D", "--defined-only")))
    subprocess.run(["objcopy", "--only-keep-debug", whole, kept], check=True)
    subprocess.run(["objcopy", "-S", f"--keep-symbols={names}", kept, mini], check=True)
    packed = folder / "mini.xz"
    packed.write_bytes(damage(lzma.compress(mini.read_bytes())))
    subprocess.run(["strip", "-o", stripped, whole], check=True)
    subprocess.run(["objcopy", f"--add-section=.gnu_debugdata={packed}", stripped, target], check=True)
    return target


def gdb_names(gdb: str, program: Path, addresses: list[int]) -> list[str | None]:
    """`name` or `name + 8` of each address, as gdb's symbol tables have it."""
    commands = [item for at in addresses for item in ("-ex", f"echo ={at:#x}:", "-ex", f"info symbol {at:#x}")]
    command = [gdb, "-nx", "-batch", "-ex", "set print demangle off", *commands, program]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.findall(r"^=0x[0-9a-f]+:(?:(.+) in section \S+(?: of .+)?|.*)$", output, re.M)
    assert len(found) == len(addresses)
    return [name or None for name in found]


@pytest.mark.parametrize("options", [("gcc", "-O2"), ("g++", "-O0")], ids=" ".join)
def test_functions_are_named_as_gdb_names_them(
    options: tuple[str, ...], build: Build, text_addresses: Addresses, tmp_path: Path, require_tool: RequireTool
) -> None:
    whole = build(*options, "-rdynamic")
    program = with_mini_debug_info(whole, tmp_path)
    assert not ElfImage.open(program).has(".symtab")
    addresses = text_addresses(whole, 13)
    symbols = ModuleSymbols.open(program)
    told = set()
    for address, theirs in zip(addresses, gdb_names(require_tool("gdb", "gdb"), program, addresses), strict=True):
        frames = symbols.frames_at(address)
        if theirs is None or not frames:  # gdb stretches a symbol over the padding behind its function
            assert not frames or symbols.symbol_names.at(address) is not None
            continue
        name, _, offset = theirs.partition(" + ")
        (ours,) = frames
        aliases = {each.name for each in symbols.symbol_names.all() if each.address == ours.function_start}
        assert name in aliases and (ours.linkage_name or ours.function) in aliases, (hex(address), theirs, ours)
        assert ours.offset == int(offset or "0"), (hex(address), theirs, ours)
        told.add(ours.function)
    assert ("deregister_tm_clones" if options[0] == "gcc" else "store::(anonymous namespace)::weigh(int)") in told
    assert symbols.problems == []


def test_symbols_outside_are_found_with_those_inside(build: Build, tmp_path: Path) -> None:
    whole = build("gcc", "-O0", "-rdynamic")
    inside, outside = "post", "balance"
    assert inside not in symbol_names(whole, "-D") and outside in symbol_names(whole, "-D")
    wanted = {name: ModuleSymbols.open(whole).symbol_names.addresses_of(name) for name in (inside, outside)}
    ours = ModuleSymbols.open(with_mini_debug_info(whole, tmp_path)).symbol_names
    assert {name: ours.addresses_of(name) for name in wanted} == wanted
    assert all(len(each) == 1 for each in wanted.values())


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"junk" + data, lambda data: lzma.compress(b"no ELF file")],
    ids=["truncated", "not compressed", "no ELF file"],
)
def test_a_damaged_one_is_told_and_dynamic_symbols_are_used(
    damage: Callable[[bytes], bytes], build: Build, tmp_path: Path
) -> None:
    whole = build("gcc", "-O0", "-rdynamic")
    program = with_mini_debug_info(whole, tmp_path, damage)
    symbols = ModuleSymbols.open(program)
    (start,) = ModuleSymbols.open(whole).symbol_names.addresses_of("balance")
    assert [frame.function for frame in symbols.frames_at(start)] == ["balance"]
    assert any(".gnu_debugdata" in problem and str(program) in problem for problem in symbols.problems)
