"""From perf.data to function, file, line and inlined calls, of programs that have lines: ptap against perf script."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.bulk_walk import JOB, OURS, counted, figures
from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import ROOT, output_of, tool
from bench.timed_run import timed_run

_PYTHON = "/usr/bin/python3.11-dbg"
_LIMIT = 60.0
"""Seconds after which perf script is ended and its rate is taken from what it did until then."""
_THEIRS = ("-F", "ip,sym,srcline")


@dataclass(frozen=True, slots=True)
class _Recording:
    what: str
    name: str
    job: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        # No build-id cache (-N): perf then looks for lines where programs lie, as ptap does.
        options = ["-q", "-N", "-e", "cpu-clock:u", "-F", "12000", "-m", "32M", "--call-graph", "dwarf,2048"]
        return ["record", *options, "-o", f"bench/out/{self.name}", *self.job]


_RECORDINGS = (
    _Recording("python3.11-dbg", "python-lines.data", (_PYTHON, "-c", JOB.format(rounds=140))),
    _Recording("C++ with inlined templates", "words-lines.data", ("bench/out/counted_words", "6500")),
)
_LEAST = 100_000
"""Samples that each is to have."""


def run(bench: Bench) -> Result:
    """Record each program once, then read the recording by both tools: by perf once, as it takes long."""
    perf = tool("perf", "linux-perf")
    tool(_PYTHON, "python3.11-dbg")
    _compile(bench)
    comparisons: list[Comparison] = []
    remarks: list[str] = []
    for recording in _RECORDINGS:
        path = bench.folder / recording.name
        if not path.exists():
            output_of([perf, *recording.command])
        _compare(bench, perf, recording, path, comparisons, remarks)
    remarks.append(
        "Rates are samples over the time of the whole process, its output in a file. perf has addr2line look up each "
        "place once; the processor time of that is not in perf's own."
    )
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    remarks.append(f"The load average was {load:.1f} on {processors} processors.")
    commands = [
        *(shlex.join(["perf", *each.command]) for each in _RECORDINGS),
        "python -m bench.bulk_path bench/out/python-lines.data --names",
        "perf script -i bench/out/python-lines.data -F ip,sym,srcline",
    ]
    about = "Function, file, line and inlined calls of every frame, from recordings with 2 KiB of stack a sample."
    return Result("Bulk lines", about, comparisons, commands, remarks)


def _compile(bench: Bench) -> None:
    source, program = ROOT / "bench" / "programs" / "counted_words.cc", bench.folder / "counted_words"
    subprocess.run([tool("g++", "g++"), "-O2", "-g", "-std=c++17", "-o", program, source], check=True)


def _compare(
    bench: Bench,
    perf: str,
    recording: _Recording,
    path: Path,
    comparisons: list[Comparison],
    remarks: list[str],
) -> None:
    # The first run fills the caches of tables, symbol indices and compiled code.
    told = figures(timed_run(bench, "bulk_lines.first", *OURS, path, "--names", limit=_LIMIT * 5))
    if told["samples"] < _LEAST:
        raise Unavailable(f"only {told['samples']:,} samples of {recording.what} were recorded")
    ours = [timed_run(bench, "bulk_lines.ours", *OURS, path, "--names") for _ in range(bench.rounds)]
    theirs = timed_run(bench, "bulk_lines.perf", perf, "script", "-i", path, *_THEIRS, limit=_LIMIT)
    samples, _ = counted(theirs)
    note = f"`perf script {' '.join(_THEIRS)}`"
    if theirs.finished:
        samples = told["samples"]
    else:
        note += f", ended after {_LIMIT:.0f} s with {samples:,} samples: a rate, extrapolated"
    rate = told["samples"] / median(each.seconds for each in ours)
    what = f"{recording.what}, {told['samples']:,} samples"
    memory = median(each.memory for each in ours)
    comparisons += [
        Comparison(f"{what}: functions, lines, inlined calls", rate, samples / theirs.seconds, "samples/s", True, note),
        Comparison(f"{what}: peak memory", memory, theirs.memory, "MB", False, "addr2line not counted"),
    ]
    remarks.append(
        f"{recording.what}: {path.stat().st_size / 1e6:,.0f} MB, {told['frames']:,} frames at {told['places'] - 1:,} "
        f"places with {told['inlined']:,} inlined calls; {median(each.seconds for each in ours):.2f} s against "
        f"{theirs.seconds:.1f} s, processor time {median(each.cpu for each in ours):.2f} s."
    )
