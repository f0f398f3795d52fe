"""perf.data of real programs, and the report that is made of them.

Page faults are sampled, every so many: how many there are does not depend on the machine's load.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ptap.capture_report import ReportOptions
from ptap.perf_report import PerfReport
from unwind.trace import Trace
from unwind.trace_builder import ArgumentFrames

_PERF_TRIES = 3
"""perf 6.1 is ended by its own stack protector, in build-id.c, once in some hundred recordings on a busy machine."""


def perf_record(path: Path, command: Sequence[str | Path], *options: str, every: int = 20) -> Path:
    """Record `command` with its children: a sample of every so many page faults in user space."""
    event = ["-e", "page-faults:u", "-c", str(every)]
    for _ in range(_PERF_TRIES):
        shown = subprocess.run(
            ["perf", "record", "-qN", "-o", path, *event, *options, "--", *command], capture_output=True, text=True
        )
        if shown.returncode != -signal.SIGABRT:
            break
    assert shown.returncode == 0, shown.stderr
    return path


@dataclass
class Reported:
    """The traces of one file, and what was said at the end."""

    traces: list[Trace] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def write(self, trace: Trace) -> None:
        self.traces.append(trace)


def report(path: Path, **options: object) -> Reported:
    """The report of the file at `path`, without values."""
    reported = Reported()
    session = PerfReport(str(path), ReportOptions(**{"arguments": ArgumentFrames.NONE, **options}))  # type: ignore[arg-type]
    try:
        session.write(reported)
        reported.lines = session.closing_lines()
    finally:
        session.close()
    return reported


def functions(trace: Trace) -> list[str | None]:
    """The functions of the user's frames, innermost first."""
    return [frame.function for frame in trace.frames if frame.space == "user"]
