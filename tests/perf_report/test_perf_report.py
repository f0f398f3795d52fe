"""`ptap report perf.data`: deep and cut stacks, told chains, files that moved, pipes, and what is said at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from perf_report.recordings import functions, perf_record, report

from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import StopReason
from ptap.predicate.parse import parse_predicate
from relay_reader.capture import Mapping
from unwind.recorded_images import RecordedImages

DEPTH = 1500
PROGRAM = r"""
#include <sys/mman.h>
#include <unistd.h>
volatile long n;
__attribute__((noipa)) void leaf(void) {
    char *pages = mmap(0, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 64; i++) pages[i * 4096] = 1;
    n += pages[4096];
}
__attribute__((noipa)) void down(int k) { if (k) down(k - 1); else leaf(); n++; }
int main(int argc, char **argv) { if (argc > 2) pause(); down(argc > 1 ? 5 : DEPTH); return 0; }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    """Where the program `deep` is, and `kept`, in which functions keep frame pointers."""
    require_tool("perf", "linux-perf")
    folder = tmp_path_factory.mktemp("perf_report")
    (folder / "deep.c").write_text(PROGRAM)
    command = [require_tool("gcc", "gcc"), "-O2", "-g", f"-DDEPTH={DEPTH}", folder / "deep.c", "-o"]
    subprocess.run([*command, folder / "deep", "-fomit-frame-pointer"], check=True)
    subprocess.run([*command, folder / "kept", "-fno-omit-frame-pointer"], check=True)
    return folder


@pytest.fixture(scope="module")
def deep(folder: Path) -> Path:
    """A recording with room for all of the stack; a sample in every 16 page faults, of which `leaf` has 64.

    All samples together fit into perf's ring (512 KiB), so that none is lost, however late perf reads it.
    """
    options = ["--call-graph", "dwarf,32768", "--buildid-all"]
    return perf_record(folder / "deep.data", [folder / "deep"], *options, every=16)


def test_a_stack_of_thousands_of_frames_is_whole(deep: Path) -> None:
    found = [trace for trace in report(deep).traces if "leaf" in functions(trace)]
    assert found
    for trace in found:
        names = functions(trace)
        assert names[: DEPTH + 3] == ["leaf", *["down"] * (DEPTH + 1), "main"]
        assert trace.stop is StopReason.END_OF_STACK
        assert trace.stop_text is None
        assert trace.probe == "page-faults:u"
        assert trace.weight == 16


def test_depth_is_limited_where_that_is_asked_for(deep: Path) -> None:
    found = [trace for trace in report(deep, max_depth=1200).traces if "leaf" in functions(trace)]
    assert found
    for trace in found:
        assert functions(trace) == ["leaf", *["down"] * 1199]
        assert trace.stop is StopReason.TOO_DEEP


def test_a_stack_that_is_larger_than_its_copy_is_said_to_be_cut(folder: Path) -> None:
    path = perf_record(folder / "cut.data", [folder / "deep"], "--call-graph", "dwarf,2048", every=8)
    reported = report(path)
    found = [trace for trace in reported.traces if "leaf" in functions(trace)]
    assert found
    for trace in found:
        assert set(functions(trace)[1:]) == {"down"}
        assert trace.stop is StopReason.STACK_CUT
        assert "dwarf,65528" in str(trace.stop_text)
    cut = sum(trace.stop is StopReason.STACK_CUT for trace in reported.traces)
    assert f"{cut} stack_cut" in reported.lines[-1]


def test_a_chain_of_frame_pointers_is_said_to_be_one(folder: Path) -> None:
    path = perf_record(folder / "fp.data", [folder / "kept"], "--call-graph", "fp", every=8)
    found = [trace for trace in report(path).traces if "leaf" in functions(trace)]
    assert found
    for trace in found:
        # The kernel's limit, whatever it is set to here, is less than the program's depth.
        assert trace.chain == "fp"
        assert set(functions(trace)[1:]) == {"down"}
        assert trace.stop is StopReason.TOO_DEEP
        assert "perf_event_max_stack" in str(trace.stop_text)
    # What frame pointers have missed may be the caller that is asked for.
    asked = report(path, when=parse_predicate('caller("main")')).traces
    assert {trace.undecided for trace in asked if "leaf" in functions(trace)} == {True}


def test_a_short_chain_ends_where_frame_pointers_do(folder: Path) -> None:
    path = perf_record(folder / "short.data", [folder / "kept", "short"], "--call-graph", "fp", every=8)
    # Where `leaf` touches its pages; before that it may have no frame pointer yet.
    line = next(number for number, text in enumerate(PROGRAM.splitlines(), 1) if "pages[i * 4096]" in text)
    found = [
        trace for trace in report(path).traces if (trace.frames[0].function, trace.frames[0].line) == ("leaf", line)
    ]
    assert found
    for trace in found:
        assert functions(trace)[:8] == ["leaf", *["down"] * 6, "main"]
        assert trace.frames[0].line is not None
        assert trace.stop in (StopReason.NO_REGISTERS, StopReason.END_OF_STACK)
        assert (trace.stop is StopReason.END_OF_STACK) == (trace.stop_text is None)


def ptap(*arguments: str | Path, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "ptap", "report", *arguments], input=given, capture_output=True)


def test_the_command_in_both_forms(deep: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = ptap(deep, "--format", "json", "-o", out, "--arguments", "none", "--when", 'comm() == "deep"')
    assert done.returncode == 0, done.stderr.decode()
    objects = [json.loads(line) for line in out.read_text().splitlines()]
    expected = report(deep).traces
    assert [each["time_ns"] for each in objects] == [trace.time_ns for trace in expected if trace.comm == "deep"]
    assert all("chain" not in each and each["probe"] == "page-faults:u" for each in objects)
    assert f"{len(expected)} hits, {len(objects)} traces" in done.stderr.decode()
    text = ptap(deep, "--arguments", "none", "--max-depth", "3", "-v")
    assert text.returncode == 0
    assert "records that tell nothing about stacks" in text.stderr.decode()
    assert text.stdout.decode().count("cut short: more than 3 frames: use a larger --max-depth") > 0


def test_a_pipe(folder: Path) -> None:
    command = ["perf", "record", "-qN", "-e", "page-faults:u", "-c", "16", "--call-graph", "dwarf,32768", "-o", "-"]
    recorded = subprocess.run([*command, folder / "deep"], check=True, capture_output=True).stdout
    done = ptap("-", "--format", "json", "--arguments", "none", given=recorded)
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    names = [[frame["function"] for frame in each["frames"]] for each in found]
    leaves = [each for each in names if "leaf" in each]
    assert leaves
    assert all(each[: DEPTH + 3] == ["leaf", *["down"] * (DEPTH + 1), "main"] for each in leaves)


def test_a_file_comes_in_by_a_pipe_as_well(deep: Path) -> None:
    done = ptap("-", "--format", "json", "--arguments", "none", "--max-depth", "5", given=deep.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.splitlines()) == len(report(deep).traces)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"2ELIFREP" + bytes(100), "big-endian"), (b"PERFILE2" + bytes(100), "damaged"), (b"", "begins with")],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "other.data"
    path.write_bytes(content)
    done = ptap(path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert str(path) in done.stderr.decode()
    assert told in done.stderr.decode()


def test_a_folder_without_records_is_no_recording(tmp_path: Path) -> None:
    done = ptap(tmp_path)
    assert done.returncode == 2
    assert "--threads" in done.stderr.decode()


def test_a_file_that_is_cut_short_gives_what_is_there(deep: Path, tmp_path: Path) -> None:
    whole = deep.read_bytes()
    path = tmp_path / "cut.data"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    done = ptap(path, "--format", "json", "--arguments", "none", "--max-depth", "5")
    assert done.returncode == 0
    assert 0 < len(done.stdout.splitlines()) < len(report(deep).traces)
    assert f"{path}: the file ends inside its data section" in done.stderr.decode()


@pytest.fixture
def moved(deep: Path, folder: Path) -> Iterator[Path]:
    """The recorded program where nobody expects it; another one is in its place."""
    program = folder / "deep"
    kept = folder / "kept-aside"
    shutil.move(program, kept)
    shutil.copy(folder / "kept", program)
    yield kept
    shutil.move(kept, program)


def names_of_leaves(path: Path, **options: object) -> set[str | None]:
    return {name for trace in report(path, **options).traces for name in functions(trace) if name in ("leaf", "down")}


def test_a_program_that_was_replaced_is_not_taken(
    deep: Path, moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where perf keeps copies
    reported = report(deep)
    assert not {name for trace in reported.traces for name in functions(trace)} & {"leaf", "down"}
    assert any(f"{moved.with_name('deep')}: build-id" in line and "--sysroot" in line for line in reported.lines)
    assert names_of_leaves(deep, program=str(moved), max_depth=9) == {"leaf", "down"}
    root = tmp_path / "root"
    place = root / str(moved.with_name("deep")).lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copy(moved, place)
    assert names_of_leaves(deep, sysroot=str(root), max_depth=9) == {"leaf", "down"}


def test_a_file_of_another_mount_namespace(
    folder: Path, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    """The same path is another file there; while the process runs, its own is found."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place, program in ((inside, "deep"), (outside, "kept")):
        place.mkdir()
        shutil.copy(folder / program, place / "program")
    program = outside / "program"
    (tmp_path / "run.sh").write_text(f"mount --bind {inside} {outside} && exec {program} and wait\n")
    command = [require_tool("unshare", "util-linux"), "-m" if os.geteuid() == 0 else "-rm", "sh", tmp_path / "run.sh"]
    with subprocess.Popen(command) as process:
        try:
            mapped = code_of(program, process)
            images = RecordedImages(None, "/", lambda: False)
            assert images.open(mapped, process.pid).build_id == ElfImage.open(str(inside / "program")).build_id
            # Another process does not have it mapped there.
            assert images.open(mapped, os.getpid()).build_id == ElfImage.open(str(program)).build_id
        finally:
            process.kill()
    assert ElfImage.open(str(program)).build_id != ElfImage.open(str(inside / "program")).build_id


def code_of(program: Path, process: subprocess.Popen[bytes]) -> Mapping:
    """Where the running process has mapped the program's code, once it has."""
    while True:
        assert process.poll() is None, "no mount namespace could be made"
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            if line.endswith(f" {program}") and " r-xp " in line:
                start, end = (int(each, 16) for each in line.split()[0].split("-"))
                return Mapping(start, end, int(line.split()[2], 16), str(program))
        time.sleep(0.01)
