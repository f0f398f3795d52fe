"""The size of a capture file against perf.data of the same job, and how many hits a second are recorded whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from bench.comparison import Bench, Comparison, Result
from bench.programs import PTAP, ROOT, compiled_program, output_of, tool

_FREQUENCY = 999
_DUMP = 8192
_PYTHON_JOB = "f = lambda n: n if n < 2 else f(n - 1) + f(n - 2)\nfor _ in range(10): f(27)"
_SOURCE = '#include <regex>\n#include <map>\nint main() { return std::regex_match("aab", std::regex("a+b")); }\n'
_RATE, _SECONDS = 10_000, 5


def run(bench: Bench) -> Result:
    """Record each job once with each tool, then a program that is hit at a steady rate."""
    perf = tool("perf", "linux-perf")
    source = bench.folder / "regex.cpp"
    source.write_text(_SOURCE)
    jobs = {
        "python3": ["/usr/bin/python3", "-c", _PYTHON_JOB],
        "g++": [tool("g++", "g++"), "-O2", "-c", "-o", os.devnull, str(source)],
    }
    comparisons = [_sizes(bench.folder, perf, name, job) for name, job in jobs.items()]
    recorded, lost, size = _steady_hits(bench)
    return Result(
        "Capture file",
        f"Bytes a sample of the same job, {_FREQUENCY} samples a second with {_DUMP} bytes of stack.",
        comparisons,
        [
            f"perf record -F {_FREQUENCY} --call-graph dwarf,{_DUMP} -o perf.data -- JOB",
            f"ptap record -o trace.ptap --user-stack {_DUMP} 'timer.profile({_FREQUENCY})' -- JOB",
        ],
        [
            f"{_RATE:,} hits a second for {_SECONDS} s with {_DUMP} bytes of stack each: {recorded:,} recorded, "
            f"{lost:,} lost, {size / recorded:.0f} bytes a hit.",
        ],
    )


def _sizes(folder: Path, perf: str, name: str, job: list[str]) -> Comparison:
    theirs, ours = folder / "job.data", folder / "job.ptap"
    output_of([perf, "record", "-q", "-F", str(_FREQUENCY), "--call-graph", f"dwarf,{_DUMP}", "-o", theirs, *job])
    probe = f"timer.profile({_FREQUENCY})"
    output_of([*PTAP, "record", "-o", ours, "--backend", "perf", "--user-stack", str(_DUMP), probe, "--", *job])
    counted = output_of([perf, "script", "-i", theirs, "-F", "time", "-G"])
    samples = _samples(ours)
    return Comparison(
        f"{name}, bytes a sample",
        ours.stat().st_size / samples,
        theirs.stat().st_size / len(re.findall(r"^\s*\d", counted, re.MULTILINE)),
        "bytes",
        higher_is_better=False,
    )


def _steady_hits(bench: Bench) -> tuple[int, int, int]:
    """Hits recorded and lost, and the bytes of the file."""
    program, path = compiled_program(bench, "steady_hits"), bench.folder / "steady.ptap"
    command = [*PTAP, "record", "-o", str(path), "--backend", "perf", "--user-stack", str(_DUMP)]
    command += [f'process("{program}").function("hit")', "--", str(program), str(_RATE), str(_SECONDS)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    told = json.loads(output_of([*PTAP, "info", "--format", "json", str(path)]))["recordings"][0]
    return int(told["samples"]), int(told["lost"]), path.stat().st_size


def _samples(path: Path) -> int:
    told = json.loads(output_of([*PTAP, "info", "--format", "json", str(path)]))
    return int(told["recordings"][0]["samples"])
