"""`ptap record` and `ptap profile` by the kernel module in a running kernel, and where the choice is left to them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kernel.guest import GuestRun
from kernel.kernel_package import debug_vmlinux
from kernel.live_guest import RELEASE, said

from relay_reader.capture import MappingAdded, Sample, ThreadNamed
from relay_reader.capture_file.reader import CaptureFile

_READS = 4
"""Of the program and of its child, two each."""
_LEAST_SAMPLES = 5
"""Of 100 where the guest gets its turn in time: 199 a second for 0.5 s."""
_STATUS = 5
"""Of the program that is sampled."""

Seen = dict[str, dict[str, Any]]


@pytest.fixture
def runs(seen: dict[str, Any]) -> Seen:
    """What each run came to, by its name."""
    found: Seen = seen["recordings"]
    return found


def _given(live: GuestRun, name: str) -> str:
    return (live.results / f"{name}.out").read_text()


def _folded(text: str) -> dict[tuple[str, ...], int]:
    """Stack, outermost frame first, with the program's name before it -> samples."""
    found = {}
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        found[tuple(stack.split(";"))] = int(count)
    return found


@pytest.fixture
def kernel_root(tmp_path: Path, live: GuestRun) -> Path:
    """The root of a machine that has the guest's programs, where they were."""
    (tmp_path / "guest").mkdir()
    for name in ("reader", "busy_reader"):
        (tmp_path / "guest" / name).symlink_to(live.results.parents[1] / name)
    return tmp_path


def _report(live: GuestRun, root: Path, name: str, form: str, *, vmlinux: bool = True) -> str:
    """The report of a file of the guest, made here."""
    command = [sys.executable, "-m", "ptap", "report", str(live.results / f"{name}.ptap"), "--format", form]
    command += ["--sysroot", str(root)]
    command += ["--vmlinux", str(debug_vmlinux(RELEASE))] if vmlinux else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("run", "status"),
    [("record", 7), ("info", 0), ("report", 0), ("samples", _STATUS), ("profile", _STATUS), ("everything", _STATUS),
     ("unbuilt", 2), ("auto_unbuilt", 7)],
)  # fmt: skip
def test_the_commands_status_is_passed_on_and_nothing_stays(live, runs, run, status):
    assert (runs[run]["status"], runs[run]["left"]) == (status, []), said(live, run)
    assert "Traceback" not in said(live, run)


def test_a_recording_has_every_read_whole(live):
    assert re.search(rf"{_READS} hits, 0 records lost.*: {_READS} recorded, \d+ bytes", said(live, "record"))
    traces = [json.loads(line) for line in _given(live, "report").splitlines()]
    assert len(traces) == _READS and {trace["comm"] for trace in traces} == {"reader"}
    for trace in traces:
        names = [frame["function"] for frame in trace["frames"] if not frame["inlined"]]
        assert names[:3] == ["vfs_read", "ksys_read", "do_syscall_64"] and trace["stop"] == "end_of_stack"
        assert names[names.index("read_one") :][:3] == ["read_one", "read_many", "main"]


def test_info_tells_what_was_recorded_by_what(live):
    told = _given(live, "info")
    assert 'kernel.function("vfs_read").call' in told and "module" in told and "/guest/reader" in told


def test_another_machine_says_of_the_file_what_the_traced_one_does(live, kernel_root):
    assert _report(live, kernel_root, "record", "json") == _given(live, "report")


def test_without_vmlinux_the_kernels_functions_are_those_that_were_found_at_the_probe(live, kernel_root):
    """Named by the list of its symbols that is in the file."""
    told = [json.loads(line) for line in _report(live, kernel_root, "record", "json", vmlinux=False).splitlines()]
    whole = [json.loads(line) for line in _given(live, "report").splitlines()]
    assert [_functions(trace) for trace in told] == [_functions(trace) for trace in whole]


def _functions(trace: dict[str, Any]) -> tuple[str, list[str]]:
    names = [frame["function"] for frame in trace["frames"] if not frame["inlined"]]
    # Of the labels in that code the list of symbols names the nearest.
    return trace["stop"], [re.sub(r"^entry_SYSCALL_64.*", "entry_SYSCALL_64", name) for name in names]


def test_a_profile_has_the_kernels_frames_and_the_programs_in_one_stack(live):
    stacks = _folded(_given(live, "profile"))
    in_program = [stack for stack in stacks if "take_turn" in stack]
    assert sum(stacks[stack] for stack in in_program) >= _LEAST_SAMPLES
    in_kernel = [stack for stack in in_program if any("vfs_read" in name for name in stack)]
    assert in_kernel and any(stack not in in_kernel for stack in in_program)
    for stack in in_kernel:
        names = [re.sub(r"_\[.\]$", "", name) for name in stack]
        assert names.index("main") < names.index("take_turn") < names.index("read_much") < names.index("vfs_read")


def test_a_profile_made_here_of_the_guests_file_is_the_same(live, kernel_root):
    assert _folded(_report(live, kernel_root, "profile", "folded")) == _folded(_given(live, "profile"))


@pytest.mark.parametrize(("form", "wanted"), [("html", "</html>"), ("top", "total")])
def test_other_forms_are_made_of_it_too(live, kernel_root, form, wanted):
    text = _report(live, kernel_root, "profile", form)
    assert wanted in text and "take_turn" in text


def test_all_processes_are_sampled_and_the_command_among_them(live, runs):
    names, samples, mapped = {}, Counter(), set()
    for _, event in CaptureFile(str(live.results / "everything.ptap")).events():
        if isinstance(event, ThreadNamed):
            names[event.pid] = event.comm
        elif isinstance(event, MappingAdded):
            mapped.add(event.pid)
        elif isinstance(event, Sample):
            samples[event.pid] += 1
            assert event.kernel_stack is not None or event.user_stack is not None
    busy = {pid for pid in samples if names[pid] == "busy_reader"}
    assert runs["everything"]["other"] in busy and len(busy) == 2 and busy <= mapped
    assert all(samples[pid] >= _LEAST_SAMPLES for pid in busy)
    assert "0 records lost" in said(live, "everything")


def test_ctrl_c_gives_the_report_of_a_profile(live, runs):
    assert runs["interrupted_profile"] == {"status": 130, "left": []}
    assert "take_turn" in _given(live, "interrupted_profile")
    assert re.search(r"\d+ hits, .*0 records lost", said(live, "interrupted_profile"))


def test_the_choice_is_the_module_for_functions_of_the_kernel_and_perf_events_for_samples(live):
    assert "ptap: back end module\n" in said(live, "record")
    assert "ptap: back end perf\n" in said(live, "samples")


def test_a_module_that_does_not_build_is_an_error_with_what_makesaid(live, runs):
    assert "ptap: the kernel module does not build with" in said(live, "unbuilt")
    assert "No space left on device" in said(live, "unbuilt") and not runs["unbuilt"]["file"]


def test_where_the_choice_is_free_perf_events_take_the_place_of_what_does_not_build(live):
    told = said(live, "auto_unbuilt")
    assert "the kernel module cannot be used, perf events are: the kernel module does not build" in told
    assert f"{_READS // 2} hits, 0 records lost" in told
