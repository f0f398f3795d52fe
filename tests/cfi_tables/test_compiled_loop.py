"""Compiled hot loops as shared objects: kept, mapped without numba, and made anew when they are not whole.

Each case runs in processes of its own, with a cache of its own. The loop is a small one of the table builder; what the
compiled form of all loops gives is compared with the plain form where each loop is tested.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import json, sys
import numpy as np
from cfi_tables import fde_order
from cfi_tables.compiled_cache import compiled_cache_directory
from cfi_tables.fde_order import FDE_COLUMNS, FDE_START
from cfi_tables.hot_loop import compiled, run_hot

columns = np.zeros(3 * FDE_COLUMNS, dtype=np.int64)
results, kept = [], compiled(fde_order.is_sorted).is_kept
for begins in ([1, 2, 3], [1, 3, 2]):
    columns[FDE_START::FDE_COLUMNS] = begins
    order = np.arange(3, dtype=np.int64)
    results.append([bool(run_hot(fde_order.is_sorted, form, columns, order)) for form in (False, True)])
print(json.dumps({
    "results": results, "numba": "numba" in sys.modules, "directory": str(compiled_cache_directory()),
    "kept": kept,
}))
"""
_RIGHT = [[True, True], [False, False]]


def _run(cache: Path, **environment: str) -> dict[str, object]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", _RUN], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("ptap/compiled/*/*.so"))


def test_code_is_compiled_once_and_then_mapped_without_numba(tmp_path: Path) -> None:
    first, second = _run(tmp_path), _run(tmp_path)
    assert first["results"] == second["results"] == _RIGHT
    assert (first["numba"], second["numba"]) == (True, False)
    assert (first["kept"], second["kept"]) == (False, True)
    (path,) = _kept(tmp_path)
    assert path.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("damage", ["cut short", "empty", "not an object"])
def test_an_object_that_is_not_whole_is_made_anew(tmp_path: Path, damage: str) -> None:
    _run(tmp_path)
    (path,) = _kept(tmp_path)
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[:-100], "empty": b"", "not an object": b"\0" * len(whole)}[damage])
    again = _run(tmp_path)
    assert again["results"] == _RIGHT and again["numba"] is True
    assert _run(tmp_path)["numba"] is False


def test_without_a_linker_the_code_serves_its_own_process(tmp_path: Path) -> None:
    assert _run(tmp_path, PATH="/nonexistent")["results"] == _RIGHT
    assert _kept(tmp_path) == []


def test_a_cache_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    directory = Path(str(_run(tmp_path)["directory"]))
    directory.chmod(0o777)
    found = _run(tmp_path)
    assert found["results"] == _RIGHT
    assert (found["directory"], found["numba"]) == ("None", True)


def test_a_loop_that_leaves_an_array_says_which(tmp_path: Path) -> None:
    code = _RUN.split("columns =")[0] + (
        "compiled(fde_order.is_sorted)(np.zeros(FDE_COLUMNS, dtype=np.int64), np.array([0, 7], dtype=np.int64))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "IndexError: the hot loop cfi_tables.fde_order.is_sorted left the bounds" in done.stderr
