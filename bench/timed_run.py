"""One process: how long it took, what of the processors and of memory; its output goes to a file."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.comparison import Bench, Unavailable
from bench.programs import ROOT

_LIMIT = 60.0
"""Seconds after which a process is ended; its output is what it wrote until then."""


@dataclass(frozen=True, slots=True)
class TimedRun:
    """One process."""

    seconds: float
    cpu: float
    """Seconds of all processors."""
    memory: float
    """Peak, MB."""
    finished: bool
    output: Path


def timed_run(bench: Bench, name: str, *command: str | Path, limit: float = _LIMIT) -> TimedRun:
    """Run a command with its output in a file of that name, ended after `limit` seconds. Raises Unavailable."""
    output = bench.folder / f"{name}.out"
    # An installed package has its modules compiled; ours are to be as well, whatever the shell says.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.DEVNULL, env=environment)
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode > 0:
        raise Unavailable(f"{command[0]} failed with status {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return TimedRun(seconds, cpu, usage.ru_maxrss * 1024 / 1e6, process.returncode == 0, output)
