"""Comparing our traces with gdb's frames at the same stops.

Both run without address randomization, so code addresses are equal. Stack addresses differ with the environment
and the arguments of the process, and are made alike before values are compared.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oracles import elf_facts
from oracles.gdb import Frame, Hit

# Where the kernel puts a position-independent program when it does not randomize (arch/x86, ELF_ET_DYN_BASE).
_PIE_BASE = 0x555555554000
_STATIC_PIE_BASE = 0x7FFFF7FF7000

_STACK_ADDRESS = re.compile(r"0x7ffffff[0-9a-f]+")


def unparameterised(name: str | None) -> str | None:
    """`ns::f<int>(char) const` as gdb names a frame: without parameters."""
    if name is None:
        return None
    depth, end = 0, len(name)
    for at, character in enumerate(name):
        if character == "<":
            depth += 1
        elif character == ">":
            depth -= 1
        elif character == "(" and depth == 0 and not name[at:].startswith("(anonymous namespace)"):
            end = at
            break
    return name[:end]


def gdb_places(frames: Sequence[Frame]) -> list[tuple[Any, ...]]:
    return [
        (
            frame.pc,
            unparameterised(frame.function),
            frame.file if frame.line else None,
            frame.line or None,
            frame.inlined,
        )
        for frame in frames
        if frame.kind != "signal"
    ]


def place_differences(program: Path, hit: Hit, trace: dict[str, Any]) -> list[str]:
    """Frames that differ from gdb's, empty when all are equal.

    At an address with several line rows gdb takes the last one that is a statement, although a later row covers the
    instruction: there addr2line, which reads the rows as they are, is the judge.
    """
    theirs, ours = gdb_places(hit.frames), our_places(trace)
    if len(theirs) != len(ours):
        return [f"{len(ours)} frames, gdb has {len(theirs)}: {[each[1] for each in ours]}"]
    found = []
    for their, our in zip(theirs, ours, strict=True):
        if their == our:
            continue
        same_but_line = their[:3] == our[:3] and their[4] == our[4]
        if same_but_line and our is ours[0] and our[3] in _lines_by_addr2line(program, our[0]):
            continue
        if their[0] == our[0] and their[2:] == our[2:] and _are_aliases(program, their[1], our[1]):
            continue
        found.append(f"{our}, gdb has {their}")
    return found


def _bias(program: Path) -> int:
    """Run-time address minus file address of a program that was started without randomization."""
    is_fixed = program.read_bytes()[16] == 2  # e_type is ET_EXEC
    if is_fixed:
        return 0
    dynamic_linker = ".interp" in elf_facts.sections(program)
    return _PIE_BASE if dynamic_linker else _STATIC_PIE_BASE


def _are_aliases(program: Path, one: str | None, other: str | None) -> bool:
    """True when the program's symbol table has both names at one address: either is right."""
    addresses = [{each.address for each in elf_facts.symbols(program) if each.name == name} for name in (one, other)]
    return bool(addresses[0] & addresses[1])


def _lines_by_addr2line(program: Path, pc: int) -> list[int]:
    bias = _bias(program)
    done = subprocess.run(
        ["addr2line", "-i", "-e", str(program), f"{pc - bias:#x}"], capture_output=True, text=True, check=True
    )
    lines = [line.split(" ")[0].rpartition(":")[2] for line in done.stdout.splitlines()]
    return [int(line) for line in lines if line.isdigit()]


def our_places(trace: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (int(frame["address"], 16), unparameterised(frame["function"]), frame["file"], frame["line"], frame["inlined"])
        for frame in trace["frames"]
    ]


def comparable(value: str | None) -> str | None:
    return _STACK_ADDRESS.sub("STACK", value) if value is not None else None


def argument_differences(hit: Hit, trace: dict[str, Any]) -> list[str]:
    """What gdb gives and we do not, or give otherwise; frames are matched in order."""
    found = []
    for theirs, ours in zip(hit.frames, trace["frames"], strict=False):
        values = {argument["name"]: argument for argument in ours["arguments"]}
        for argument in theirs.arguments:
            mine = values.get(argument.name)
            where = f"{theirs.function}: {argument.name}"
            if mine is None:
                found.append(f"{where}: missing, gdb has {argument.value}")
            elif argument.unavailable:
                if mine["value"] is not None:
                    found.append(f"{where}: {mine['value']}, gdb has {argument.value}")
            elif comparable(mine["value"]) != comparable(argument.value):
                found.append(f"{where}: {mine['value'] or mine['why']}, gdb has {argument.value}")
    return found
