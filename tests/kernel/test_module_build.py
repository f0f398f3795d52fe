"""The module's sources against a kernel's headers: what the compiler and sparse say of them, and what is built once."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from kernel.kernel_package import kernel_headers
from programs.debian_archive import NotInArchive

from ptap.kernel_module.build import ModuleBuildError, built_module

_RUNTIME = Path(__file__).resolve().parents[2] / "runtime_c"


@pytest.fixture(scope="module")
def headers() -> Path:
    try:
        return kernel_headers("6.1")
    except NotInArchive as error:
        pytest.skip(str(error))


def test_sparse_finds_nothing(headers, tmp_path):
    """File by file; and those have no variable of one name, which one unit would take for one variable."""
    if shutil.which("sparse") is None:
        pytest.skip("sparse is not installed (Debian: apt install sparse)")
    folder = tmp_path / "module"
    shutil.copytree(_RUNTIME / "module", folder)
    shutil.copytree(_RUNTIME / "core", folder / "core")
    whole = folder / "ptap_unit.c"
    sources = [path for path in folder.rglob("*.c") if path.parent.name != "features" and path != whole]
    included = re.findall(r'^#include "(.*)"$', whole.read_text(), re.MULTILINE)
    assert sorted(included) == sorted(str(path.relative_to(folder)) for path in sources)
    command = ["make", "-C", str(headers), f"M={folder}", "PTAP_APART=y", "C=2", "CHECK=sparse"]
    done = subprocess.run([*command, "CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"], capture_output=True, text=True)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, said
    assert sum("CHECK" in line for line in said) == len(sources)
    assert [line for line in said if str(folder) in line and ("warning:" in line or "error:" in line)] == []
    variables = Counter(name for path in sources for name in _variables(path.with_suffix(".o")))
    assert "modules" in variables and [name for name, count in variables.items() if count > 1] == []


def _variables(file: Path) -> set[str]:
    """The names of its static variables outside of functions."""
    listed = subprocess.run(["nm", str(file)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^[0-9a-f]+ [bdr] (\w+)$", listed, re.MULTILINE)
    return {name for name in found if not name.startswith(("_kbl_addr_", "__UNIQUE_ID_"))}


def test_a_build_is_kept(headers, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = built_module(headers)
    changed = first.stat().st_mtime_ns
    assert built_module(headers) == first and first.stat().st_mtime_ns == changed
    assert first.is_relative_to(tmp_path) and first.read_bytes()[:4] == b"\x7fELF"


def test_a_build_that_fails_tells_the_compilers_words(headers, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources = tmp_path / "runtime_c"
    shutil.copytree(_RUNTIME, sources)
    (sources / "module" / "ptap_main.c").write_text("#error it is broken\n")
    monkeypatch.setattr("ptap.kernel_module.build._SOURCES", sources)
    with pytest.raises(ModuleBuildError, match="it is broken"):
        built_module(headers)
    assert not list((tmp_path / "cache").rglob("*.ko"))
