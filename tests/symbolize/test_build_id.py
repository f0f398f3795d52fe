"""`ptap symbolize --build-id`: where a file is found by its build-id alone, and what is said when it is nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cfi_tables.build_id_search import BuildIdError, find_build_id, parse_build_id
from cfi_tables.elf_image import ElfImage

Build = Callable[..., Path]
PTAP = (sys.executable, "-m", "ptap", "symbolize")


@pytest.fixture
def program(build: Build, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A copy that is nobody else's, and its build-id as readelf prints it."""
    copy = tmp_path / "program"
    shutil.copy(build("gcc", "-g", "-O2", "-Wl,--build-id"), copy)
    # Another id than that of the original, which other tests run.
    data = copy.read_bytes()
    build_id = ElfImage.open(copy).build_id
    assert build_id is not None and data.count(build_id) == 1
    copy.write_bytes(data.replace(build_id, os.urandom(len(build_id))))
    notes = subprocess.run(["readelf", "-n", copy], capture_output=True, text=True, check=True).stdout
    yield copy, notes.split("Build ID:")[1].split()[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "debuginfod"))
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)


def place(folder: Path, build_id: str, suffix: str) -> Path:
    path = folder / ".build-id" / build_id[:2] / f"{build_id[2:]}{suffix}"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("suffix", ["", ".debug"])
def test_in_a_build_id_directory(program: tuple[Path, str], suffix: str, tmp_path: Path) -> None:
    path, build_id = program
    place(tmp_path / "debug", build_id, suffix).symlink_to(path)
    found = find_build_id(bytes.fromhex(build_id), (str(tmp_path / "debug"),))
    assert Path(found.path).samefile(path)


def test_a_file_of_another_build_is_refused(program: tuple[Path, str], build: Build, tmp_path: Path) -> None:
    _, build_id = program
    other = build("gcc", "-g", "-O2", "-Wl,--build-id")
    theirs = ElfImage.open(other).build_id
    place(tmp_path / "debug", build_id, ".debug").symlink_to(other)
    with pytest.raises(BuildIdError) as told:
        find_build_id(bytes.fromhex(build_id), (str(tmp_path / "debug"),))
    assert theirs is not None and theirs.hex() in str(told.value) and build_id in str(told.value)


def test_in_the_cache_of_debuginfods_clients(program: tuple[Path, str], tmp_path: Path) -> None:
    """The text of the command is that of the file."""
    path, build_id = program
    folder = tmp_path / "debuginfod" / build_id
    folder.mkdir(parents=True)
    shutil.copy(path, folder / "debuginfo")
    address = hex(ElfImage.open(path).entry)
    by_id = subprocess.run([*PTAP, "--build-id", build_id.upper(), address], capture_output=True, text=True)
    by_path = subprocess.run([*PTAP, "-e", path, address], capture_output=True, text=True)
    assert by_id.returncode == 0 and by_id.stdout == by_path.stdout != "?? ??:0\n"


def test_of_a_running_process_even_after_it_was_renamed(
    program: tuple[Path, str], tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    _, build_id = program
    sleeper = tmp_path / "sleeper"
    shutil.copy(require_tool("sleep", "coreutils"), sleeper)
    data = sleeper.read_bytes()
    own = ElfImage.open(sleeper).build_id
    assert own is not None and data.count(own) == 1
    sleeper.write_bytes(data.replace(own, bytes.fromhex(build_id)[: len(own)]))
    with subprocess.Popen([sleeper, "60"]) as process:
        try:
            # Until the exec is done the process is still a copy of this one.
            while os.readlink(f"/proc/{process.pid}/exe") != str(sleeper):
                assert process.poll() is None
            found = find_build_id(bytes.fromhex(build_id), ())
            assert found.path == str(sleeper)
        finally:
            process.kill()


def test_where_was_looked_is_told(program: tuple[Path, str], tmp_path: Path) -> None:
    _, build_id = program
    done = subprocess.run([*PTAP, "--build-id", build_id, "0x10"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    for expected in (
        f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug",
        str(tmp_path / "debuginfod" / build_id),
        "in a process that runs",
        "DEBUGINFOD_URLS",
    ):
        assert expected in done.stderr


@pytest.mark.parametrize("text", ["", "12", "xyz", "abcdef012", "/usr/bin/ls"])
def test_what_is_no_build_id(text: str) -> None:
    with pytest.raises(BuildIdError, match="no build-id"):
        parse_build_id(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "-e, --build-id, --kernel, --perf-map"),
        (["-e", "/bin/ls", "--kernel"], "one of"),
        (["-e", "/bin/ls", "--vmlinux", "vmlinux"], "--vmlinux goes with --kernel"),
        (["--kernel", "--kallsyms", "a", "--system-map", "b"], "name one of them"),
        (["--kernel", "--slide", "far"], "no number"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], expected: str) -> None:
    done = subprocess.run([*PTAP, *words, "0x10"], capture_output=True, text=True)
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr
