"""The machine and the versions that figures belong to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime


def machine() -> list[tuple[str, str]]:
    """Facts in the order of the report."""
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores"),
        ("kernel", platform.release()),
        ("Python, numba, NumPy", ", ".join((platform.python_version(), _package("numba"), _package("numpy")))),
        ("perf", _first_line("perf", "--version")),
        ("gdb", _first_line("gdb", "--version")),
    ]


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "?"


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0] if lines else "?"
