"""32-bit processes in a recording of an x86-64 kernel, beside 64-bit ones: each stack by its own registers and tables.

What each stack has to be is told by the program: a page is touched once at each depth of its calls.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from perf_report.recordings import functions, perf_record, report

from relay_reader.capture import EM_386, EM_X86_64, Sample
from relay_reader.perf_columns import PerfColumns
from relay_reader.perf_data import PerfData
from relay_reader.perf_record import RecordFault

DEPTH = 40
PROGRAM = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#define PAGE 4096
static volatile char *pages;
volatile int sink;
/* Registers that calls keep are moved and saved on the way. */
__attribute__((noipa)) static void touch(int depth) { pages[depth * PAGE] = 1; }
__attribute__((noipa)) static int down(int depth, int a, int b, int c) {
    char room[16 + depth % 5 * 48];
    memset(room, depth, sizeof room);
    touch(depth);
    if (depth < DEPTH) sink += down(depth + 1, b + c, c - a, a ^ depth);
    return room[depth % 16] + a * b + c;
}
int main(int argc, char **argv) {
    pages = mmap(0, (DEPTH + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise((void *)pages, (DEPTH + 1) * PAGE, MADV_NOHUGEPAGE);
    down(0, argc, 2, 3);
    if (argc > 1) execv(argv[1], argv + 1);
    return 0;
}
"""
EXPECTED = [["touch", *["down"] * (depth + 1), "main"] for depth in range(DEPTH + 1)]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    """A 64-bit program that becomes a 32-bit one, whose every page fault is a sample."""
    require_tool("perf", "linux-perf")
    compiler = require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("compat")
    (folder / "touch.c").write_text(PROGRAM)
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-mno-red-zone", f"-DDEPTH={DEPTH}", folder / "touch.c"]
    for name, width in (("wide", "-m64"), ("narrow", "-m32")):
        # The kernel's headers are where the compiler looks for those of 64-bit programs alone.
        headers = ["-I/usr/include/x86_64-linux-gnu"]
        made = subprocess.run([compiler, width, *headers, *flags, "-o", folder / name], capture_output=True, text=True)
        assert made.returncode == 0, f"apt-get install libc6-dev-i386?\n{made.stderr}"
    command = [folder / "wide", folder / "narrow"]
    return perf_record(folder / "compat.data", command, "--call-graph", "dwarf,8192", "-m", "8M", every=1)


def test_each_stack_is_that_of_the_program(recording: Path) -> None:
    found = report(recording)
    # The two programs have the same functions, so that each stack comes twice: first of the 64-bit one.
    chains = [functions(trace) for trace in found.traces]
    touched = [chain[: chain.index("main") + 1] for chain in chains if chain[:1] == ["touch"] and "main" in chain]
    assert touched == 2 * EXPECTED
    modules = [
        os.path.basename(trace.frames[0].module or "") for trace in found.traces if trace.frames[0].function == "touch"
    ]
    assert modules == ["wide"] * len(EXPECTED) + ["narrow"] * len(EXPECTED)
    ends = {(frame.function, trace.stop.name) for trace in found.traces for frame in trace.frames[-1:]}
    assert ("_start", "END_OF_STACK") in ends
    assert not any("32-bit" in line for line in found.lines)


def test_values_of_arguments_are_those_of_the_program(recording: Path) -> None:
    from unwind.trace_builder import ArgumentFrames

    found = report(recording, arguments=ArgumentFrames.ALL)
    depths = []
    for trace in found.traces:
        if trace.frames and trace.frames[0].function == "touch":
            (depth,) = trace.frames[0].arguments or ()
            depths.append(depth.value)
    assert depths == 2 * [str(depth) for depth in range(DEPTH + 1)]


def test_registers_say_which_machine_they_are_of(recording: Path) -> None:
    file = PerfData(recording)
    samples = [event for event in file.events() if isinstance(event, Sample) and event.known]
    file.close()
    assert {(len(each.registers), each.machine) for each in samples} == {(17, EM_X86_64), (9, EM_386)}
    narrow = [each for each in samples if each.machine == EM_386]
    copied = [each for each in narrow if each.slices]  # while it execs it has no stack yet
    assert copied and all(each.slices[0].address == each.registers[4] < 1 << 32 for each in copied)
    assert not file.faults[RecordFault.COMPAT_REGISTERS]
    # Columns are of one machine: they say of which samples they know nothing.
    columns = PerfData(recording)
    for _ in PerfColumns(columns).chunks():
        pass
    columns.close()
    assert columns.faults[RecordFault.COMPAT_REGISTERS] == len(narrow)
