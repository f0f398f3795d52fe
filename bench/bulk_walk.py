"""Frames a second of perf.data files of a program without lines: ptap's bulk walk against perf script."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import output_of, tool
from bench.timed_run import TimedRun, timed_run

_PYTHON = "/usr/bin/python3"
JOB = "f = lambda n: n if n < 2 else f(n - 1) + f(n - 2)\nfor _ in range({rounds}): f(30)"
OURS = (sys.executable, "-m", "bench.bulk_path")
_NAMES = "functions, lines, inlined calls"


@dataclass(frozen=True, slots=True)
class _Recording:
    name: str
    rounds: int
    frequency: int
    dump: int
    least: int
    """Samples that it is to have."""

    @property
    def command(self) -> list[str]:
        options = ["-q", "-e", "cpu-clock:u", "-F", str(self.frequency), "-m", "32M"]
        job = [_PYTHON, "-c", JOB.format(rounds=self.rounds)]
        return ["record", *options, "--call-graph", f"dwarf,{self.dump}", "-o", f"bench/out/{self.name}", *job]


_SMALL = _Recording("python-5k.data", 12, 3999, 8192, 5000)
_LARGE = _Recording("python-100k.data", 75, 12000, 4096, 100_000)


def run(bench: Bench) -> Result:
    """Record a Python job at two lengths, each once, then read both by both tools."""
    perf = tool("perf", "linux-perf")
    tool(_PYTHON, "python3")
    comparisons: list[Comparison] = []
    remarks: list[str] = []
    for recording in (_LARGE, _SMALL):
        path = bench.folder / recording.name
        if not path.exists():
            output_of([perf, *recording.command])
        # The first run fills the caches of tables, symbol indices and compiled code.
        samples = figures(timed_run(bench, "bulk_walk.named", *OURS, path, "--names"))["samples"]
        if samples < recording.least:
            raise Unavailable(f"only {samples:,} samples were recorded")
        _compare(bench, perf, recording, comparisons, remarks)
    load, processors = os.getloadavg()[0], len(os.sched_getaffinity(0))
    remarks.append(f"The load average was {load:.1f} on {processors} processors, both tools in turn.")
    commands = [
        *(shlex.join(["perf", *each.command]) for each in (_LARGE, _SMALL)),
        "python -m bench.bulk_path bench/out/python-100k.data [--names] [--again]",
        "perf script -i bench/out/python-100k.data -F ip --no-inline",
    ]
    about = (
        f"Reads perf.data of {_PYTHON}, which has no lines, running a recursive job. Rates are each tool's own frames "
        "over the time of its whole process, its output in a file; ptap's are columns of numbers, and text for each "
        "distinct place."
    )
    return Result("Bulk walk", about, comparisons, commands, remarks)


def _compare(bench: Bench, perf: str, recording: _Recording, comparisons: list[Comparison], remarks: list[str]) -> None:
    path = bench.folder / recording.name
    bare, named, theirs, symbols = [], [], [], []
    steady = []
    # In turn, so that what else the machine does meets both tools alike.
    for _ in range(bench.rounds):
        bare.append(timed_run(bench, "bulk_walk.bare", *OURS, path))
        theirs.append(timed_run(bench, "bulk_walk.ip", perf, "script", "-i", path, "-F", "ip", "--no-inline"))
        named.append(timed_run(bench, "bulk_walk.named", *OURS, path, "--names"))
        symbols.append(timed_run(bench, "bulk_walk.sym", perf, "script", "-i", path, "-F", "ip,sym", "--no-inline"))
        steady.append(figures(timed_run(bench, "bulk_walk.again", *OURS, path, "--again"))["again"])
    told = figures(named[-1])
    what = f"{told['samples']:,} samples"
    frames, (_, their_frames) = told["frames"], counted(theirs[-1])
    rates = {
        "steady": frames / median(steady),
        "bare": frames / median(each.seconds for each in bare),
        "named": frames / median(each.seconds for each in named),
        "theirs": their_frames / median(each.seconds for each in theirs),
        "symbols": their_frames / median(each.seconds for each in symbols),
    }
    plain, with_symbols = "`perf script -F ip --no-inline`", "`perf script -F ip,sym --no-inline`"
    comparisons += [
        Comparison(f"{what}: walked, once started", rates["steady"], rates["theirs"], "frames/s", True, plain),
        Comparison(f"{what}: walked, whole process", rates["bare"], rates["theirs"], "frames/s", True, plain),
        Comparison(
            f"{what}: {_NAMES}", rates["named"], rates["symbols"], "frames/s", True, f"{with_symbols}: no lines"
        ),
    ]
    memory = [median(each.memory for each in runs) for runs in (named, symbols)]
    comparisons.append(Comparison(f"{what}: peak memory", *memory, "MB", False, f"{with_symbols}; mapped files count"))
    cpu = [median(each.cpu for each in runs) for runs in (bare, theirs, named, symbols)]
    remarks += [
        f"{what}: perf printed {their_frames:,} frames, ptap found {frames:,}, at {told['places'] - 1:,} places.",
        f"{what}: processor time walking is {cpu[0]:.2f} s (ptap) and {cpu[1]:.2f} s (perf), with names {cpu[2]:.2f} s "
        f"and {cpu[3]:.2f} s.",
    ]


def figures(ours: TimedRun) -> dict[str, Any]:
    """What a run of `bench.bulk_path` tells."""
    told: dict[str, Any] = json.loads(ours.output.read_text())
    return told


def counted(theirs: TimedRun) -> tuple[int, int]:
    """Samples and frames that perf script printed last."""
    samples = frames = 0
    within = False
    with theirs.output.open() as lines:
        for line in lines:
            # A frame's line begins with its address; lines of source places and blank ones, one or two, do not.
            word = line.split(maxsplit=1)
            if not word:
                samples += within
            within = bool(word)
            if not word:
                continue
            if line[0].isspace() and all(letter in "0123456789abcdef" for letter in word[0]):
                frames += 1
    return samples, frames
