"""A program that stands at known places, and its stacks by ptap, in this process and as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ptap.live_report import LiveReport, StackOptions
from ptap.report.json_lines import trace_object
from unwind.trace import Trace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
_PATIENCE = 60.0
_BLOCKED = {"34", "202"}
"""pause and futex (asm/unistd_64.h)."""


@dataclass
class Standing:
    """A process that stands still by itself."""

    process: subprocess.Popen[bytes]
    program: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def threads(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/task"))

    def status(self, field: str, tid: int | None = None) -> str:
        text = Path(f"/proc/{self.pid}/task/{tid or self.pid}/status").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(f"{field}:"))

    def state(self, tid: int | None = None) -> str:
        return self.status("State", tid)[0]


class Collected:
    """A report that keeps what it is given."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def wait_until(what: Callable[[], bool]) -> None:
    """Wait, for as long as a busy machine may take, until `what` holds."""
    deadline = time.monotonic() + _PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def stacks(pid: int, **options: Any) -> tuple[list[dict[str, Any]], LiveReport]:
    """The traces of a process as JSON objects, and the report that told them."""
    report, collected = LiveReport(pid, StackOptions(**options)), Collected()
    report.run(collected)
    return [trace_object(each) for each in collected.traces], report


def ptap_stack(
    *arguments: object, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """`ptap stack` in a process of its own."""
    return subprocess.run(
        [*prefix, sys.executable, "-m", "ptap", "stack", *map(str, arguments)],
        cwd="/", capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DEBUGINFOD_URLS": "", "NO_COLOR": "1", **environment},
    )  # fmt: skip


def count_stacks(output: str) -> int:
    """How many stacks a text report has."""
    return sum(line.startswith("thread ") for line in output.splitlines())


def json_stacks(*arguments: object) -> list[dict[str, Any]]:
    """The traces of `ptap stack --format json`."""
    done = ptap_stack(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def standing_program(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    program = tmp_path_factory.mktemp("standing") / "standing"
    flags = ["-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=sha1"]
    subprocess.run([require_tool("gcc", "gcc"), *flags, HERE / "programs" / "standing.c", "-o", program], check=True)
    return program


@pytest.fixture
def started() -> Iterator[Callable[..., Standing]]:
    """`started(command)` runs a command until it says that it is ready; it is killed at the end of the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(command: list[str | Path], **options: Any) -> Standing:
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return Standing(process, Path(command[0]))

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def standing(started: Callable[..., Standing], standing_program: Path) -> Callable[[str, int], Standing]:
    """`standing(mode, threads)`: the program, all of whose so many threads have come to where they stay."""

    def start(mode: str, threads: int = 1) -> Standing:
        found = started([standing_program, mode])
        wait_until(lambda: len(found.threads()) == threads and all(_is_blocked(found, tid) for tid in found.threads()))
        return found

    return start


def _is_blocked(process: Standing, tid: int) -> bool:
    if process.state(tid) != "S":
        return False
    number = Path(f"/proc/{process.pid}/task/{tid}/syscall").read_text().split()[0]
    return number in _BLOCKED
