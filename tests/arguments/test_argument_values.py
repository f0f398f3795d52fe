"""Argument names, types and values at every frame of real programs, against gdb at the same stops."""

from __future__ import annotations

from collections import Counter

import pytest

from unwind.arguments.argument_reader import arguments_of

# clang leaves the library's classes to a library that was built with debugging information.
LIBRARY = ("-std=c++17", "-D_GLIBCXX_USE_CXX11_ABI=1")
WHOLE = ("-fno-eliminate-unused-debug-types",)
VARIANTS = [
    pytest.param(source, compiler, flags, id=f"{source}-{compiler}{''.join(flags)}")
    for source, compilers, variants in (
        ("records.c", ("gcc", "clang"), (("-O0", "-gdwarf-4"), ("-O2", "-gdwarf-5"), ("-O3", "-gdwarf-4"))),
        ("shapes.cpp", ("g++", "clang++"), (("-O0", "-gdwarf-4"), ("-O2", "-gdwarf-5"), ("-O3", "-gdwarf-4"))),
        ("layouts.c", ("gcc", "clang"), (("-O0", "-gdwarf-5"), ("-Os", "-gdwarf-3"), ("-O1", "-gdwarf-2"))),
        (
            "containers.cpp",
            ("g++", "clang++"),
            (("-O0", "-gdwarf-5", *LIBRARY), ("-O2", "-gdwarf-4", *LIBRARY), ("-O1", "-gdwarf-5", *LIBRARY)),
        ),
    )
    for compiler in compilers
    for flags in variants
]

# Clang leaves out the pieces of these objects that it lost. gdb makes up 0 and a pointer for the missing parts:
# z is 1 + 2.5i in the program, pair.y is a double.
GDB_IS_WRONG = {("floats", "z"), ("records", "pair")}


def excuse(frame, name: str, expected: str, argument, compiler: str) -> str | None:
    """Why gdb's value is not one that must be told, None when it must."""
    why = argument.why or ""
    if expected.startswith("<error reading") or expected == "<incomplete type>":
        return "gdb has no value"
    if compiler == "clang" and (frame.name, name) in GDB_IS_WRONG:
        return "gdb makes up a missing piece"
    if compiler.startswith("clang") and "<synthetic pointer>" in expected and "optimized out" in f"{argument.value} {why}":
        return "gdb makes up a missing piece"
    if frame.level and why.startswith("register ") and why.endswith("is not recovered in this frame"):
        return "gdb assumes that the callee kept a caller-saved register"
    if "the caller's frame is not known" in why:
        return "the dump ends at main"
    if compiler.startswith("clang") and ("tail calls" in why or "jumped here" in why):
        return "gdb does not read clang's tail calls"
    return None


@pytest.mark.parametrize(("source", "compiler", "flags"), VARIANTS)
def test_values_are_those_of_gdb(build, comparable, tmp_path, source, compiler, flags):
    program = build(source, compiler, *flags)
    equal = both_unknown = more = 0
    excused: Counter[str] = Counter()
    differences: list[str] = []
    for frame in (f for stop in program.stops(program.instructions(every=3), tmp_path) for f in stop):
        if "-O0" in flags and not frame.body:
            continue
        ours = {argument.name: argument for argument in arguments_of(frame.die, frame.state)}
        for name, type_, value in frame.expected:
            argument = ours[name]
            where = f"{frame.name}#{frame.level} {frame.state.pc:#x} {name}: gdb {type_} = {value}"
            # gdb's parser of C++ names takes the builtin type for a name that qualifies int.
            if argument.type != type_.replace("unsigned int __int128", "unsigned __int128"):
                differences.append(f"{where}; our type {argument.type}")
            assert (argument.value is None) != (argument.why is None)
            if argument.value is not None and comparable(argument.value) == comparable(value):
                equal += 1
            elif argument.value is None and value == "<optimized out>":
                both_unknown += 1
            elif argument.value is not None and value == "<optimized out>":
                more += 1
            elif reason := excuse(frame, name, value, argument, compiler):
                excused[reason] += 1
            else:
                differences.append(f"{where}; ours {argument.value or argument.why}")
    print(f"{equal} equal, {both_unknown} optimized out in both, {more} only ours, {dict(excused)}")
    assert not differences, f"{len(differences)}:\n" + "\n".join(differences[:40])
    assert equal > 200
    assert more + sum(excused.values()) < equal


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
