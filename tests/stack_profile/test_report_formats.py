"""`ptap report --format` and the options that filter, on a real recording; and the filter by itself."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from stack_profile.made_traces import LIBRARY, frame, trace

from ptap.profile.pprof_schema import profile_message
from ptap.report.trace_filter import FilteredReport, TraceFilter
from unwind.trace import Trace, TraceFrame

_PROGRAM = """
static volatile long sum;
static __attribute__((noinline)) void inner(long n) { for (long i = 0; i < n; i++) sum += i; }
static __attribute__((noinline)) void outer(long n) { inner(n); sum++; }
int main(void) { for (int i = 0; i < 300; i++) outer(100000); return 0; }
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory, require_tool) -> Path:
    perf, gcc = require_tool("perf", "linux-perf"), require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("recording")
    (folder / "busy.c").write_text(_PROGRAM)
    subprocess.run([gcc, "-O1", "-g", "-fomit-frame-pointer", "-o", "busy", "busy.c"], cwd=folder, check=True)
    record = [perf, "record", "-qN", "-e", "cpu-clock:u", "-F", "500", "--call-graph", "dwarf,1024", "-o", "busy.data"]
    subprocess.run([*record, "./busy"], cwd=folder, check=True, capture_output=True)
    return folder / "busy.data"


def report(recording: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ptap", "report", str(recording), *options], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def traces(recording) -> list[dict]:
    run = report(recording, "--format", "json")
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def stacks(traces: list[dict]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in traces:
        frames = each["frames"]
        names = [f["function"] or f"[{(f['module'] or '').rsplit('/', 1)[-1]}]" for f in frames]
        cut = [] if each["stop"] == "end_of_stack" else [f"[cut short: {each['stop'].replace('_', ' ')}]"]
        counts[";".join([each["comm"], *cut, *reversed(names)])] += each["weight"]
    return counts


def test_folded_stacks_are_those_of_json(recording, traces):
    folded = dict(line.rsplit(" ", 1) for line in report(recording, "--format", "folded").stdout.splitlines())
    assert {stack: int(weight) for stack, weight in folded.items()} == stacks(traces)
    assert any(stack.endswith("main;outer;inner") for stack in folded)


def within_main(stacks: Iterable[tuple[list[str], int]]) -> Counter[str]:
    """From main inwards, of those stacks that it is in; outside of it perf's names differ from those of DWARF."""
    counts: Counter[str] = Counter()
    for names, weight in stacks:
        if "main" in names:
            counts[";".join(names[names.index("main") :])] += weight
    return counts


def test_folded_counts_are_perfs(recording, traces, require_tool):
    """Of a program that is linked and compiled in the plainest way, which perf walks right, too."""
    fields = ["-F", "period,event,ip,sym", "--no-inline", "-i", str(recording)]
    script = [require_tool("perf", "linux-perf"), "script", *fields]
    samples = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip().split("\n\n")
    perfs = []
    for head, *frames in (sample.splitlines() for sample in samples):
        perfs.append(([line.split()[1] for line in reversed(frames)], int(head.split()[0])))
    assert len(perfs) == len(traces), "every sample that was taken is in the report"
    assert sum(weight for _, weight in perfs) == sum(each["weight"] for each in traces)
    folded = (line.rsplit(" ", 1) for line in report(recording, "--format", "folded").stdout.splitlines())
    ours = within_main((stack.split(";"), int(weight)) for stack, weight in folded)
    assert ours == within_main(perfs) and ours


def test_every_form_has_every_sample(recording, traces, tmp_path):
    whole = sum(each["weight"] for each in traces)
    for form in ("tree", "callers", "top", "lines"):
        assert f"{len(traces)} samples, weight {whole}\n" in report(recording, "--format", form).stdout
    for form in ("firefox", "speedscope", "pprof", "html"):
        run = report(recording, "--format", form, "-o", str(tmp_path / form))
        assert run.returncode == 0, run.stderr
    firefox = json.loads((tmp_path / "firefox").read_text())
    assert sum(thread["samples"]["length"] for thread in firefox["threads"]) == len(traces)
    speedscope = json.loads((tmp_path / "speedscope").read_text())
    assert sum(profile["endValue"] for profile in speedscope["profiles"]) == whole
    pprof = profile_message().FromString(gzip.decompress((tmp_path / "pprof").read_bytes()))
    assert sum(sample.value[0] for sample in pprof.sample) == len(traces)
    assert f"{len(traces)} samples, weight {whole}" in (tmp_path / "html").read_text()
    script = report(recording, "--format", "perf-script").stdout
    assert script.count("\n\n") == len(traces)


def test_what_is_left_out_is_told(recording, traces):
    run = report(recording, "--format", "top", "--comm", "no such")
    assert f"{len(traces)} traces left out" in run.stderr and run.stdout.startswith("0 samples, weight 0\n")
    run = report(recording, "--time", "later")
    assert run.returncode == 2 and "FROM-TO" in run.stderr
    hidden = report(recording, "--format", "folded", "--hide", "out*").stdout
    assert ";outer;" not in hidden and ";main;inner " in hidden


def test_a_recording_does_not_differ_from_itself(recording, traces):
    run = report(recording, "--diff", str(recording), "--format", "json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    whole = {"samples": len(traces), "weight": sum(each["weight"] for each in traces)}
    assert found["before"] == found["after"] == whole
    totals: Counter[str] = Counter()
    for each in traces:
        totals.update(dict.fromkeys({f["function"] for f in each["frames"] if f["function"]}, each["weight"]))
    rows = {row["function"]: row for row in found["functions"]}
    assert totals and {name: rows[name]["total"] for name in totals} == {
        name: {"before": weight, "after": weight, "change": 0} for name, weight in totals.items()
    }
    table = report(recording, "--diff", str(recording)).stdout  # top, if nothing is said
    assert table == report(recording, "--diff", str(recording), "--format", "top").stdout and "self before" in table
    folded = report(recording, "--diff", str(recording), "--format", "folded").stdout.splitlines()
    assert all(line.rsplit(" ", 2)[1] == line.rsplit(" ", 1)[1] for line in folded) and folded


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--diff", "x", "--format", "pprof"), "go tool pprof -diff_base"),
        (("--diff", "x", "--format", "text"), "--diff has top"),
        (("--diff", "x", "--format", "parquet"), "--diff has top"),
        (("--diff", "x", "--follow"), "--follow"),
        (
            (
                "--diff",
                "no such file",
            ),
            "no such file",
        ),
        (("--absolute",), "--diff BEFORE AFTER"),
    ],
)
def test_differences_that_cannot_be(recording, options, why):
    run = report(recording, *options)
    assert run.returncode == 2 and why in run.stderr and "Traceback" not in run.stderr and not run.stdout


class Kept:
    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, each: Trace) -> None:
        self.traces.append(each)


def kept(wanted: TraceFilter) -> list[tuple[int, list[str | None]]]:
    """Which of four traces are let through, by thread, and with which functions."""
    library = TraceFrame("user", 1, LIBRARY, None, "lib")
    source = [
        trace([frame("f"), frame("f"), frame("main")], pid=1, tid=1, comm="one", time_ns=10_000_000_000),
        trace([library, frame("main")], pid=1, tid=2, comm="two", time_ns=11_000_000_000, cpu=3),
        trace([frame("g", inlined=True), frame("f"), frame("g"), frame("f")], pid=3, tid=3, time_ns=12_000_000_000),
        trace([frame(None), frame(None)], pid=3, tid=4, time_ns=13_000_000_000),
    ]
    shown = Kept()
    report = FilteredReport(shown, wanted)
    for each in source:
        report.write(each)
    assert report.left_out == len(source) - len(shown.traces)
    return [(each.tid, [f.function for f in each.frames]) for each in shown.traces]


def test_a_filter_chooses_traces():
    assert [tid for tid, _ in kept(TraceFilter())] == [1, 2, 3, 4]
    for wanted, tids in (
        (TraceFilter(comms=("o*", "two")), [1, 2]),
        (TraceFilter(pids=(3,)), [3, 4]),
        (TraceFilter(tids=(2, 4)), [2, 4]),
        (TraceFilter(cpus=(3,)), [2]),
        (TraceFilter(begin_s=1, end_s=3), [2, 3]),
        (TraceFilter(functions=("mai?",)), [1, 2]),
        (TraceFilter(modules=("libx*",)), [2]),
        (TraceFilter(modules=(LIBRARY,)), [2]),
        (TraceFilter(only=("g",)), [3]),
        (TraceFilter(pids=(1,), comms=("two",)), [2]),
    ):
        assert [tid for tid, _ in kept(wanted)] == tids, wanted


def test_a_filter_chooses_frames():
    assert dict(kept(TraceFilter(hide=("f",))))[1] == ["main"]
    assert kept(TraceFilter(only=("g",))) == [(3, ["g", "g"])]
    assert dict(kept(TraceFilter(inlined=False)))[3] == ["f", "g", "f"]
    merged = dict(kept(TraceFilter(merge_recursion=True)))
    assert merged[1] == ["f", "main"] and merged[3] == ["g", "f", "g", "f"] and merged[4] == [None, None]
