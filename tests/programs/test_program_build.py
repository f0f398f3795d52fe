"""Every test program builds with every compiler, and does what its own checks want: it exits with 0."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from oracles import elf_facts
from programs.build import EXAMPLES, PROGRAMS, SOURCES, BuildError, build

RUNNABLE = [name for name, program in PROGRAMS.items() if not program.shared]
VALUE_PROGRAMS = ["arguments", "cpp_arguments", "inline_nest", "return_value"]


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_every_program_runs(programs, name: str, compiler: str) -> None:
    if name == "dynamic_frame" and " avx " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX")
    done = run(programs.build(name, compiler))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", VALUE_PROGRAMS)
def test_every_variant_runs(programs, name: str, variant) -> None:
    assert run(programs.build_variant(name, variant)).returncode == 0


def test_no_program_keeps_frame_pointers(programs) -> None:
    code = elf_facts.instructions(programs.build("library_call"), "sort_numbers")
    assert not any(one.mnemonic == "mov" and one.operands == "%rsp,%rbp" for one in code)


def test_a_program_is_built_once(programs) -> None:
    first = programs.build("pie")
    stamp = first.stat().st_mtime_ns
    assert programs.build("pie") == first
    assert first.stat().st_mtime_ns == stamp
    assert programs.build("pie", flags=("-O0", "-g")) != first


def test_every_source_is_some_program_s() -> None:
    named = {source for program in PROGRAMS.values() for source in program.sources}
    present = {path.name for path in SOURCES.iterdir() if path.suffix in (".c", ".cpp", ".S")}
    assert present == {source for source in named if not source.startswith("/")}


def test_a_build_that_fails_shows_why(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-option"):
        build("pie", flags=("--no-such-option",), directory=tmp_path)
    with pytest.raises(BuildError, match="not installed"):
        build("pie", "no-such-compiler", directory=tmp_path)
    assert not [path for path in tmp_path.rglob("pie") if path.is_file()]


def test_the_examples_have_what_their_comments_say_to_probe(
    tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    require_tool("make", "make")
    subprocess.run(["make", "-C", EXAMPLES, f"BUILD={tmp_path}"], check=True, capture_output=True)
    checked = 0
    for source in EXAMPLES.iterdir():
        text = source.read_text() if source.suffix in (".c", ".cpp") else ""
        for program, name in re.findall(r'process\("examples/build/(\w+)"\)\.\w+\("([\w:]+)"\)', text):
            assert name.rpartition("::")[2] in debug_names(tmp_path / program)
            checked += 1
        for program, name, file, line in re.findall(r'(\w+)"\)\.statement\("(\w+)@([\w.]+):(\d+)"\)', text):
            code = elf_facts.instructions(tmp_path / program, name)
            assert set(statements(tmp_path / program, file, int(line))) & {one.address for one in code}
            checked += 1
    assert checked >= 5


def debug_names(program: Path) -> set[str]:
    done = subprocess.run(["readelf", "--debug-dump=info", program], capture_output=True, text=True, check=True)
    return set(re.findall(r"DW_AT_name\s*:(?:.*: )?\s*(\S+)", done.stdout))


def statements(program: Path, file: str, line: int) -> list[int]:
    """The addresses that the line table gives for a line."""
    done = subprocess.run(
        ["readelf", "--debug-dump=decodedline", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return [
        int(address, 16)
        for address in re.findall(rf"^{re.escape(file)}\s+{line}\s+0x([0-9a-f]+)", done.stdout, re.MULTILINE)
    ]
