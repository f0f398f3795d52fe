"""Running the ptap command as users do: a subprocess, JSON Lines out, no address randomization."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BACK_ENDS = ("ptrace", "perf")
_SECONDS = 120


@dataclass
class Run:
    """One finished run of the command."""

    status: int
    traces: list[dict[str, Any]]
    stdout: str
    stderr: str
    lines: list[str] = field(default_factory=list)

    def functions(self, index: int = 0) -> list[str | None]:
        return [frame["function"] for frame in self.traces[index]["frames"]]


@dataclass(frozen=True)
class Ptap:
    """Runs ptap in a directory of its own."""

    directory: Path

    def trace(
        self,
        probes: Sequence[str] | str,
        command: Sequence[str | Path],
        *options: str,
        backend: str = "ptrace",
        backtrace: bool = True,
        prefix: Sequence[str] = ("setarch", "-R"),
    ) -> Run:
        """Trace `command` and read the traces back; the command's own output is in `stdout`."""
        output = self.directory / "traces.json"
        output.unlink(missing_ok=True)
        words = [probes] if isinstance(probes, str) else list(probes)
        arguments = [*(["--backtrace"] if backtrace else []), "--format", "json", "--backend", backend]
        arguments += ["-o", str(output), *options, *words, "--", *map(str, command)]
        run = self.run(*arguments, prefix=prefix)
        if output.exists():
            run.traces = [json.loads(line) for line in output.read_text().splitlines()]
        return run

    def run(self, *arguments: str, prefix: Sequence[str] = ("setarch", "-R")) -> Run:
        """Run ptap with any arguments."""
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "ptap", *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        return Run(done.returncode, [], done.stdout, done.stderr, done.stdout.splitlines())


def usable_back_end(name: str) -> str:
    from ptap.backend.choice import BACK_ENDS as available

    reason = available[name]()
    if reason is not None:
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(f"back end {name}: {reason}", pytrace=False)
        pytest.skip(f"back end {name}: {reason}")
    return name
