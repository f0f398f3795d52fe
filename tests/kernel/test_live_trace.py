"""`ptap --backtrace 'kernel.function(…)' -- CMD` in a running kernel: by the kernel module, and by perf events."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from kernel.guest import GuestRun
from kernel.kernel_package import debug_vmlinux
from kernel.live_guest import RELEASE, said

from cfi_tables.elf_image import ElfImage

_ENTRY, _RETURN = 'kernel.function("vfs_read").call', 'kernel.function("vfs_read").return'
_READS = 2
"""Of the traced program and of its child, each."""

Traces = list[dict[str, Any]]


def _traces(live: GuestRun, name: str) -> Traces:
    return [json.loads(line) for line in (live.results / f"{name}.json").read_text().splitlines()]


def _in_kernel(trace: dict[str, Any]) -> list[dict[str, Any]]:
    return [frame for frame in trace["frames"] if frame["space"] == "kernel"]


def _physical(trace: dict[str, Any]) -> list[str]:
    """The functions of the kernel's frames without inlined calls."""
    return [frame["function"] for frame in _in_kernel(trace) if not frame["inlined"]]


_CALLERS = ["ksys_read", "do_syscall_64", "entry_SYSCALL_64"]


@pytest.mark.parametrize("name", ["module", "perf"])
def test_every_read_is_traced_whole(live, name):
    """Those of the program and of its child."""
    traces = [trace for trace in _traces(live, name) if trace["probe"] == _ENTRY]
    of_program = [trace for trace in traces if trace["comm"] == "reader"]
    assert of_program == traces
    by_process = [sum(trace["pid"] == pid for trace in traces) for pid in sorted({trace["pid"] for trace in traces})]
    assert by_process == [_READS, _READS]
    for trace in traces:
        names = [re.sub(r"^entry_SYSCALL_64.*", "entry_SYSCALL_64", each) for each in _physical(trace)]
        assert names == ["vfs_read", *_CALLERS], trace
        assert trace["stop"] == "end_of_stack", trace
    assert re.search(r"ptap: \d+ hits, \d+ traces, 0 records lost, 0 cut short", said(live, name))


@pytest.mark.parametrize("name", ["module", "perf"])
def test_a_return_is_the_callers(live, name):
    traces = _traces(live, name)
    returns = [trace for trace in traces if trace["probe"] == _RETURN]
    assert len(returns) == sum(trace["probe"] == _ENTRY for trace in traces)
    for trace in returns:
        assert _physical(trace)[:2] == ["ksys_read", "do_syscall_64"], trace


@pytest.mark.parametrize("name", ["module", "perf"])
def test_kernel_frames_have_the_lines_of_vmlinux(live, name):
    """Both back ends name the same place, each by a way of its own."""
    trace = next(trace for trace in _traces(live, name) if trace["probe"] == _ENTRY)
    frames = {frame["function"]: frame for frame in _in_kernel(trace)}
    assert frames["vfs_read"]["file"].endswith("fs/read_write.c")
    assert frames["ksys_read"]["file"].endswith("fs/read_write.c") and frames["ksys_read"]["line"] > 1
    assert frames["do_syscall_x64"]["inlined"]
    build_id = ElfImage.open(debug_vmlinux(RELEASE)).build_id
    assert build_id is not None and frames["vfs_read"]["build_id"] == build_id.hex()


def test_both_back_ends_find_the_same_lines(live):
    lines = []
    for name in ("module", "perf"):
        trace = next(trace for trace in _traces(live, name) if trace["probe"] == _ENTRY)
        lines.append([(f["function"], f["file"], f["line"], f["inlined"]) for f in _in_kernel(trace)[1:4]])
    assert lines[0] == lines[1]


_PROGRAM = ["read_one", "read_many", "main"]


def _in_program(trace: dict[str, Any]) -> list[str]:
    return [frame["function"] for frame in trace["frames"] if frame["space"] == "user" and not frame["inlined"]]


def test_the_module_probes_the_program_in_the_same_run(live, seen):
    traces = _traces(live, "program")
    assert seen["program"]["status"] == 7 and seen["program"]["left"] == []
    of_kernel = [trace for trace in traces if trace["probe"] == _ENTRY]
    returns = [trace for trace in traces if trace["probe"].endswith(").return")]
    entries = [trace for trace in traces if trace not in of_kernel and trace not in returns]
    assert len(of_kernel) == len(returns) == len(entries) == 2 * _READS
    assert all(trace["stop"] == "end_of_stack" for trace in traces)
    assert all(_in_program(trace)[:3] == _PROGRAM and not _in_kernel(trace) for trace in entries)
    assert all(_in_program(trace)[:2] == _PROGRAM[1:] and not _in_kernel(trace) for trace in returns)
    for trace in of_kernel:
        assert (
            _physical(trace)[0] == "vfs_read" and [each for each in _in_program(trace) if each in _PROGRAM] == _PROGRAM
        )


def test_perf_gives_the_programs_own_frames_too(live):
    reads = [trace for trace in _traces(live, "perf") if any(f["function"] == "read_one" for f in trace["frames"])]
    assert len(reads) == 2 * 2 * _READS  # entries and returns, of two processes
    for trace in reads:
        named = [frame["function"] for frame in trace["frames"] if frame["space"] == "user"]
        assert named[named.index("read_one") :][:3] == ["read_one", "read_many", "main"]


@pytest.mark.parametrize("run", ["module", "perf"])
def test_the_commands_status_is_passed_on_and_nothing_stays(seen, run):
    assert seen[run]["status"] == 7 and seen[run]["left"] == []


def test_ctrl_c_unloads_the_module_and_leaves_the_process_alone(live, seen):
    assert seen["interrupted"]["left"] == [] and seen["interrupted"]["goes on"]
    assert seen["interrupted"]["status"] == 0
    assert {trace["comm"] for trace in _traces(live, "interrupted")} == {"reader"}
    assert "records lost" in said(live, "interrupted")


@pytest.mark.parametrize("name", ["unwilling", "perf_unwilling"])
def test_a_probe_that_the_kernel_refuses_is_told_and_nothing_stays(live, seen, name):
    run = seen[name.replace("_", " ")]
    assert run["status"] == 2 and run["left"] == []
    assert re.search(
        r"ptap: kernel\.function\(\"kprobe_int3_handler\"\)\.call: .*(does not|will not) probe", said(live, name)
    )
    assert "Traceback" not in said(live, name)


def test_what_a_killed_run_left_is_told_and_taken_away_by_the_next(live, seen):
    assert seen["killed"]["status"] == -9 and seen["killed"]["left"] == ["module"]
    assert "of a run that was killed is still loaded" in (live.results / "leftover.txt").read_text()
    assert seen["interrupted"]["left"] == []


def test_without_debug_files_the_boot_image_does(live):
    """kallsyms names what the boot image has no symbols of, and a note tells what would give lines."""
    assert "ptap: back end module\n" in said(live, "interrupted")
    trace = next(trace for trace in _traces(live, "interrupted") if trace["probe"] == _ENTRY)
    assert [re.sub(r"_after_hwframe$", "", each) for each in _physical(trace)] == ["vfs_read", *_CALLERS]
    assert [frame["file"] for frame in _in_kernel(trace)] == [None] * (1 + len(_CALLERS))


def test_wildcards_need_vmlinux(live, seen):
    assert seen["wildcard"]["status"] == 2
    assert re.search(r"wildcards .* need the kernel's vmlinux: install .*-dbg", said(live, "wildcard"))


def test_without_headers_perf_events_are_taken(live, seen):
    assert seen["without headers"]["status"] == 2 and seen["without headers"]["left"] == []
    assert re.search(r"back end perf \(not module: .*install linux-headers-", said(live, "without_headers"))
    assert "the kernel lists no function of that name" in said(live, "without_headers")


def test_doctor_tells_what_the_kernel_allows(live):
    said = (live.results / "doctor.txt").read_text()
    for back_end in ("module", "perf"):
        assert re.search(rf"functions of the kernel, back end {back_end}\s+works", said), said
    assert f"kernel headers: /lib/modules/{_release_of(said)}/build" in said
    assert "kprobes of perf events: yes" in said and "still loaded" not in said


def _release_of(said: str) -> str:
    """The kernel's release, as doctor's first line has it."""
    return said.split()[1].rstrip(",")


def test_the_kernel_has_not_complained(live):
    assert re.findall(r".*(?:BUG|WARNING|Oops|Call Trace|soft lockup|rcu.*stall).*", live.kernel_log) == []
