"""How long a user waits for the first trace, against gdb's first backtrace."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import PTAP, ROOT, examples, tool

_FUNCTION = "apply_discount"


def run(bench: Bench) -> Result:
    """Time both back ends and gdb on the example program, from the start of the command to the outermost frame."""
    program = examples() / "orders"
    gdb = [tool("gdb", "gdb"), "-q", "-nx", "-batch", "-ex", "set debuginfod enabled off"]
    gdb += ["-ex", f"break {_FUNCTION}", "-ex", "run", "-ex", "backtrace", str(program)]
    theirs = bench.median(lambda: _seconds_until(gdb, " main ("))
    comparisons, remarks = [], []
    for back_end in ("perf", "ptrace"):
        probe = f'process("{program}").function("{_FUNCTION}")'
        command = [*PTAP, "--backtrace", "--backend", back_end, "--count", "1", probe, "--", str(program)]
        try:
            _seconds_until(command, " main ")  # fills the table cache
            ours = bench.median(lambda command=command: _seconds_until(command, " main "))  # type: ignore[misc]
        except Unavailable as why:
            remarks.append(f"back end {back_end}: {why}")
            continue
        comparisons.append(Comparison(f"back end {back_end}", ours, theirs, "s", False, "gdb -batch, `backtrace`"))
    commands = [
        f'ptap --backtrace --count 1 \'process("examples/build/orders").function("{_FUNCTION}")\''
        " -- examples/build/orders",
        f"gdb -q -nx -batch -ex 'break {_FUNCTION}' -ex run -ex backtrace examples/build/orders",
    ]
    return Result(
        "First trace", "From the start of the command to `main` being printed.", comparisons, commands, remarks
    )


def _seconds_until(command: Sequence[str | Path], text: str) -> float:
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    spent = None
    for line in process.stdout:
        if spent is None and text in line and line.lstrip().startswith("#"):
            spent = time.perf_counter() - begin
    _, errors = process.communicate()
    if spent is None:
        raise Unavailable(f"{command[0]} printed no trace: {errors.strip()[-200:]}")
    return spent
