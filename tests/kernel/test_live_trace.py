"""`ptap --backtrace 'kernel.function(…)' -- CMD` in a running kernel: by the kernel module, and by perf events."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from kernel.guest import GuestRun
from kernel.kernel_package import debug_vmlinux
from kernel.live_guest import run_live
from programs.debian_archive import NotInArchive

from cfi_tables.elf_image import ElfImage
from relay_reader.capture import Sample
from relay_reader.module_capture import ModuleCapture

_RELEASE = "6.1"
_ENTRY, _RETURN = 'kernel.function("vfs_read").call', 'kernel.function("vfs_read").return'
_READS = 2
"""Of the traced program and of its child, each."""

Traces = list[dict[str, Any]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> GuestRun:
    """The guest in which everything is done, once."""
    if _RELEASE not in os.environ.get("PTAP_TEST_KERNELS", _RELEASE).split():
        pytest.skip(f"kernel {_RELEASE} is not among PTAP_TEST_KERNELS")
    try:
        run = run_live(_RELEASE, tmp_path_factory.mktemp("live"))
    except NotInArchive as error:
        pytest.skip(str(error))
    assert run.status == 0, f"{run.output}\n{_messages(run)}"
    return run


@pytest.fixture(scope="module")
def seen(live: GuestRun) -> dict[str, Any]:
    """What live_scenario.py has noted."""
    found: dict[str, Any] = json.loads((live.results / "results.json").read_text())
    return found


def _messages(run: GuestRun) -> str:
    return "".join(f"{path.name}: {path.read_text()}" for path in sorted(run.results.glob("*.err")))


def _said(live: GuestRun, name: str) -> str:
    return (live.results / f"{name}.err").read_text()


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
    assert re.search(r"ptap: \d+ hits, \d+ traces, 0 records lost, 0 cut short", _said(live, name))


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
    build_id = ElfImage.open(debug_vmlinux(_RELEASE)).build_id
    assert build_id is not None and frames["vfs_read"]["build_id"] == build_id.hex()


def test_both_back_ends_find_the_same_lines(live):
    lines = []
    for name in ("module", "perf"):
        trace = next(trace for trace in _traces(live, name) if trace["probe"] == _ENTRY)
        lines.append([(f["function"], f["file"], f["line"], f["inlined"]) for f in _in_kernel(trace)[1:4]])
    assert lines[0] == lines[1]


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
    assert "records lost" in _said(live, "interrupted")


@pytest.mark.parametrize("name", ["unwilling", "perf_unwilling"])
def test_a_probe_that_the_kernel_refuses_is_told_and_nothing_stays(live, seen, name):
    run = seen[name.replace("_", " ")]
    assert run["status"] == 2 and run["left"] == []
    assert re.search(
        r"ptap: kernel\.function\(\"kprobe_int3_handler\"\)\.call: .*(does not|will not) probe", _said(live, name)
    )
    assert "Traceback" not in _said(live, name)


def test_what_a_killed_run_left_is_told_and_taken_away_by_the_next(live, seen):
    assert seen["killed"]["status"] == -9 and seen["killed"]["left"] == ["module"]
    assert "of a run that was killed is still loaded" in (live.results / "leftover.txt").read_text()
    assert seen["interrupted"]["left"] == []


def test_without_debug_files_the_boot_image_does(live):
    """kallsyms names what the boot image has no symbols of, and a note tells what would give lines."""
    assert "ptap: back end module\n" in _said(live, "interrupted")
    trace = next(trace for trace in _traces(live, "interrupted") if trace["probe"] == _ENTRY)
    assert [re.sub(r"_after_hwframe$", "", each) for each in _physical(trace)] == ["vfs_read", *_CALLERS]
    assert [frame["file"] for frame in _in_kernel(trace)] == [None] * (1 + len(_CALLERS))


def test_wildcards_need_vmlinux(live, seen):
    assert seen["wildcard"]["status"] == 2
    assert re.search(r"wildcards .* need the kernel's vmlinux: install .*-dbg", _said(live, "wildcard"))


def test_without_headers_perf_events_are_taken(live, seen):
    assert seen["without headers"]["status"] == 2 and seen["without headers"]["left"] == []
    assert re.search(r"back end perf \(not module: .*install linux-headers-", _said(live, "without_headers"))
    assert "the kernel lists no function of that name" in _said(live, "without_headers")


def test_doctor_tells_what_the_kernel_allows(live):
    said = (live.results / "doctor.txt").read_text()
    for back_end in ("module", "perf"):
        assert re.search(rf"functions of the kernel, back end {back_end}\s+works", said), said
    assert f"kernel headers: /lib/modules/{_release_of(said)}/build" in said
    assert "kprobes of perf events: yes" in said and "still loaded" not in said


_STAGES = ("own", "child", "library", "next")
_COUNTED = 3
"""Reads of each stage when its mappings are known (later.c)."""


def _log(live: GuestRun, *, hits: bool) -> list[dict[str, Any]]:
    """What the module's records said in the run of later.c: of hits, or each processor's account."""
    lines = [json.loads(line) for line in (live.results / "later.records").read_text().splitlines()]
    return [line for line in lines if ("comm" in line) is hits]


@pytest.mark.parametrize("stage", _STAGES)
def test_stacks_are_walked_at_the_probe_once_what_they_go_through_is_known(live, stage):
    """Also in a child, in a library that was opened late, and in another program after exec."""
    settled = [hit for hit in _log(live, hits=True) if hit["comm"] == f"{stage}+"]
    assert len(settled) >= _COUNTED and not any(hit["copied"] for hit in settled), settled


@pytest.mark.parametrize("stage", _STAGES)
def test_later_code_is_in_whole_traces(live, stage):
    reading = "library_read" if stage == "library" else "read_one"
    traces = [each for each in _traces(live, "later") if each["comm"] == f"{stage}+" and each["probe"] == _ENTRY]
    assert len(traces) == _COUNTED
    for trace in traces:
        named = [frame["function"] for frame in trace["frames"] if frame["space"] == "user"]
        assert named[named.index(reading) :][:4] == [reading, "settled_read", "settle", "main"] or (
            stage == "child" and named[named.index(reading) :][:3] == [reading, "settled_read", "settle"]
        ), named
        assert named[-1] == "_start" and trace["stop"] == "end_of_stack", trace


def test_points_of_programs_and_of_the_kernel_are_traced_in_one_run(live, seen):
    """In the program that is named, its child too; by the module, as nothing else was asked for."""
    assert seen["later"]["left"] == [] and "ptap: back end module\n" in _said(live, "later")
    traces = [trace for trace in _traces(live, "later") if "settled_read" in trace["probe"]]
    of = {end: [each for each in traces if each["probe"].endswith(".return") is end] for end in (False, True)}
    assert len(of[False]) == len(of[True]) == 3 * _COUNTED
    for stage in ("own", "child", "library"):
        entered = [trace for trace in of[False] if trace["comm"] == f"{stage}+"]
        assert [trace["frames"][0]["function"] for trace in entered] == ["settled_read"] * _COUNTED
        numbers = [
            each["value"] for trace in entered for each in trace["frames"][0]["arguments"] if each["name"] == "number"
        ]
        assert numbers == [str(number + 1) for number in range(_COUNTED)]
        returned = [trace for trace in of[True] if trace["comm"] == f"{stage}+"]
        assert [trace["frames"][0]["function"] for trace in returned] == ["settle"] * _COUNTED
    assert {trace["stop"] for trace in traces} == {"end_of_stack"}


def test_hits_of_others_are_passed_over_at_the_probe_and_counted(live, seen):
    assert seen["later"]["noise goes on"]
    hits, accounts = _log(live, hits=True), _log(live, hits=False)
    assert len(accounts) == 2 and sum(each["dropped"] for each in accounts) == 0
    others = sum(each["others"] for each in accounts)
    assert others > 0
    assert sum(each["hits"] for each in accounts) == len(hits) + others
    assert {trace["comm"].rstrip("+") for trace in _traces(live, "later")} <= {*_STAGES, "later", "next", "moving"}


def test_a_session_can_be_run_for_one_command_only(live, seen):
    run = seen["only"]
    assert run["built"] == 0 and run["status"] == 7 and run["left"] == [], (live.results / "only.build").read_text()
    capture = ModuleCapture(live.results / "only.capture")
    samples = [event for event in capture.events() if isinstance(event, Sample)]
    by_process = [sum(each.pid == pid for each in samples) for pid in {each.pid for each in samples}]
    assert by_process == [_READS, _READS] and run["noise"] not in {each.pid for each in samples}
    others = sum(account.others for account in capture.accounts)
    assert others > 0 and sum(account.hits for account in capture.accounts) == len(samples) + others


def _release_of(said: str) -> str:
    """The kernel's release, as doctor's first line has it."""
    return said.split()[1].rstrip(",")


def test_the_kernel_has_not_complained(live):
    assert re.findall(r".*(?:BUG|WARNING|Oops|Call Trace|soft lockup|rcu.*stall).*", live.kernel_log) == []
