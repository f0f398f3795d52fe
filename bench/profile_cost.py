"""What sampling costs the sampled job, against `perf record --call-graph dwarf` at the same frequency."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import PTAP, ROOT, compiled_program, tool

_FREQUENCY = 999
_CALLS = 12_000
_TOLD = re.compile(r"busy: ([\d.]+) ([\d.]+) ([\d.]+)")


@dataclass(frozen=True, slots=True)
class _Run:
    """Seconds, as the job itself has measured them."""

    wall: float
    own: float
    """Its own CPU time."""
    recorder: float
    """The CPU time of the profiler that started it, meanwhile."""


def run(bench: Bench) -> Result:
    """Run times of a job of a fixed amount of work, alone and below each profiler in turn."""
    program = compiled_program(bench, "busy_calls")
    data, kept = bench.folder / "profile_cost.data", bench.folder / "profile_cost.ptap"
    job = [str(program), str(_CALLS)]
    perf = [tool("perf", "linux-perf"), "record", "-q", "-F", str(_FREQUENCY), "--call-graph", "dwarf,8192"]
    ours = [*PTAP, "profile", "-F", str(_FREQUENCY), "--format", "top", "-o", os.devnull, "--keep", str(kept), "--"]
    commands = {"alone": job, "perf": [*perf, "-o", str(data), *job], "ptap": [*ours, *job]}
    runs: dict[str, list[_Run]] = {name: [] for name in commands}
    for _ in range(max(bench.rounds, 3)):  # in turn, so that a change of the machine's load meets all of them
        for name, command in commands.items():
            runs[name].append(_run(command))
    sizes = [data.stat().st_size, kept.stat().st_size]
    for path in (data, kept):
        path.unlink()
    return _result(runs, sizes)


def _result(runs: dict[str, list[_Run]], sizes: Sequence[int]) -> Result:
    def figure(name: str, part: str) -> float:
        figures = [sum(getattr(each, word) for word in part.split("+")) for each in runs[name]]
        # Other load of the machine makes run times longer, and leaves CPU times about as they are.
        return min(figures) if part == "wall" else median(figures)

    comparisons = [
        Comparison("run time of the job", figure("ptap", "wall"), figure("perf", "wall"), "s", False, "the shortest"),
        Comparison("its CPU time", figure("ptap", "own"), figure("perf", "own"), "s", False),
        Comparison(
            *("its CPU time and the recorder's", figure("ptap", "own+recorder"), figure("perf", "own+recorder")),
            *("s", False, "the run time where there is one processor for both"),
        ),
    ]
    alone, wall = figure("alone", "own"), figure("alone", "wall")
    remarks = [f"alone the job takes {alone:.3f} s of CPU time and runs for {wall:.3f} s"]
    for name in ("ptap", "perf"):
        remarks.append(
            f"{name} adds {100 * (figure(name, 'own') / alone - 1):.1f}% to its CPU time, and takes "
            f"{figure(name, 'recorder'):.2f} s itself meanwhile"
        )
    remarks.append(f"perf.data is {sizes[0]:,} bytes, the capture of ptap {sizes[1]:,}")
    about = (
        f"A job of {_CALLS:,} calls, 42 frames deep, sampled {_FREQUENCY} times a second with all its stack (ptap) or "
        "8 KiB of it (perf). The job tells its own run time and CPU time and, from /proc, the CPU time that its "
        "parent, the recorder, takes from its first to its last call. Reports are made afterwards and are not in it."
    )
    shown = [
        f"perf record -F {_FREQUENCY} --call-graph dwarf,8192 bench/out/busy_calls {_CALLS}",
        f"ptap profile -F {_FREQUENCY} --format top -- bench/out/busy_calls {_CALLS}",
    ]
    return Result("Cost of a profile", about, comparisons, shown, remarks)


def _run(command: Sequence[str | Path]) -> _Run:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    told = _TOLD.search(done.stderr)
    if told is None or done.returncode:
        raise Unavailable(f"{command[0]} failed: {done.stderr.strip()[-200:]}")
    return _Run(*map(float, told.groups()))
