"""Argument names, types and values at every frame of real programs, against gdb at the same stops."""

from __future__ import annotations

import pytest

from unwind.arguments.argument_reader import arguments_of

VARIANTS = [
    pytest.param(source, compiler, flags, id=f"{source}-{compiler}{''.join(flags)}")
    for source, compilers in (("records.c", ("gcc", "clang")), ("shapes.cpp", ("g++", "clang++")))
    for compiler in compilers
    for flags in (("-O0", "-gdwarf-5"), ("-O2", "-gdwarf-5"), ("-O2", "-gdwarf-4"), ("-O3", "-gdwarf-4"))
]


@pytest.mark.parametrize(("source", "compiler", "flags"), VARIANTS)
def test_values_are_those_of_gdb(build, tmp_path, source, compiler, flags):
    program = build(source, compiler, *flags)
    stops = program.stops(program.instructions([], 3), tmp_path)
    frames = values = unknown = 0
    differences: list[str] = []
    for stop in stops:
        for frame in stop:
            frames += 1
            ours = {a.name: a for a in arguments_of(frame.die, frame.state)}
            if frame.name != (frame.die.inherited(0x03)) and not frame.name.endswith(")"):
                pass
            for name, type_, value in frame.expected:
                values += 1
                argument = ours.get(name)
                where = f"{frame.name}#{frame.level}+{frame.state.pc:#x} {name}: gdb {type_} = {value}"
                if argument is None:
                    differences.append(f"{where}; ours missing of {list(ours)}")
                    continue
                if argument.type != type_:
                    differences.append(f"{where}; our type {argument.type}")
                if argument.value is None:
                    if value == "<optimized out>":
                        unknown += 1
                    else:
                        differences.append(f"{where}; ours unavailable: {argument.why}")
                elif argument.value != value:
                    differences.append(f"{where}; ours {argument.value}")
    print(f"{frames} frames, {values} values, {unknown} optimized out in both")
    assert frames > 100 and values > 100
    assert unknown < values / 2
    assert not differences, f"{len(differences)} of {values}:\n" + "\n".join(differences[:40])
