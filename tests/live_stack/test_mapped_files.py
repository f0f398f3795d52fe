"""The files of a process are those that it has mapped, whatever has become of their names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from live_stack.conftest import stacks, wait_until

from cfi_tables.elf_image import ElfError, ElfImage
from ptap.backend.ptrace.memory_map import read_memory_map
from ptap.snapshot.mapped_files import MappedFiles


def _names(trace):
    return [frame["function"] for frame in trace["frames"] if frame["line"] is not None]


@pytest.fixture
def copied(started, standing_program, tmp_path):
    program = tmp_path / "program"
    shutil.copy(standing_program, program)
    process = started([program, "deep"])
    wait_until(lambda: process.state() == "S")
    return process


def test_a_program_that_was_deleted(copied):
    copied.program.unlink()
    (trace,), _ = stacks(copied.pid)
    assert trace["stop"] == "end_of_stack" and {"descend", "stand", "main"} <= set(_names(trace))


def test_a_program_of_whose_name_there_is_another(copied):
    rows, _ = read_memory_map(copied.pid)
    row = next(row for row in rows if row.executable and row.path == str(copied.program))
    files = MappedFiles(copied.pid, rows)
    build_id = ElfImage.open(copied.program).build_id
    again = copied.program.with_name("again")
    shutil.copy(copied.program, again)
    again.replace(copied.program)
    # Another file of the same build, by the build-id in the process's memory.
    assert files._by_name(str(copied.program), row).build_id == build_id
    copied.program.unlink()
    shutil.copy("/bin/true", copied.program)
    with pytest.raises(ElfError, match="was replaced after the program started"):
        files._by_name(str(copied.program), row)
    # The program's own link leads to the file that runs, and so does the report.
    (trace,), _ = stacks(copied.pid)
    assert {"descend", "stand", "main"} <= set(_names(trace))


def test_a_program_with_another_root(tmp_path, require_tool, started):
    source, root = tmp_path / "inside.c", tmp_path / "root"
    root.mkdir()
    source.write_text(
        "#include <unistd.h>\n"
        '__attribute__((noinline)) void inside(void) { write(1, "ready\\n", 6); pause(); __asm__ volatile(""); }\n'
        "int main(void) { inside(); return 0; }\n"
    )
    program = root / "inside"
    flags = ["-O1", "-g", "-static", "-Wno-unused-result"]
    subprocess.run([require_tool("gcc", "gcc"), *flags, source, "-o", program], check=True)
    if os.geteuid() == 0:
        process = started([Path("/inside")], preexec_fn=lambda: os.chroot(root))
    else:
        process = started([program])
    wait_until(lambda: process.state() == "S")
    (trace,), _ = stacks(process.pid)
    assert trace["stop"] == "end_of_stack" and {"inside", "main"} <= set(_names(trace))
