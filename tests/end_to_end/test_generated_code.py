"""Stacks through code that was made at run time: named by the map of its maker, where that can be believed."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ptap_run import Ptap, usable_back_end

PROBE = 'process("{}").function("probed")'


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


def test_node_names_its_functions(ptap: Ptap, tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    """A real JIT: its optimized function is where the time goes, and its map is read independently here."""
    usable_back_end("perf")
    node = require_tool("node", "nodejs")
    script = tmp_path / "ackermann.js"
    script.write_text(
        "function ackermann(m, n) { return m === 0 ? n + 1 : n === 0 ? ackermann(m - 1, 1)"
        " : ackermann(m - 1, ackermann(m, n - 1)); }\n"
        "let sum = 0; for (let i = 0; i < 300; i++) sum += ackermann(2, 300);\n"
        "console.log(process.pid, sum);\n"
        "require('fs').copyFileSync(`/tmp/perf-${process.pid}.map`, process.argv[2]);\n"
    )
    listing = tmp_path / "map"
    command = [node, "--perf-basic-prof", script, listing]
    run = ptap.trace("timer.profile(100)", command, backend="perf", prefix=())
    assert run.status == 0
    entries = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) (.*\S)\s*$", listing.read_text(errors="replace"), re.M)
    known = [(int(start, 16), int(start, 16) + int(size, 16), name) for start, size, name in entries]
    checked = 0
    for trace in run.traces:
        frame = next((each for each in trace["frames"] if each["space"] == "user"), None)
        if frame is None or not (frame["module"] or "").startswith("/tmp/perf-"):
            continue
        address = int(frame["address"], 16)
        # Of entries for one place the last one counts; the map grew on after the sample, so any of them may be it.
        assert frame["function"] in {name for start, end, name in known if start <= address < end}
        checked += "ackermann" in frame["function"]
    assert checked > 10
