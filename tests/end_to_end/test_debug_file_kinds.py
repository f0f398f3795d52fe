"""Frames and argument values equal gdb's however the debugging information is kept: split files, packages, type units,
DWARF 2 and 3, files shared by dwz. The comparison is that of test_names_and_arguments.py.

gdb reads the same code with plain debugging information where it cannot be trusted with the other kind: gdb 13 shows
what the location lists of clang's split units tell as optimized out, and does not read gcc's split type units.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from oracles import elf_facts
from programs import build as builder
from test_names_and_arguments import PROGRAMS, compare, probe_addresses

TYPE_UNITS = "-fdebug-types-section"
SPLIT = "-gsplit-dwarf"


@pytest.fixture
def compiled(tmp_path, require_tool):
    """`compiled(folder, name, compiler, flags)`: the program where it stays, as paths in split units want it."""

    def compile_program(folder: str, name: str, compiler: str, flags: tuple[str, ...]) -> Path:
        program = builder.PROGRAMS[name]
        driver = require_tool(builder.compiler_for(name, compiler), compiler)
        sources = [str(builder.SOURCES / source) for source in program.sources]
        command = [driver, "-g", *flags, "-fomit-frame-pointer", *program.flags, "-o", name, *sources]
        (tmp_path / folder).mkdir()
        subprocess.run(command, cwd=tmp_path / folder, check=True, capture_output=True)
        return tmp_path / folder / name

    return compile_program


def compare_all(ptap, gdb_oracle, program: Path, compiler: str, traced: Path | None = None) -> None:
    traced = traced or program
    addresses = probe_addresses(ptap, f'process("{traced}").function("*@{PROGRAMS[program.name]}")')
    assert addresses == probe_addresses(ptap, f'process("{program}").function("*@{PROGRAMS[program.name]}")')
    assert len(addresses) > 5
    compare(ptap, gdb_oracle, program, compiler, addresses, traced)


def by_flags(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(
    ("name", "compiler", "flags"),
    [
        ("arguments", "gcc", ("-O2", "-gdwarf-4")),
        ("orders", "gcc", ("-O2", "-gdwarf-5")),
        ("cpp_arguments", "gcc", ("-O2", "-gdwarf-5", TYPE_UNITS)),
        ("arguments", "clang", ("-O2", "-gdwarf-5")),
        ("cpp_arguments", "clang", ("-O2", "-gdwarf-4", TYPE_UNITS)),
        ("shapes", "clang", ("-O0", "-gdwarf-5")),
    ],
    ids=by_flags,
)
def test_split_files(ptap, gdb_oracle, compiled, name, compiler, flags):
    whole = compiled("whole", name, compiler, flags)
    split = compiled("split", name, compiler, (*flags, SPLIT))
    assert list(split.parent.glob("*.dwo"))
    assert elf_facts.symbols(split) == elf_facts.symbols(whole)
    compare_all(ptap, gdb_oracle, whole, compiler, split)


@pytest.mark.parametrize(
    ("name", "compiler", "flags"),
    [
        ("cpp_arguments", "gcc", ("-O2", "-gdwarf-4", TYPE_UNITS)),
        ("cpp_arguments", "gcc", ("-O0", "-gdwarf-5", TYPE_UNITS)),
        ("cpp_arguments", "clang", ("-O2", "-gdwarf-5", TYPE_UNITS)),
        ("shapes", "clang", ("-O2", "-gdwarf-4", TYPE_UNITS)),
        ("orders", "gcc", ("-O0", "-gdwarf-2", "-gstrict-dwarf")),
        ("arguments", "gcc", ("-O2", "-gdwarf-2")),
        ("cpp_arguments", "gcc", ("-O2", "-gdwarf-3", "-gstrict-dwarf")),
        ("orders", "clang", ("-O0", "-gdwarf-2", "-gstrict-dwarf")),
        ("cpp_arguments", "clang", ("-O2", "-gdwarf-3")),
    ],
    ids=by_flags,
)
def test_type_units_and_old_versions(ptap, gdb_oracle, compiled, name, compiler, flags):
    compare_all(ptap, gdb_oracle, compiled("program", name, compiler, flags), compiler)


@pytest.mark.parametrize(("compiler", "version"), [("gcc", "-gdwarf-5"), ("clang", "-gdwarf-4")])
def test_files_shared_by_dwz(ptap, gdb_oracle, compiled, require_tool, compiler, version):
    dwz = require_tool("dwz", "dwz")
    whole = compiled("whole", "cpp_arguments", compiler, ("-O2", version, "-Wl,--build-id"))
    shared = compiled("less", "cpp_arguments", compiler, ("-O2", version, "-Wl,--build-id"))
    compiled("other", "cpp_arguments", compiler, ("-O1", version, "-Wl,--build-id"))
    command = [dwz, "-m", "common.debug", "cpp_arguments", "../other/cpp_arguments"]
    subprocess.run(command, cwd=shared.parent, check=True, capture_output=True)
    assert (shared.parent / "common.debug").exists()
    compare_all(ptap, gdb_oracle, whole, compiler, shared)
