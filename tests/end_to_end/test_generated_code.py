"""Stacks through code that was made at run time: named by the map of its maker, where that can be believed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ptap_run import Ptap

from relay_reader.capture import Sample
from relay_reader.capture_file.reader import CaptureFile
from unwind.jit_names import JitNames

PROBE = 'process("{}").function("probed")'


def executable_ranges(pid: int) -> list[tuple[int, int]]:
    """What is executable in a process, as /proc tells."""
    rows = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ..x", Path(f"/proc/{pid}/maps").read_text(), re.M)
    return [(int(low, 16), int(high, 16)) for low, high in rows]


@pytest.fixture(scope="session")
def generated_code(programs) -> Path:
    return programs.build("generated_code")


@pytest.fixture(autouse=True)
def remove_maps() -> Iterator[None]:
    """Of the processes that were started meanwhile."""
    before = set(Path("/tmp").glob("perf-*.map"))
    yield
    for path in set(Path("/tmp").glob("perf-*.map")) - before:
        path.unlink()


def test_the_function_is_named_and_the_walk_says_why_it_ends(ptap: Ptap, backend: str, generated_code: Path) -> None:
    run = ptap.trace(PROBE.format(generated_code), [generated_code], backend=backend)
    (trace,) = run.traces
    assert [frame["function"] for frame in trace["frames"]] == ["probed", "generated_inner"]
    inner = trace["frames"][1]
    assert inner["module"] == f"/tmp/perf-{trace['pid']}.map" and inner["file"] is None
    # The return address, behind push, mov, movabs and call.
    assert inner["offset"] == 1 + 3 + 10 + 2
    assert trace["stop"] == "no_table"
    text = ptap.run(
        "trace", "--backtrace", "--backend", backend, PROBE.format(generated_code), "--", str(generated_code)
    )
    assert "cut short: generated_inner is code made at run time, which has no call frame information" in text.stdout


def test_damaged_lines_are_counted(ptap: Ptap, backend: str, generated_code: Path) -> None:
    content = "%lx 100 a name (with spaces) \nno number 3\n10\n\n-10 20 negative\n"
    run = ptap.trace(PROBE.format(generated_code), [generated_code, content], backend=backend)
    assert run.functions() == ["probed", "a name (with spaces)"]
    assert "3 lines of another form than START SIZE name" in run.stderr


def test_without_a_name_the_trace_says_what_would_give_one(ptap: Ptap, backend: str, generated_code: Path) -> None:
    content = "1000 20 elsewhere\n"
    run = ptap.trace(PROBE.format(generated_code), [generated_code, content], backend=backend)
    assert run.functions() == ["probed", None] and run.traces[0]["frames"][1]["module"] == "//anon"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_map_of_somebody_else_is_not_believed(ptap: Ptap, backend: str, generated_code: Path) -> None:
    run = ptap.trace(PROBE.format(generated_code), [generated_code, "%lx 100 forged\n", "65534"], backend=backend)
    assert run.functions() == ["probed", None]
    path = f"/tmp/perf-{run.traces[0]['pid']}.map"
    assert f"{path} belongs to user 65534" in run.stderr and "not used" in run.stderr


def test_a_recording_keeps_the_names(ptap: Ptap, backend: str, generated_code: Path, tmp_path: Path) -> None:
    """So that they are there when the map is not, as on another machine."""
    path, probe = tmp_path / "a.ptap", PROBE.format(generated_code)
    recorded = ptap.run("record", "-o", str(path), "--backend", backend, probe, "--", str(generated_code))
    (pid,) = {event.pid for _, event in CaptureFile(str(path)).events() if isinstance(event, Sample)}
    kept = Path(f"/tmp/perf-{pid}.map")
    kept.unlink()
    # Of another process that has the number now.
    kept.write_text("0 ffffffffffffffff another\n")
    run = ptap.run("report", str(path), "--format", "json")
    (trace,) = [json.loads(line) for line in run.lines]
    assert [frame["function"] for frame in trace["frames"]] == ["probed", "generated_inner"], recorded.stderr
    assert trace["frames"][1]["module"] == str(kept)
    merged = tmp_path / "merged.ptap"
    ptap.run("merge", "-o", str(merged), str(path))
    assert ptap.run("report", str(merged), "--format", "json").lines == run.lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces without more ado")
def test_a_container_has_its_own_numbers_and_folders(
    ptap: Ptap, backend: str, generated_code: Path, require_tool: Callable[[str, str], str]
) -> None:
    """In namespaces of its own the process is number 1 and /tmp another folder.

    It stays on, since its folders are gone with it, and perf events are read a little later.
    """
    unshare = require_tool("unshare", "util-linux")
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        program = folder / "generated_code"
        shutil.copy(generated_code, program)
        start = f"mount -t tmpfs none /tmp && exec {program} '' '' 3"
        command = [unshare, "--pid", "--fork", "--mount", "--kill-child", "sh", "-c", start]
        run = ptap.trace(PROBE.format(program), command, backend=backend)
    finally:
        shutil.rmtree(folder)
    assert run.functions() == ["probed", "generated_inner"]
    assert run.traces[0]["pid"] != 1 and run.traces[0]["frames"][1]["module"] == "/tmp/perf-1.map"
    assert not Path("/tmp/perf-1.map").exists()


def test_node_names_its_functions(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    """A real JIT while it runs: each piece of code in its map, which is read independently here.

    Not by a trace: the tables of node itself, 90 MB of code, take longer than all other tests here.
    """
    node = require_tool("node", "nodejs")
    script = tmp_path / "ackermann.js"
    script.write_text(
        "function ackermann(m, n) { return m === 0 ? n + 1 : n === 0 ? ackermann(m - 1, 1)"
        " : ackermann(m - 1, ackermann(m, n - 1)); }\n"
        "let sum = 0; for (let i = 0; i < 40; i++) sum += ackermann(2, 300);\n"
        "console.log(sum); process.stdin.resume();\n"
    )
    with subprocess.Popen(
        [node, "--perf-basic-prof", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline().strip().isdecimal()
        path = Path(f"/tmp/perf-{process.pid}.map")
        os.kill(process.pid, signal.SIGSTOP)  # it optimizes on, and the map grows
        text = path.read_text(errors="replace")
        entries = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) (.*\S)\s*$", text, re.M)
        names = JitNames()
        mapped = executable_ranges(process.pid)
        compared = 0
        for start, size, name in entries:
            if "ackermann" in name:
                found = names.find(process.pid, int(start, 16) + int(size, 16) // 2)
                assert found is not None and found[1] == str(path)
                covering = [
                    other
                    for begin, length, other in entries
                    if 0 <= int(start, 16) + int(size, 16) // 2 - int(begin, 16) < int(length, 16)
                ]
                assert found[0].name == covering[-1]
                compared += any(low <= int(start, 16) < high for low, high in mapped)
        process.kill()
    assert compared >= 2 and names.problems == []
