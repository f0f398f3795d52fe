"""What a hit costs the probed program, for both back ends, against a breakpoint of gdb with a backtrace."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from statistics import median

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import PTAP, ROOT, compiled_program, tool

_HITS = 20_000
_GDB_HITS = 300


def run(bench: Bench) -> Result:
    """Nanoseconds of one call of an empty function as the program itself measures them."""
    program = compiled_program(bench, "hit_loop")
    plain = bench.median(lambda: _run([program, "10000000"])[0])
    # In batch mode an error ends gdb's command file; the program's own figure is on its standard output.
    script = bench.folder / "hit_loop.gdb"
    script.write_text(
        "set debuginfod enabled off\nset pagination off\nset confirm off\nbreak probed\n"
        f"commands\nsilent\nbacktrace\ncontinue\nend\nrun {_GDB_HITS}\n"
    )
    gdb: list[str | Path] = [tool("gdb", "gdb"), "-q", "-nx", "-batch", "-x", script, program]
    theirs = bench.median(lambda: _run(gdb)[0]) - plain
    comparisons: list[Comparison] = []
    remarks = [f"a call without a probe takes {plain:.1f} ns"]
    for back_end in ("perf", "ptrace"):
        for what, command in (
            ("ptap --backtrace", _ptap(back_end, program, "--backtrace")),
            ("ptap, a line a hit", _ptap(back_end, program)),
            ("capture alone", [sys.executable, "-m", "bench.capture_only", back_end, program]),
        ):
            try:
                runs = [_run([*command, str(_HITS)]) for _ in range(bench.rounds)]
            except Unavailable as why:
                remarks.append(f"back end {back_end}, {what}: {why}")
                continue
            ours = median(cost for cost, _ in runs) - plain
            note = f"of {_HITS:,} hits {median(lost for _, lost in runs):,.0f} were dropped"
            comparisons.append(Comparison(f"{back_end}: {what}", ours / 1000, theirs / 1000, "µs a hit", False, note))
    commands = [
        f"bench/out/hit_loop {_HITS}",
        'ptap --backtrace --backend perf -o /dev/null \'process("bench/out/hit_loop").function("probed")\''
        f" -- bench/out/hit_loop {_HITS}",
        "gdb -q -nx -batch -x bench/out/hit_loop.gdb bench/out/hit_loop",
    ]
    about = (
        f"Added time of a call, told by the probed program itself, over {_HITS:,} hits with a stack of 12 frames (gdb: "
        f"{_GDB_HITS} hits of `silent`, `backtrace`, `continue`). What the program waits for counts; what ptap does "
        "meanwhile or afterwards does not, and hits that it had to drop are told."
    )
    return Result("Cost of a hit", about, comparisons, commands, remarks)


def _ptap(back_end: str, program: Path, *options: str) -> list[str | Path]:
    probe = f'process("{program}").function("probed")'
    return [*PTAP, "trace", *options, "--backend", back_end, "-o", "/dev/null", probe, "--", program]


def _run(command: list[str | Path]) -> tuple[float, int]:
    """Nanoseconds a call, and how many hits ptap says that it dropped. Raises Unavailable."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lost = re.search(r"(\d+) records? lost", done.stderr)
    for line in reversed(done.stdout.split("\n")):
        try:
            return float(line), int(lost[1]) if lost else 0
        except ValueError:
            continue
    raise Unavailable(f"{command[0]} printed no figure: {done.stderr.strip()[-200:]}")
