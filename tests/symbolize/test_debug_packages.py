"""What a user is told to install: by the files of dpkg's database, which the test reads for itself."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from unwind.symbolize import package_answers
from unwind.symbolize.debug_package import DebugPackage, debug_package, debug_packages, public_server
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
def nothing_known(
    monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    require_tool("dpkg-query", "dpkg")
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "packages"))
    package_answers._loaded.cache_clear()


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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """What dpkg and apt were asked since the last call; a new process is pretended at each."""
    log, tools = tmp_path / "asked", tmp_path / "tools"
    log.touch()
    tools.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What apt takes its time to find is not what is tested here.
    real = f'exec {shutil.which("dpkg-query")} "$@"'
    for name, answer in (("dpkg-query", real), ("apt-cache", "echo coreutils-dbg")):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $1" >> {log}\n{answer}\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    # Databases that the test may change; what they hold the tools read from the real ones.
    (tmp_path / "status").write_text("")
    monkeypatch.setattr(package_answers, "_DATABASES", (str(tmp_path / "status"), str(tmp_path / "nothing")))

    def since() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        package_answers._loaded.cache_clear()
        return lines

    return since


ALL = ["dpkg-query --search", "dpkg-query --show", "apt-cache pkgnames"]


def test_packages_are_asked_for_once_and_together(asked: Callable[[], list[str]], tmp_path: Path) -> None:
    paths = ["/bin/ls", "/usr/bin/dpkg-query", "/bin/cat", str(tmp_path / "status")]
    first = debug_packages(paths)
    assert {path: each and each.package for path, each in first.items()} == {
        **{path: owner(path) for path in paths[:3]}, paths[3]: None,
    }  # fmt: skip
    assert first["/bin/ls"] == DebugPackage("coreutils", "coreutils-dbg")
    assert asked() == ALL
    assert debug_packages(paths) == first and asked() == []
    # One more file of a package that is known.
    assert debug_packages([*paths, "/bin/cp"])["/bin/cp"] == first["/bin/ls"] and asked() == ALL[:1]


def test_answers_hold_for_as_long_as_the_databases(asked: Callable[[], list[str]], tmp_path: Path) -> None:
    first = debug_package("/bin/ls")
    assert asked() == ALL and debug_package("/bin/ls") == first and asked() == []
    (tmp_path / "status").write_text("a package more")
    assert debug_package("/bin/ls") == first and asked() == ALL
    (tmp_path / "nothing").write_text("")
    assert debug_package("/bin/ls") == first and asked() == ALL and debug_package("/bin/ls") == first and not asked()


@pytest.mark.parametrize("damage", ["cut", "changed", "no object", "of another form"])
def test_damaged_answers_are_asked_for_again(asked: Callable[[], list[str]], tmp_path: Path, damage: str) -> None:
    first = debug_package("/bin/ls")
    assert asked() == ALL
    kept = tmp_path / "cache/ptap/packages.json"
    text = kept.read_bytes()
    told = json.loads(text.partition(b"\n")[2])
    other = {"no object": [], "of another form": {**told, "owners": 3}}
    if damage in other:
        body = json.dumps(other[damage]).encode()
        kept.write_bytes(b"%08x\n%s" % (zlib.crc32(body), body))
    else:
        kept.write_bytes(text[:-20] if damage == "cut" else text.replace(b"/bin/ls", b"/bin/cp"))
    assert debug_package("/bin/ls") == first and asked() == ALL and kept.read_bytes() == text


def test_what_the_tools_fail_to_say_is_not_kept(
    asked: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("dpkg-query", "apt-cache"):
        tool = tmp_path / "tools" / name
        good = tool.read_text()
        tool.write_text("#!/bin/sh\nexit 2\n")
        package = debug_package("/bin/ls")
        assert package == (None if name == "dpkg-query" else DebugPackage(owner("/bin/ls"), None))
        tool.write_text(good)
        asked()
        assert debug_package("/bin/ls") is not None
        assert asked() == (ALL if name == "dpkg-query" else ALL[1:])
        (tmp_path / "cache/ptap/packages.json").unlink()


def test_files_that_are_not_here_are_not_asked_about(asked: Callable[[], list[str]]) -> None:
    assert debug_package("/usr/lib/of/another/machine.so") is None and asked() == []


def test_odd_paths_are_no_patterns(asked: Callable[[], list[str]], tmp_path: Path) -> None:
    for name in ("l*", "l?", "[l]s", "l\\s", "l\ns", "\udcff"):
        path = tmp_path / name
        path.touch()
        assert debug_package(str(path)) is None
    assert debug_packages([]) == {}
