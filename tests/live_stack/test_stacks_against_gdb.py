"""Stacks and values of standing processes, against gdb attached to the same ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cores import gdb_core
from cores.value_comparison import compare
from live_stack.conftest import json_stacks, stacks, wait_until

_GDB = ("gdb", "-nx", "-q", "-batch", "-iex", "set debuginfod enabled off")


def by_gdb(pid: int, folder: Path) -> dict[int, list[gdb_core.GdbFrame]]:
    """Every thread's frames by its tid, innermost first, as gdb tells them that is attached to the process."""
    answer = folder / "gdb.json"
    run = subprocess.run(
        [*_GDB, "-p", str(pid), "-x", str(gdb_core.SCRIPT)],
        env={**os.environ, "DEBUGINFOD_URLS": "", "LC_ALL": "C.UTF-8", "PTAP_CORE_VALUES": str(answer)},
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert answer.exists(), run.stderr[-3000:]
    return {
        int(tid): [
            gdb_core.GdbFrame(
                frame["pc"], frame["function"], [gdb_core.GdbVariable(*each) for each in frame["variables"]]
            )
            for frame in frames
        ]
        for tid, frames in json.loads(answer.read_text()).items()
    }


@pytest.mark.parametrize(("mode", "threads"), [("threads", 5), ("handlers", 2)])
def test_stacks_of_all_threads(standing, tmp_path, require_tool, mode, threads):
    require_tool("gdb", "gdb")
    process = standing(mode, threads)
    theirs = by_gdb(process.pid, tmp_path)
    wait_until(lambda: all(process.state(tid) == "S" for tid in process.threads()))
    ours, _ = stacks(process.pid)
    assert [trace["tid"] for trace in ours] == process.threads() and len(ours) == threads
    for trace in ours:
        assert trace["stop"] == "end_of_stack"
        frames = theirs[trace["tid"]]
        assert [int(frame["address"], 16) for frame in trace["frames"]] == [frame.pc for frame in frames]
        for frame, their in zip(trace["frames"], frames, strict=True):
            if frame["module"] == str(process.program):
                assert frame["function"] == their.function
    names = {frame["function"] for trace in ours for frame in trace["frames"]}
    assert names >= ({"descend", "thread_main", "stand"} if mode == "threads" else {"handler", "interrupted", "stand"})


def test_values_of_memory_that_pointers_lead_to(standing, tmp_path, require_tool):
    require_tool("gdb", "gdb")
    process = standing("values")
    theirs = by_gdb(process.pid, tmp_path)
    wait_until(lambda: process.state() == "S")
    ours = json_stacks(process.pid, "--locals")
    result = compare(ours, theirs, lambda trace, frame, variable: False)
    assert not result.different, "\n".join(result.different)
    fill = next(frame for frame in ours[0]["frames"] if frame["function"] == "fill")
    texts = {each["name"]: each["value"] for each in (*fill["arguments"], *fill["locals"])}
    assert '"a label on the heap"' in texts["label"] and '"local of a label on the heap' in texts["local"]
    text = "".join(str(value) for value in texts.values())
    assert "amount" not in text or "42" in text


def test_python_deep_in_its_c_functions(started, tmp_path, require_tool):
    python = Path(require_tool("python3.11-dbg", "python3.11-dbg")).resolve()
    require_tool("gdb", "gdb")
    script = (
        "import signal, functools\n"
        "def descend(depth):\n"
        "    if depth == 0:\n"
        "        print('ready', flush=True); signal.pause()\n"
        "    if depth % 2: return sorted([1], key=lambda each: descend(depth - 1))\n"
        "    return functools.reduce(lambda a, b: descend(depth - 1), [1, 2])\n"
        "descend(12)\n"
    )
    process = started([python, "-S", "-c", script])
    wait_until(lambda: process.state() == "S")
    theirs = by_gdb(process.pid, tmp_path)
    wait_until(lambda: process.state() == "S")
    (trace,), report = stacks(process.pid)
    assert trace["stop"] == "end_of_stack"
    frames = theirs[process.pid]
    assert [int(frame["address"], 16) for frame in trace["frames"]] == [frame.pc for frame in frames]
    named = [(frame["function"], their.function) for frame, their in zip(trace["frames"], frames, strict=True)]
    assert len(named) > 100 and sum(ours == gdb for ours, gdb in named) >= len(named) - 2  # _start, clones' suffixes
    report.keep_names()
    (again,), warm = stacks(process.pid)
    assert warm.is_warm and again["frames"] == trace["frames"]
