"""Argument names, types and values at every frame of real programs, against gdb at the same stops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from unwind.arguments.argument_reader import arguments_of
from unwind.arguments.frame_state import state_of_address
from unwind.arguments.unavailable import Reason, Unavailable

VARIANTS = [
    pytest.param(source, compiler, flags, id=f"{source}-{compiler}{''.join(flags)}")
    for source, compilers, variants in (
        ("records.c", ("gcc", "clang"), (("-O0", "-gdwarf-4"), ("-O2", "-gdwarf-5"), ("-O3", "-gdwarf-4"))),
        ("shapes.cpp", ("g++", "clang++"), (("-O0", "-gdwarf-4"), ("-O2", "-gdwarf-5"), ("-O3", "-gdwarf-4"))),
        ("layouts.c", ("gcc", "clang"), (("-O0", "-gdwarf-5"), ("-Os", "-gdwarf-3"), ("-O1", "-gdwarf-2"))),
    )
    for compiler in compilers
    for flags in variants
]

# Clang leaves out the pieces of these objects that it lost. gdb makes up 0 and a pointer for the missing parts:
# z is 1 + 2.5i in the program, pair.y is a double.
GDB_FAILED = re.compile(r"^warning: |Python Exception |<error reading variable")
IMPOSSIBLE = re.compile(r"of length (-|\d{7})|capacity (-|\d{9})|with (-|\d{7})\d* elements")
GDB_IS_WRONG = {("floats", "z"), ("records", "pair")}


def excuse(frame, name: str, expected: str, argument, compiler: str) -> str | None:
    """Why gdb's value is not one that must be told, None when it must."""
    why = argument.why or ""
    if expected.startswith("<error reading") or expected == "<incomplete type>":
        return "gdb has no value"
    if compiler == "clang" and (frame.name, name) in GDB_IS_WRONG:
        return "gdb makes up a missing piece"
    if (
        compiler.startswith("clang")
        and "<synthetic pointer>" in expected
        and "optimized out" in f"{argument.value} {why}"
    ):
        return "gdb makes up a missing piece"
    if GDB_FAILED.search(expected):
        return "gdb's printer fails"
    if IMPOSSIBLE.search(expected) and " of length " not in f"{argument.value}":
        return "gdb makes a container of memory that holds none (any more)"
    if frame.level and why.startswith("register ") and why.endswith("is not recovered in this frame"):
        return "gdb assumes that the callee kept a caller-saved register"
    if "the caller's frame is not known" in why:
        return "the dump ends at main"
    if compiler.startswith("clang") and ("tail calls" in why or "jumped here" in why):
        return "gdb does not read clang's tail calls"
    return None


@dataclass
class Comparison:
    """What became of the arguments of the frames that were compared."""

    compiler: str
    comparable: Callable[[str], str]
    equal: int = 0
    both_unknown: int = 0
    more: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def add(self, frame) -> None:
        arguments = arguments_of(frame.die, frame.state)
        ours = {argument.name: argument for argument in arguments}
        if len(ours) < len(arguments):
            return  # a parameter pack: gdb's values cannot be told apart by their names
        for name, type_, value in frame.expected:
            argument = ours[name]
            where = f"{frame.name}#{frame.level} {frame.state.pc:#x} {name}: gdb {type_} = {value}"
            # gdb spells the arguments of templates in its own way, and takes "unsigned" for an int's.
            spelled = type_.replace("unsigned int __int128", "unsigned __int128")
            if self.compiler == "rustc":
                spelled = spelled.replace("*mut ", "&")  # gdb does not tell references from pointers
            if argument.type != spelled and not ("<" in type_ and "<" in argument.type):
                self.differences.append(f"{where}; our type {argument.type}")
            assert (argument.value is None) != (argument.why is None)
            if argument.value is not None and self.comparable(argument.value) == self.comparable(value):
                self.equal += 1
            elif argument.value is None and value == "<optimized out>":
                self.both_unknown += 1
            elif argument.value is not None and value == "<optimized out>":
                self.more += 1
            elif reason := excuse(frame, name, value, argument, self.compiler):
                self.excused[reason] += 1
            else:
                self.differences.append(f"{where}; ours {argument.value or argument.why}")

    def check(self, least: int, excusable: float = 1) -> None:
        print(f"{self.equal} equal, {self.both_unknown} optimized out in both, {self.more} only ours, {self.excused}")
        assert not self.differences, f"{len(self.differences)}:\n" + "\n".join(self.differences[:40])
        assert self.equal > least
        assert self.more + sum(self.excused.values()) < excusable * self.equal


@pytest.mark.parametrize(("source", "compiler", "flags"), VARIANTS)
def test_values_are_those_of_gdb(build, comparable, tmp_path, source, compiler, flags):
    program = build(source, compiler, *flags)
    compared = Comparison(compiler, comparable)
    for frame in (f for stop in program.stops(program.instructions(every=3), tmp_path) for f in stop):
        if "-O0" not in flags or frame.body:
            compared.add(frame)
    compared.check(200)


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("g++", ("-O0", "-gdwarf-5")),
        ("g++", ("-O2", "-gdwarf-4")),
        ("g++", ("-O1", "-gdwarf-5", "-D_GLIBCXX_USE_CXX11_ABI=0")),
        ("clang++", ("-O0", "-gdwarf-5", "-fstandalone-debug")),
        ("clang++", ("-Os", "-gdwarf-4", "-fstandalone-debug")),
    ],
    ids=lambda each: each if isinstance(each, str) else "".join(each),
)
def test_containers_are_those_of_gdb_and_its_printers_for_libstdcxx(build, comparable, tmp_path, compiler, flags):
    program = build("containers.cpp", compiler, "-std=c++17", *flags)
    compared = Comparison(compiler, comparable)
    for frame in (f for frames in program.calls_of("sink", tmp_path) for f in frames):
        compared.add(frame)
    # At a call inside a function gdb takes every register for the caller's.
    compared.check(40, excusable=2)


def test_values_of_rust_are_those_of_gdb(build, comparable, tmp_path):
    program = build("rusty.rs", "rustc", "-g", "-C", "opt-level=0")
    compared = Comparison("rustc", comparable)
    for frame in (f for frames in program.calls_of("sink", tmp_path) for f in frames if f.level == 1):
        if frame.name.startswith("rusty::"):
            compared.add(frame)
    compared.check(15)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("flags", [("-O2", "-gdwarf-5"), ("-O2", "-gdwarf-4")], ids=" ".join)
def test_without_vector_registers_only_floats_are_missing(build, tmp_path, compiler, flags):
    program = build("records.c", compiler, *flags)
    reasons = set()
    for frame in (f for stop in program.stops(program.instructions(every=9), tmp_path, 1) for f in stop):
        full = arguments_of(frame.die, frame.state)
        frame.state.vector_registers = {}
        for argument, known in zip(arguments_of(frame.die, frame.state), full, strict=True):
            if argument != known:
                assert argument.type in ("float", "double", "complex double", "complex", "struct small", "struct pair")
                reasons.add(argument.why)
    assert "floating-point registers are not captured" in reasons


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_what_an_address_alone_tells_is_what_gdb_finds_there(build, comparable, tmp_path, compiler):
    program = build("records.c", compiler, "-O2", "-gdwarf-5")
    told, reasons = 0, set()
    for frame in (f for stop in program.stops(program.instructions(every=5), tmp_path, 1) for f in stop):
        function = frame.state.function()
        values = {each.name: each for each in arguments_of(frame.die, state_of_address(frame.state.pc, function))}
        for name, type_, value in frame.expected:
            assert values[name].type == type_
            if values[name].value is not None and "<" not in values[name].value:
                assert comparable(values[name].value) == comparable(value), (frame.name, name)
                told += 1
            elif values[name].value is None:
                reasons.add(values[name].why)
    assert told > 2
    assert reasons == {"optimized out", str(Unavailable(Reason.NO_PROCESS))}
