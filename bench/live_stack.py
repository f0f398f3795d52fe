"""The stack of a running process, as a command from start to end, against eu-stack and gdb; and how long it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import Bench, Comparison, Result, Unavailable
from bench.programs import PTAP, ROOT, tool

_LEVELS = 14
_PAUSE = re.compile(r"stood still for ([0-9.]+) ms")


def run(bench: Bench) -> Result:
    """Time the commands on Debian's Python, deep in its C functions."""
    python = "/usr/bin/python3.11"
    if not Path(python).exists() or shutil.which("python3.11-dbg") is None:
        raise Unavailable("Debian's Python with its debugging information is needed: apt install python3.11-dbg")
    script = ROOT / "bench" / "programs" / "nested_sorts.py"
    process = subprocess.Popen([python, "-S", script, str(_LEVELS)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return _measured(bench, str(process.pid))
    finally:
        process.kill()
        process.wait()


def _measured(bench: Bench, pid: str) -> Result:
    ours = [*PTAP, "stack", pid]
    _seconds(ours)  # fills the cache
    peers = {
        "eu-stack -i -s": [tool("eu-stack", "elfutils"), "-i", "-s", "-p", pid],
        "gdb": [tool("gdb", "gdb"), "-nx", "-q", "-batch", "-iex", "set debuginfod enabled off", "-p", pid]
        + ["-ex", "thread apply all bt"],
    }
    notes = {"eu-stack -i -s": "without what is inlined, though asked for it", "gdb": "with arguments"}
    seconds = bench.median(lambda: _seconds(ours))
    comparisons = [
        Comparison(
            f"{name}: functions, lines",
            seconds, bench.median(lambda peer=peer: _seconds(peer)), "s", False, notes[name],
        )  # type: ignore[misc]
        for name, peer in peers.items()
    ]  # fmt: skip
    with_values = [*PTAP, "stack", pid, "--arguments", "all"]
    _seconds(with_values)
    theirs = comparisons[-1].theirs
    comparisons.append(
        Comparison("gdb: with arguments", bench.median(lambda: _seconds(with_values)), theirs, "s", False)
    )
    frames, inlined, pauses = _facts(ours, bench)
    remarks = [
        f"{frames} frames, {inlined} of them inlined calls; the process stood still for {pauses:.2f} ms "
        "(the median; with arguments it is more, as memory is copied that they lead to)."
    ]
    commands = [" ".join(["ptap", "stack", "PID"]), "eu-stack -i -s -p PID"]
    commands += ["gdb -nx -q -batch -p PID -ex 'thread apply all bt'"]
    about = "From the start of the command to its end: every frame of a running Python, deep in its C functions."
    return Result("Stack of a running process", about, comparisons, commands, remarks)


def _seconds(command: Sequence[str | Path]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    spent = time.perf_counter() - begin
    # eu-stack says 1 where a part of a stack is missing.
    if done.returncode not in (0, 1) or "main" not in done.stdout:
        raise Unavailable(f"{command[0]} printed no stack: {done.stderr.strip()[-200:]}")
    return spent


def _facts(command: Sequence[str], bench: Bench) -> tuple[int, int, float]:
    """Frames, inlined ones, and the pause in milliseconds."""
    text = ""

    def pause() -> float:
        nonlocal text
        done = subprocess.run([*command, "-v"], cwd=ROOT, capture_output=True, text=True)
        found = _PAUSE.search(done.stderr)
        if found is None:
            raise Unavailable(f"ptap stack told no pause: {done.stderr.strip()[-200:]}")
        text = done.stdout
        return float(found[1])

    pauses = bench.median(pause)
    return len(re.findall(r"^  #", text, re.M)), text.count("[inlined]"), pauses
