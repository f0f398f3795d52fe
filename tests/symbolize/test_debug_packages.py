"""What a user is told to install: by the files of dpkg's database, which the test reads for itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from unwind.symbolize.debug_package import debug_package, public_server
from unwind.symbolize.missing_debug import MissingDebug
from unwind.symbolize.module_symbols import ModuleSymbols

RequireTool = Callable[[str, str], str]
DATABASE = Path("/var/lib/dpkg/info")


def owner(path: str) -> str:
    """The package whose list of files has the path, with or without /usr in front."""
    for listing in DATABASE.glob("*.list"):
        lines = listing.read_text().splitlines()
        if path in lines or path.removeprefix("/usr") in lines:
            return listing.stem.partition(":")[0]
    raise AssertionError(path)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool) -> None:
    require_tool("dpkg-query", "dpkg")
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    debug_package.cache_clear()


def missing(path: str) -> MissingDebug:
    found = ModuleSymbols.open(path, debug_directories=()).missing
    assert found is not None
    return found


def test_debug_package_of_the_c_library_is_named() -> None:
    path = "/lib/x86_64-linux-gnu/libc.so.6"
    assert owner(path) == "libc6"
    if not list(DATABASE.glob("libc6-dbg*.list")):
        pytest.skip("libc6-dbg is not installed")
    for spelling in (path, "/usr" + path):
        assert "apt install libc6-dbg" in missing(spelling).remedy


@pytest.mark.parametrize("tool", ["ls", "dpkg-query"])
def test_package_without_a_known_debug_package(tool: str) -> None:
    path = shutil.which(tool)
    assert path is not None
    found = debug_package(path)
    assert found is not None and found.package == owner(path)
    remedy = missing(path).remedy
    assert f"{found.package}-dbg" in remedy
    server = public_server()
    assert server is None or f"DEBUGINFOD_URLS={server}" in remedy


def test_servers_are_not_advised_where_some_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path))
    monkeypatch.setenv("DEBUGINFOD_URLS", "http://127.0.0.1:9")
    monkeypatch.setenv("DEBUGINFOD_TIMEOUT", "1")
    found = missing("/bin/ls")
    assert "DEBUGINFOD_URLS" not in found.remedy
    assert all("http://127.0.0.1:9 cannot be reached" in text for text in (found.what, found.remedy))


def test_file_of_no_package(tmp_path: Path) -> None:
    copy = tmp_path / "ls"
    shutil.copy("/bin/ls", copy)
    assert debug_package(str(copy)) is None
    assert "compile it with -g" in missing(str(copy)).remedy


def test_machine_without_dpkg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert debug_package("/bin/ls") is None
    assert ".build-id" in missing("/bin/ls").remedy
