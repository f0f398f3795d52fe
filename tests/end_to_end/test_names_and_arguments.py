"""Functions, files, lines, inlined calls and argument values of whole stacks, against gdb at the same stops.

Every function and inlined copy of a program is a stop; every frame's arguments are compared, as gdb prints them. All
compilers, optimizations and DWARF versions in turn. Without address randomization both see the same addresses of code,
data and heap. What gdb is known to have wrong, or has more of by guessing, is listed in `accepted`, each with what
proves it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

import pytest
from oracles import elf_facts
from oracles.agreement import Difference, differences
from oracles.gdb import GdbOracle, Hit, Stop
from ptap_run import Ptap

PROGRAMS = {
    "arguments": "arguments.c",
    "cpp_arguments": "cpp_arguments.cpp",
    "inline_nest": "inline_nest.c",
    "orders": "*.c",
    "shapes": "shapes.cpp",
}
_NO_BASE = "clang leaves a base of std::string out, and gdb's printer for it fails"
HITS_PER_STOP = 2
ALL_HITS = 2_000
CALLS_CHANGE = re.compile(r"register (r[acd]x|r[sd]i|r8|r9|r1[01]|xmm\d+) is not recovered in this frame")


def literal(value: str) -> str:
    """A value with its addresses, but those of the stack, which lies elsewhere in each run; and symbols and types
    spelled in one way.
    """
    value = re.sub(r"\b0x7ff[0-9a-f]{9}\b", "0x(stack)", value)
    value = re.sub(r"<error: Cannot access memory at address (0x[0-9a-f]+)>", r"<memory at \1 not captured>", value)
    # Symbols: `main()`; gcc's `number.5` and clang's `main.number`, which gdb takes for D's, are static variables.
    value = re.sub(r"<([\w:]+)\([^<>]*\)(\+\d+)?>", r"<\1\2>", value)
    value = re.sub(r"<(\w+)\[(\w+)\](\+\d+)?>", r"<\1.\2\3>", value)
    value = re.sub(r"<(\w+)\.\d+(\+\d+)?>", r"<\1\2>", value)
    # Base classes: gdb spells clang's template arguments in two ways.
    return re.sub(r"<[^<>]*<.*?> = ", lambda match: match[0].replace("UL", "ul").replace(" *", "*"), value)


class Compared:
    """A program and its stops in both, and the differences that are not gdb's to judge."""

    def __init__(self, program: Path, compiler: str, bias: int) -> None:
        self.program = program
        self.compiler = compiler
        self.bias = bias
        """Run-time address less file address."""
        self.entries = {symbol.address for symbol in elf_facts.symbols(program)}
        self.accepted: Counter[str] = Counter()

    def differences(self, frames: list[dict[str, Any]], hit: Hit) -> list[str]:
        """What remains to be told of one hit."""
        told = []
        for each in differences(frames, hit, arguments=range(len(frames)), normal=literal):
            reason = self._line_reason(each, frames) if each.line else self._value_reason(each, frames)
            if reason is None:
                told.append(f"{frames[0]['address']} {each}")
            else:
                self.accepted[reason] += 1
        return told

    def _line_reason(self, difference: Difference, frames: list[dict[str, Any]]) -> str | None:
        frame = frames[difference.index or 0]
        if frame["module"] != str(self.program):
            return None
        # A frame that is not the innermost has the line of the call before its return address.
        interrupted = frame["address"] == frames[0]["address"]
        rows = elf_facts.line_at(self.program, int(frame["address"], 16) - self.bias - (not interrupted))
        # addr2line has no file name for some of gcc's link-time units, and no line where the row says 0.
        ours = (PurePath(frame["file"]).name, frame["line"])
        if rows in (ours, ("<artificial>", frame["line"])) or (rows is None and frame["line"] is None):
            return "of several rows at one address gdb takes the last statement, addr2line the last row"
        return None

    def _value_reason(self, difference: Difference, frames: list[dict[str, Any]]) -> str | None:
        ours, gdbs = difference.ours, difference.gdbs
        if ours is None or gdbs is None or difference.index is None:
            return None
        why = ours["why"] or ""
        frame = frames[difference.index]
        interrupted = frame["address"] == frames[0]["address"]
        if "nullptr_t" in gdbs.type and gdbs.value in (None, "<incomplete type>") and ours["value"] == "0x0":
            return "gdb does not read std::nullptr_t"
        if why == "before the end of the prologue, which stores it":
            if interrupted and int(frame["address"], 16) - self.bias in self.entries:
                return "gdb reads a place in the frame before the function's first instruction"
        elif "_M_dataplus = <incomplete type>" in (ours["value"] or ""):
            return _NO_BASE
        elif why == "optimized out" and "::*)(" in gdbs.type:
            return "gdb takes the half of a pointer to member that is nowhere for 0"
        elif "<synthetic pointer>" in (gdbs.value or "") and "<optimized out>" in (ours["value"] or ""):
            return "gdb shows what lies behind the last piece of an object as pointers"
        elif self.compiler == "clang" and not interrupted and CALLS_CHANGE.fullmatch(why):
            return "LLVM's location ranges do not end at calls: gdb shows what the callee left in the register"
        elif why == "value at function entry is not known: the call was for another function, which jumped here":
            return "gdb goes on through the tail calls between"
        return None


def probe_addresses(ptap: Ptap, probe: str) -> list[int]:
    listed = ptap.run("list", "--format", "json", probe)
    assert listed.status == 0, listed.stderr
    return sorted({int(json.loads(line)["address"], 16) for line in listed.lines})


def first_hits(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The traces of the first hits at each address, in order."""
    seen: Counter[str] = Counter()
    chosen = []
    for trace in traces:
        seen[trace["frames"][0]["address"]] += 1
        if seen[trace["frames"][0]["address"]] <= HITS_PER_STOP:
            chosen.append(trace)
    return chosen


def compare(
    ptap: Ptap,
    gdb_oracle: GdbOracle,
    program: Path,
    compiler: str,
    addresses: list[int],
    traced: Path | None = None,
) -> Counter[str]:
    """Compares all hits; gives how often which difference was accepted.

    `traced` is the program that ptap reads where its debugging information is kept in another way than gdb's `program`
    keeps it; their code is the same.
    """
    traced = traced or program
    stops = [Stop(program, each) for each in addresses]
    theirs = gdb_oracle.run(
        program, stops, max_hits=ALL_HITS, hits_per_stop=HITS_PER_STOP, registers=False, pretty_printers=True
    )
    # By address: a function's probe would leave out the calls inlined at its first instruction, and gdb does not.
    probes = [f'process("{traced}").statement({each:#x})' for each in addresses]
    run = ptap.trace(probes, [traced], "--arguments", "all")
    ours = first_hits(run.traces)
    for frame in (frame for trace in ours for frame in trace["frames"] if frame["module"] == str(traced)):
        frame["module"] = str(program)
    assert theirs and len(ours) == len(theirs), run.stderr
    compared = Compared(program, compiler, theirs[0].frames[0].pc - addresses[theirs[0].stop])
    told = [
        each for hit, trace in zip(theirs, ours, strict=True) for each in compared.differences(trace["frames"], hit)
    ]
    assert not told, "\n".join(dict.fromkeys(told))
    return compared.accepted


@pytest.mark.parametrize("name", PROGRAMS)
def test_frames_and_arguments_equal_gdbs(ptap, gdb_oracle, programs, variant, name):
    program = programs.build_variant(name, variant)
    addresses = probe_addresses(ptap, f'process("{program}").function("*@{PROGRAMS[name]}")')
    accepted = compare(ptap, gdb_oracle, program, variant.compiler, addresses)
    if "-O0" in variant.flags:
        # Behind its prologue unoptimized code has everything in its place.
        assert set(accepted) <= {"gdb does not read std::nullptr_t", _NO_BASE}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_before_the_prologue_unoptimized_code_has_no_arguments(ptap, programs, compiler):
    program = programs.build("inline_nest", compiler, ("-O0", "-g"))
    entry = elf_facts.address(program, "called_from_nest")
    (body,) = elf_facts.second_line_addresses(program, "called_from_nest")
    run = ptap.trace([f'process("{program}").statement({at:#x})' for at in (entry, body)], [program])
    shown = [trace["frames"][0]["arguments"][0] for trace in run.traces]
    assert [(one["value"], one["why"]) for one in shown[:2]] == [
        (None, "before the end of the prologue, which stores it"),
        ("112", None),
    ]
    assert all((one["value"] is None) == (index % 2 == 0) for index, one in enumerate(shown))
