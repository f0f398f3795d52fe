"""Frames a second on a recorded file: ptap's bulk walk against perf script."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import ROOT, output_of, tool

_JOB = "f = lambda n: n if n < 2 else f(n - 1) + f(n - 2)\nfor _ in range(20): f(30)"
_FREQUENCY = "3999"
_DUMP = "8192"
_LEAST_SAMPLES = 5000
_LIMIT = 60.0
"""Seconds after which a run of perf script is ended and its rate is taken from what it did until then."""


@dataclass(frozen=True, slots=True)
class _ScriptRun:
    samples: int
    frames: int
    seconds: float
    finished: bool


def run(bench: Bench) -> Result:
    """Record a Python job once, then read it by both tools."""
    python = "/usr/bin/python3"
    perf = tool("perf", "linux-perf")
    tool(python, "python3")
    recording = bench.folder / "python.data"
    record = [perf, "record", "-q", "-e", "cpu-clock:u", "-F", _FREQUENCY, "--call-graph", f"dwarf,{_DUMP}"]
    output_of([*record, "-o", recording, python, "-c", _JOB])
    # The first run fills the caches of tables and of compiled code.
    samples = _ours(recording, "--names")["samples"]
    if samples < _LEAST_SAMPLES:
        raise Unavailable(f"only {samples:,} samples were recorded")
    named = [_ours(recording, "--names") for _ in range(bench.rounds)]
    bare = [_ours(recording) for _ in range(bench.rounds)]
    frames = named[0]["frames"]
    ours_named = frames / median(each["seconds"] for each in named)
    ours_bare = frames / median(each["seconds"] for each in bare)
    comparisons, remarks = [], []
    for what, fields, rate, rounds in (
        ("addresses only", ("-F", "ip", "--no-inline"), ours_bare, bench.rounds),
        ("functions (perf) / functions, lines and inlined calls (ptap)", ("-F", "ip,sym", "--no-inline"), ours_named,
         bench.rounds),
        ("functions, lines, inlined calls", ("-F", "ip,sym,srcline"), ours_named, 1),
    ):  # fmt: skip
        runs = [_script(perf, recording, fields) for _ in range(rounds)]
        if not runs[0].frames:
            remarks.append(f"`perf script {' '.join(fields)}` gave nothing within {_LIMIT:.0f} s.")
            continue
        theirs = median(each.frames / each.seconds for each in runs)
        note = f"`perf script {' '.join(fields)}`"
        if not runs[0].finished:
            note += f", ended after {_LIMIT:.0f} s with {runs[0].samples} of {samples} samples: a rate, extrapolated"
        comparisons.append(Comparison(what, rate, theirs, "frames/s", True, note))
        if runs[0].finished:
            remarks.append(f"{what}: perf printed {runs[0].frames:,} frames, ptap found {frames:,}.")
    parts = {part: median(each[part] for each in named) for part in ("read", "walk", "names")}
    steady = frames / median(each["walk_again"] for each in bare)
    remarks += [
        f"ptap's walk alone, with compiled code and tables loaded: {steady:,.0f} frames/s.",
        f"{samples:,} samples, {frames:,} frames, {named[0]['places']:,} distinct places; rates count each tool's own "
        "frames over the time of its whole process.",
        f"ptap's whole process takes {median(each['seconds'] for each in named):.2f} s: reading {parts['read']:.2f} s, "
        f"walking {parts['walk']:.2f} s (with the load of compiled code), naming {parts['names']:.2f} s, the rest is "
        "start-up.",
    ]
    commands = [
        f"perf record -e cpu-clock:u -F {_FREQUENCY} --call-graph dwarf,{_DUMP} -o bench/out/python.data \\",
        f"  {python} -c '{_JOB}'",
        "python -m bench.bulk_path bench/out/python.data [--names]",
        "perf script -i bench/out/python.data -F ip --no-inline",
    ]
    about = f"Reads a perf.data of {python} running a recursive job (stack dumps of {_DUMP} bytes)."
    return Result("Bulk walk", about, comparisons, commands, remarks)


def _ours(recording: Path, *options: str) -> dict[str, Any]:
    begin = time.perf_counter()
    text = output_of([sys.executable, "-m", "bench.bulk_path", recording, *options])
    spent = time.perf_counter() - begin
    figures: dict[str, Any] = json.loads(text)
    return {**figures, "seconds": spent - figures["walk_again"] if "--names" not in options else spent}


def _script(perf: str, recording: Path, fields: tuple[str, ...]) -> _ScriptRun:
    begin = time.perf_counter()
    process = subprocess.Popen(
        [perf, "script", "-i", recording, *fields],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    timer = threading.Timer(_LIMIT, process.kill)
    timer.start()
    samples = frames = 0
    assert process.stdout is not None
    for line in process.stdout:
        # A frame's line begins with its address; lines of source places and blank ones do not.
        word = line.split(maxsplit=1)
        if not word:
            samples += 1
        elif line[0].isspace() and all(letter in "0123456789abcdef" for letter in word[0]):
            frames += 1
    process.wait()
    timer.cancel()
    return _ScriptRun(samples, frames, time.perf_counter() - begin, process.returncode == 0)
