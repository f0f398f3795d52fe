"""Code made at run time in perf.data: named by the map that its process has left, where that can be believed."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from perf_report.perf_data_writer import (
    BASE,
    CALLCHAIN,
    CONTEXT_USER,
    Event,
    PerfDataFile,
    chain,
    comm,
    ksymbol,
    mapping,
    record,
    sample,
)
from perf_report.recordings import functions, report

CODE = 0x7F0000001000
PID = 4711


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A process that ran in memory without a file: at CODE + 0x20, called from CODE + 0x100."""
    made = PerfDataFile([Event([1], BASE | CALLCHAIN)])
    words = chain(CONTEXT_USER, CODE + 0x20, CODE + 0x100)
    made.records = [
        comm(PID, 1, "jit"),
        mapping(PID, 2, CODE, 0x1000, 0, "//anon"),
        sample(PID, 3, CODE + 0x20, words),
        sample(PID + 1, 4, CODE + 0x20, words),
    ]
    path = tmp_path / "jit.data"
    path.write_bytes(made.in_file())
    return path


def write_map(root: Path, text: str) -> Path:
    path = root / "tmp" / f"perf-{PID}.map"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_names_come_from_the_map_of_the_process(recording: Path, tmp_path: Path) -> None:
    # The caller is looked up before the place that is returned to, where the next one begins.
    path = write_map(tmp_path / "root", f"{CODE:x} 40 inner\n{CODE + 0x40:x} c0 outer\n{CODE + 0x100:x} 40 next\n")
    found = report(recording, sysroot=str(tmp_path / "root"))
    own, other = found.traces
    assert functions(own) == ["inner", "outer"] and [frame.offset for frame in own.frames] == [0x20, 0xC0]
    assert {frame.module for frame in own.frames} == {str(path)}
    assert functions(other) == [None, None], "another process has another map"
    (line,) = (line for line in found.lines if str(path) in line)
    assert f"process {PID}" in line and "later process" in line


def test_without_a_map_nothing_is_named(recording: Path, tmp_path: Path) -> None:
    found = report(recording, sysroot=str(tmp_path))
    assert functions(found.traces[0]) == [None, None]
    assert not any("perf-" in line for line in found.lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_map_of_somebody_else_or_behind_a_link_is_not_believed(recording: Path, tmp_path: Path) -> None:
    path = write_map(tmp_path / "root", f"{CODE:x} 1000 forged\n")
    os.chown(path, 65534, -1)
    found = report(recording, sysroot=str(tmp_path / "root"))
    assert functions(found.traces[0]) == [None, None]
    assert any(f"{path} belongs to user 65534" in line for line in found.lines)
    path.rename(tmp_path / "elsewhere")
    os.chown(tmp_path / "elsewhere", 0, -1)
    path.symlink_to(tmp_path / "elsewhere")
    assert functions(report(recording, sysroot=str(tmp_path / "root")).traces[0]) == [None, None]


def test_what_the_kernel_made_is_named_by_what_it_told(tmp_path: Path) -> None:
    """BPF programs have names as long as they are there; what else is told of them gives no stacks."""
    code = 0xFFFFFFFFC0200000
    made = PerfDataFile([Event([1], BASE | CALLCHAIN)])
    words = chain((1 << 64) - 128, code + 0x10)
    made.records = [
        ksymbol(1, code, 64, "bpf_prog_6deef7357e7b4530_count"),
        record(18, struct.pack("<HHI8s", 1, 0, 7, b"\x6d" * 8) + struct.pack("<IIQQ", 0, 0, 1, 1)),
        sample(PID, 2, code + 0x10, words, misc=1),
        ksymbol(3, code, 64, "bpf_prog_6deef7357e7b4530_count", gone=True),
        sample(PID, 4, code + 0x10, words, misc=1),
    ]
    path = tmp_path / "bpf.data"
    path.write_bytes(made.in_file())
    found = report(path, verbose=True)
    there, gone = found.traces
    assert [(frame.space, frame.function) for frame in there.frames] == [("kernel", "bpf_prog_6deef7357e7b4530_count")]
    assert gone.frames[0].function is None
    assert any("1 BPF_EVENT" in line for line in found.lines)
