"""Damage to sections of real files, 100,000 times in CI: what `damage_run` says must hold, with bounds checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfi_tables import layout

_TIMES = 25_000 if os.environ.get("CI") else 2_500
_SEED = int(os.environ.get("PTAP_DAMAGE_SEED") or 1)
_HERE = Path(__file__).resolve().parent

_CXX = """
#include <stdexcept>
#include <string>
#include <vector>
struct Guard { std::string text; ~Guard(); };
Guard::~Guard() { text.clear(); }
int deep(int n)
{
    Guard guard{std::to_string(n)};
    std::vector<int> values(n);
    if (n > 3)
        throw std::runtime_error(guard.text);
    for (auto &each : values)
        each = n;
    return values.empty() ? 0 : values[0] + deep(n - 1);
}
int caught(int n) { try { return deep(n); } catch (std::exception &error) { return error.what()[0]; } }
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory, require_tool) -> list[Path]:
    """A C++ object with exception tables, and one with a .debug_frame."""
    folder = tmp_path_factory.mktemp("objects")
    (folder / "guard.cpp").write_text(_CXX)
    made = []
    for name, flags in (("eh.o", ()), ("debug.o", ("-g", "-fno-asynchronous-unwind-tables", "-fno-exceptions"))):
        source = folder / "guard.cpp"
        if flags:
            source = _HERE.parent / "programs" / "dynamic_frame.c"
        compiler = require_tool("gcc", "gcc") if flags else require_tool("g++", "g++")
        made.append(folder / name)
        subprocess.run([compiler, "-O2", *flags, "-c", "-o", str(made[-1]), str(source)], check=True)
    return made


@pytest.mark.parametrize("part", range(4))
def test_damaged_sections(part, objects, system_file):
    arm = Path("/usr/aarch64-linux-gnu/lib/libc.so.6")
    if not arm.exists():
        pytest.skip(f"{arm} is not there: apt install libc6-arm64-cross")
    files = [system_file("libc.so.6"), system_file("libcrypto.so.3"), system_file("libstdc++.so.6"), *objects, arm]
    paths = [_HERE.parents[1], _HERE.parent, _HERE]
    seed = 1000 * _SEED + part
    done = subprocess.run(
        [sys.executable, str(_HERE / "damage_run.py"), str(seed), str(_TIMES), *map(str, files)],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    counts = json.loads(done.stdout)
    print(f"seed {seed}: {counts}")
    assert counts["count"] == _TIMES and counts["pieces"] > 60
    # Damage leaves some FDEs whole, and is told in nearly every way there is.
    assert counts["good"] > _TIMES and counts["rows"] > _TIMES and counts["compared"] >= _TIMES // 50
    reasons = {problem.name for problem in layout.FrameProblem} - {"NONE"}
    assert sum(reason in counts for reason in reasons) >= len(reasons) - 2
