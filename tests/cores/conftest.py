"""Core files of real programs: the kernel's of crashes, and gdb's gcore of stopped programs; each made once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cores.gdb_core import core_at

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class CoreOf:
    """A core file and its program."""

    core: Path
    program: Path


def crashed(program: Path, folder: Path) -> Path:
    """The core file of a program that aborts: the kernel's, where core files go to the working directory (core(5)).

    Where they go to a collector instead, which is the machine's affair, gdb's of the same moment.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if "/" in pattern or pattern.startswith("|") or limit == 0:
        return core_at(program, [], [], folder / "core")
    done = subprocess.run(
        [program], cwd=folder, capture_output=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode < 0, done.stderr
    (found,) = folder.iterdir()
    return found


def ptap_report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`ptap report` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ptap", "report", *map(str, arguments)],
        cwd=HERE.parent.parent, capture_output=True, text=True, timeout=300,
        env={**os.environ, "DEBUGINFOD_URLS": "", "NO_COLOR": "1"},
    )  # fmt: skip


def traces_of(*arguments: str | Path) -> list[dict[str, Any]]:
    """The JSON traces of `ptap report`."""
    done = ptap_report(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> CoreOf:
    """A C++ program with threads that all wait but one, which is deep in templates and an exception."""
    folder = tmp_path_factory.mktemp("inventory")
    program = folder / "inventory"
    source = HERE / "programs" / "inventory.cpp"
    flags = ["-O2", "-g", "-pthread", "-Wl,--build-id=sha1"]
    subprocess.run([require_tool("g++", "g++"), *flags, source, "-o", program], check=True)
    stop = ["break abort"]
    require_tool("gdb", "gdb")
    return CoreOf(core_at(program, [], stop, folder / "core"), program)


@pytest.fixture(scope="session")
def python_crash(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> CoreOf:
    """Python deep in recursion through its C functions."""
    program = Path(require_tool("python3.11-dbg", "python3.11-dbg")).resolve()
    script = HERE / "programs" / "descent.py"
    folder = tmp_path_factory.mktemp("python")
    require_tool("gdb", "gdb")
    core = core_at(program, [str(script), "24"], ["break abort"], folder / "core")
    return CoreOf(core, program)


@pytest.fixture(scope="session", params=["sqlite3ExprAffinity:0", "codeEqualityTerm:1", "groupConcatStep:0"])
def sqlite_stop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]
) -> CoreOf:
    """sqlite3, built -O2 -g, in its parser, its code generator and its virtual machine."""
    from programs.large_program import NoLargeProgram, sqlite3_program

    require_tool("gdb", "gdb")
    try:
        program = sqlite3_program()
    except NoLargeProgram as why:
        pytest.skip(str(why))
    function, hits = request.param.split(":")
    sql = " ".join((HERE / "programs" / "query.sql").read_text().split())
    core = tmp_path_factory.mktemp("sqlite") / "core"
    return CoreOf(core_at(program, [":memory:", sql], [f"break {function}", f"ignore 1 {hits}"], core), program)


@pytest.fixture
def kernel_core(tmp_path: Path, require_tool: Callable[[str, str], str]) -> CoreOf:
    """A small program that the kernel dumped as it aborted."""
    program = tmp_path / "scopes"
    subprocess.run(
        [require_tool("gcc", "gcc"), "-O0", "-g", "-Wl,--build-id=sha1", HERE / "programs" / "scopes.c", "-o", program],
        check=True,
    )
    folder = tmp_path / "dump"
    folder.mkdir()
    return CoreOf(Path(shutil.move(crashed(program, folder), tmp_path / "core")), program)
