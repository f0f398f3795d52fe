"""The programs that benchmarks run, ours and others'."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import Bench, Unavailable

ROOT = Path(__file__).resolve().parent.parent
PTAP = (sys.executable, "-m", "ptap")


def tool(name: str, package: str) -> str:
    """The path of a program. Raises Unavailable."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed (Debian: apt install {package})")
    return found


def compiled_program(bench: Bench, name: str) -> Path:
    """The program bench/programs/NAME.c, built as the examples are. Raises Unavailable."""
    program = bench.folder / name
    source = ROOT / "bench" / "programs" / f"{name}.c"
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-pthread"]
    subprocess.run([tool("gcc", "gcc"), *flags, "-o", program, source], check=True)
    return program


def examples() -> Path:
    """The folder of the built example programs. Raises Unavailable."""
    subprocess.run([tool("make", "make"), "-s", "-C", ROOT / "examples"], check=True)
    return ROOT / "examples" / "build"


def output_of(command: Sequence[str | Path]) -> str:
    """What a command prints. Raises Unavailable when it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} failed: {done.stderr.strip()[-200:]}")
    return done.stdout
