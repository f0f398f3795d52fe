"""gdb as an oracle of core files: every variable of every frame, and core files of stopped programs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("gdb_core_script.py")
_OPTIONS = ("-nx", "-q", "-batch", "-iex", "set debuginfod enabled off")
_GDB = ("gdb", *_OPTIONS)
_PRINTERS = "/usr/share/gcc/python"
"""Of libstdc++6."""


@dataclass(frozen=True)
class GdbVariable:
    name: str
    is_argument: bool
    raw: str | None
    pretty: str | None


@dataclass(frozen=True)
class GdbFrame:
    pc: int
    function: str | None
    variables: list[GdbVariable]
    """From the innermost block out."""


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "DEBUGINFOD_URLS": "", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh", **more}


def values_in(core: Path, program: Path, gdb: str = "gdb", sysroot: str = "") -> dict[int, list[GdbFrame]]:
    """Every thread's frames by its tid, innermost first. `sysroot` has the shared objects of another machine."""
    answer = core.with_suffix(".values.json")
    more = {"PTAP_CORE_VALUES": str(answer)}
    if sysroot:
        more["PTAP_CORE_PRINTERS"] = _PRINTERS
    command = [gdb, *_OPTIONS, *(["-iex", f"set sysroot {sysroot}"] if sysroot else [])]
    run = subprocess.run(
        [*command, str(program), "-c", str(core), "-x", str(SCRIPT)],
        env=_environment(**more), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert answer.exists(), run.stderr[-3000:]
    return {
        int(tid): [
            GdbFrame(frame["pc"], frame["function"], [GdbVariable(*each) for each in frame["variables"]])
            for frame in frames
        ]
        for tid, frames in json.loads(answer.read_text()).items()
    }


def core_at(program: Path, arguments: list[str], stop: list[str], core: Path) -> Path:
    """A core file by gdb's gcore of `program` where gdb's commands `stop` (a breakpoint, its conditions) stop it."""
    command = [*_GDB]
    for each in (*stop, "run", "delete breakpoints", f"gcore {core}", "kill"):
        command += ["-ex", each]
    run = subprocess.run(
        [*command, "--args", str(program), *arguments],
        env=_environment(), capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert core.exists(), run.stdout[-2000:] + run.stderr[-2000:]
    return core
