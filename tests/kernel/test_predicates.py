"""Predicates decided at the probe, in running kernels: vfs_read is reached by two ways, read and pread."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from kernel.conftest import PREDICATES

from relay_reader.capture import Sample
from relay_reader.module_capture import ModuleCapture
from relay_reader.record_layout import HitFlag

_READS, _PREADS = 300, 200  # as in guest_scenario.py


def _capture(booted, name: str) -> tuple[ModuleCapture, list[Sample]]:
    capture = ModuleCapture(booted.run.results / f"when {name}")
    return capture, [event for event in capture.events() if isinstance(event, Sample)]


def _unwanted(capture: ModuleCapture) -> int:
    return sum(account.unwanted for account in capture.accounts)


def _flags(samples: list[Sample]) -> set[int]:
    found = {sample.kernel_stack.flags & (HitFlag.WANTED | HitFlag.UNDECIDED) for sample in samples}
    return {int(each) for each in found}


@pytest.mark.parametrize("name", PREDICATES)
def test_every_hit_is_accounted_for(booted, name):
    capture, samples = _capture(booted, name)
    hits = sum(account.hits for account in capture.accounts)
    dropped = sum(account.dropped for account in capture.accounts)
    assert hits == len(samples) + dropped + _unwanted(capture) and dropped == 0
    assert hits >= _READS + _PREADS
    told = re.findall(r"cpu \d+ hits (\d+) dropped \d+ unwanted (\d+)", "\n".join(booted.seen["when"][f"when {name}"]))
    assert sum(int(unwanted) for _, unwanted in told) == _unwanted(capture)


def test_a_caller_tells_the_two_ways_apart(booted):
    capture, samples = _capture(booted, "caller")
    assert len(samples) == _PREADS and _unwanted(capture) >= _READS
    assert _flags(samples) == {HitFlag.WANTED}
    for sample in samples:
        names = [booted.name_at(pc - sample.kernel_stack.slide - 1) for pc in sample.kernel_chain[1:]]
        assert not any(names) or any("pread64" in name for name in names)


def test_the_direct_caller_and_the_thread_together(booted):
    """Reads of the workload's start come from the loader of programs too, which reads by other ways."""
    capture, samples = _capture(booted, "direct")
    assert len(samples) >= _PREADS and _unwanted(capture) >= _READS
    assert _flags(samples) == {HitFlag.WANTED}


def test_depths_between_bounds_are_wanted(booted):
    capture, samples = _capture(booted, "depth")
    assert len(samples) >= _READS + _PREADS and _unwanted(capture) == 0
    assert all(2 < len(sample.kernel_chain) < 100 for sample in samples)


def test_a_thread_that_is_not_asked_for_is_not_recorded(booted):
    capture, samples = _capture(booted, "task")
    assert not samples and _unwanted(capture) >= _READS + _PREADS


def test_what_the_probe_does_not_know_is_recorded_with_a_flag(booted):
    capture, samples = _capture(booted, "undecided")
    assert _flags(samples) == {HitFlag.UNDECIDED} and _unwanted(capture) == 0
    assert len(samples) >= _READS + _PREADS


def _report(booted, name: str, *options: str) -> tuple[list[dict], str]:
    capture = str(booted.run.results / name)
    command = [sys.executable, "-m", "ptap", "report", capture, "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_what_the_report_cannot_decide_either_is_marked(booted):
    """No stack has that caller; where user frames are missing, nobody knows."""
    traces, told = _report(booted, "when undecided")
    hits, not_wanted, undecided = map(
        int, re.search(r"(\d+) hits, .*, (\d+) not wanted, (\d+) undecided", told).groups()
    )
    assert hits == not_wanted + undecided >= _READS + _PREADS
    assert undecided == len(traces) and all(trace["undecided"] for trace in traces)


def test_the_report_decides_as_the_probe(booted):
    """The names in the traces of all hits say what the probe said by addresses."""
    traces, told = _report(booted, "when depth", "--when", PREDICATES["caller"])
    wanted, _ = _report(booted, "when caller")
    assert len(traces) == len(wanted) == _PREADS
    assert {tuple(frame["function"] for frame in trace["frames"]) for trace in traces} == {
        tuple(frame["function"] for frame in trace["frames"]) for trace in wanted
    }
    assert re.search(r"(\d+) not wanted, 0 undecided", told)
    all_hits, not_wanted = re.search(r"(\d+) hits, .* (\d+) not wanted", told).groups()
    assert int(all_hits) == len(traces) + int(not_wanted)


def _calls_of(booted, name: str) -> list[bool]:
    """Whether function `name` of the program was active at each of its reads, by its own notes."""
    capture = ModuleCapture(booted.run.results / "user-when")
    (path,) = [each["path"] for each in capture.description["files"].values() if "user_workload" in each["path"]]
    symbols = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
    (start, size) = re.search(rf"^(\w+) (\w+) T {name}$", symbols, re.MULTILINE).groups()
    code = range(int(start, 16), int(start, 16) + int(size, 16))
    notes = (booted.run.results / "user-when.notes").read_text().splitlines()
    return [any(int(call, 16) in code for call in line.split()[2:]) for line in notes]


def test_users_frames_are_decided_at_the_probe_once_they_are_known_there(booted):
    """Until the module knew the program it recorded what it could not decide: the report leaves the same ones."""
    capture = ModuleCapture(booted.run.results / "user-when")
    samples = [event for event in capture.events() if isinstance(event, Sample)]
    traces, _ = _report(booted, "user-when")
    deep = _calls_of(booted, "wide")
    assert 0 < sum(deep) < len(deep)
    assert len(traces) == sum(deep) and not any("undecided" in trace for trace in traces)
    assert all("wide" in [frame["function"] for frame in trace["frames"]] for trace in traces)
    wanted = [sample for sample in samples if sample.kernel_stack.flags & HitFlag.WANTED]
    assert 0 < len(wanted) <= sum(deep) and _unwanted(capture) > 0
    assert _flags(samples) <= {HitFlag.WANTED, HitFlag.UNDECIDED}
    assert sum(account.hits for account in capture.accounts) == len(samples) + _unwanted(capture)
