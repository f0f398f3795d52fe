"""Reports of a recording of 100,000 samples of a compiler, against walking and naming its stacks alone."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from statistics import median

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.page_drawing import drawing_time
from bench.programs import PTAP, ROOT, output_of, tool
from bench.timed_run import TimedRun, timed_run

_FORMS = ("html", "pprof", "firefox", "folded")
_LIMIT = 300.0
_DRAWN_IN = 1.0
"""Seconds that a page may take."""
_SOURCE = """#include <algorithm>
#include <array>
#include <map>
#include <regex>
#include <string>
#include <vector>
template <int N> struct Part {
    std::map<std::string, std::array<std::vector<int>, N>> values;
    std::regex pattern{"a"};
    int sum() {
        auto &all = values["x"][0];
        all.push_back(N);
        std::sort(all.begin(), all.end(), [](int a, int b) { return a % N < b % N; });
        return std::regex_match("aa", pattern) + Part<N - 1>().sum();
    }
};
template <> struct Part<0> { int sum() { return 0; } };
int main() { return Part<30>().sum(); }
"""
_RECORD = ("record", "-q", "-e", "cpu-clock:u", "-F", "12000", "-m", "64M", "--call-graph", "dwarf,4096")
_ALONE = (sys.executable, "-m", "bench.bulk_path")


def run(bench: Bench) -> Result:
    """Record g++ once, then make each kind of report and walk and name alone in turn."""
    perf, compiler = tool("perf", "linux-perf"), tool("g++", "g++")
    source, recording = bench.folder / "compiled.cc", bench.folder / "cc1plus.data"
    names = [str(each.relative_to(ROOT)) for each in (recording, source)]
    command = [*_RECORD, "-o", names[0], compiler, "-O2", "-std=c++17", "-S", "-o", "/dev/null", names[1]]
    if not recording.exists():
        source.write_text(_SOURCE)
        output_of([perf, *command])
    # The first run fills the caches of tables, symbol indices and compiled code.
    timed_run(bench, "report.first", *PTAP, "report", recording, "--format", "pprof", limit=_LIMIT)
    alone: list[TimedRun] = []
    reports: dict[str, list[TimedRun]] = {form: [] for form in _FORMS}
    for _ in range(bench.rounds):
        alone.append(timed_run(bench, "report.alone", *_ALONE, recording, "--names", limit=_LIMIT))
        for form, runs in reports.items():
            runs.append(timed_run(bench, f"report.{form}", *PTAP, "report", recording, "--format", form, limit=_LIMIT))
    if not all(each.finished for runs in (alone, *reports.values()) for each in runs):
        raise Unavailable(f"a report was not there after {_LIMIT:.0f} s")
    figures = json.loads(alone[-1].output.read_text())
    walked = median(each.cpu for each in alone)
    comparisons = [
        Comparison(form, median(each.cpu for each in runs), walked, "s", False, _size(runs[-1]))
        for form, runs in reports.items()
    ]
    page = reports["html"][-1].output.replace(bench.folder / "cc1plus.html")
    comparisons.append(_drawing(page, bench.rounds))
    memory = max(each.memory for runs in reports.values() for each in runs)
    remarks = [
        f"{figures['samples']:,} samples, {figures['frames']:,} frames at {figures['places'] - 1:,} places.",
        f"Times are of all processors, processes as a whole; the most memory was {memory:.0f} MB. What the package "
        "manager says of cc1plus, which walking alone does not ask, is known from the first report on.",
        "Drawing is from opening the page in a headless Chromium to its flame graph, against the second it may take.",
        f"The load average was {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} processors.",
    ]
    commands = [
        shlex.join(["perf", *command]),
        "python -m bench.bulk_path bench/out/cc1plus.data --names",
        "ptap report bench/out/cc1plus.data --format FORM",
    ]
    about = "`ptap report` of perf.data of g++, against walking it and naming every frame without a report."
    return Result("Bulk reports", about, comparisons, commands, remarks)


def _drawing(page: Path, rounds: int) -> Comparison:
    """How long the page takes until it shows its flame graph."""
    note = f"{page.stat().st_size / 1e6:.1f} MB; the other is the limit"
    return Comparison("html, drawn", drawing_time(page, rounds), _DRAWN_IN, "s", False, note)


def _size(run: TimedRun) -> str:
    return f"{run.output.stat().st_size / 1e6:.1f} MB; the other is walking and naming alone"
