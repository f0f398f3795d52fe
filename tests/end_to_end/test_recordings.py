"""A run that is recorded and reported later shows what a live trace shows; pieces and merged files show the same."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from live_run import PTAP, ended, first_line, running, wait_until
from ptap_run import Ptap, Run

from cfi_tables.debug_file import find_debug_file
from cfi_tables.elf_image import ElfError, ElfImage
from ptap.capture_file_report import CaptureFileReport
from ptap.capture_merge import CaptureMerge
from ptap.capture_report import ReportOptions
from ptap.capture_split import CaptureSplit
from ptap.report.json_lines import JsonReport
from relay_reader.capture import Sample
from relay_reader.capture_file import writer as writing
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.capture_file.writer import CaptureWriter
from unwind.kept_file import KeptFile

SOURCE = Path(__file__).with_name("ticker.c")
PROBES = ('process.function("tick")', 'process.function("tick").return')
_SAMPLES_PER_TICK = 2
_BY_PTRACE = pytest.mark.parametrize("backend", ["ptrace"], indirect=True)
"""For what does not depend on the back end: so its tests need not wait for those of perf events to end."""


@pytest.fixture(scope="module")
def ticker(tmp_path_factory, require_tool):
    """Of a build-id that no other test's has: a file is found by it among what runs here, too."""
    program = tmp_path_factory.mktemp("ticker") / "ticker"
    gcc = require_tool("gcc", "gcc")
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-pthread", f"-Wl,--build-id=0x{uuid4().hex}"]
    subprocess.run([gcc, *flags, str(SOURCE), "-o", str(program)], check=True)
    return program


def record(ptap: Ptap, path: Path, *words: str | Path, backend: str) -> Run:
    return ptap.run("record", "-o", str(path), "--backend", backend, *PROBES, "--", *map(str, words))


def reported(path: Path | str, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """The traces that `ptap report` shows, and its closing lines; without the start of a process."""
    stream = io.StringIO()
    report = CaptureFileReport(str(path), ReportOptions(**options))
    report.write(JsonReport(stream))
    return [json.loads(line) for line in stream.getvalue().splitlines()], "\n".join(report.closing_lines())


def without_identity(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What two runs of one program have in common."""
    varying = ("time_ns", "cpu", "pid", "tid")
    return [{name: value for name, value in trace.items() if name not in varying} for trace in traces]


def test_a_recording_shows_what_the_live_trace_shows(ptap, ticker, backend, tmp_path):
    live = ptap.trace(PROBES, [ticker, "0", "3"], "--arguments", "all", backend=backend)
    recorded = record(ptap, tmp_path / "a.ptap", ticker, "0", "3", backend=backend)
    assert recorded.status == live.status == 3
    assert recorded.stdout == "sum 6\n"
    run = ptap.run("report", str(tmp_path / "a.ptap"), "--format", "json", "--arguments", "all")
    traces = [json.loads(line) for line in run.lines]
    assert run.status == 0 and len(traces) == 3 * _SAMPLES_PER_TICK, recorded.stderr + run.stderr
    assert without_identity(traces) == without_identity(live.traces)
    assert [trace["returned"]["value"] for trace in traces[1::2]] == ["0", "2", "4"]
    assert [trace["frames"][0]["arguments"][0]["value"] for trace in traces[::2]] == ["0", "1", "2"]
    assert run.stderr.splitlines()[-1].startswith("ptap: 6 hits, 6 traces, 0 records lost, 0 cut short")


@_BY_PTRACE
def test_on_another_machine_files_are_found_by_sysroot_and_by_name(ptap, ticker, backend, tmp_path):
    program = tmp_path / "here" / "moved"
    program.parent.mkdir()
    shutil.copy(ticker, program)
    record(ptap, tmp_path / "a.ptap", program, "0", "1", backend=backend)
    there = tmp_path / "root"
    (there / str(program.parent).lstrip("/")).mkdir(parents=True)
    program.rename(there / str(program).lstrip("/"))
    _, words = reported(tmp_path / "a.ptap")
    assert "there is no such file; give the files that were running: --sysroot DIR" in words
    traces, _ = reported(tmp_path / "a.ptap", sysroot=str(there))
    assert [frame["function"] for frame in traces[0]["frames"]][:2] == ["tick", "main"]
    traces, _ = reported(tmp_path / "a.ptap", program=str(ticker))
    assert [frame["function"] for frame in traces[0]["frames"]][:2] == ["tick", "main"]
    # A file of another build at the old place is refused.
    subprocess.run(["gcc", "-O1", "-pthread", str(SOURCE), "-Wl,--build-id", "-o", str(program)], check=True)
    traces, words = reported(tmp_path / "a.ptap")
    assert "was running" in words and traces[0]["frames"][0]["function"] is None


@_BY_PTRACE
def test_a_portable_recording_is_walked_where_its_files_are_not(ptap, ticker, backend, tmp_path):
    path, empty = tmp_path / "a.ptap", tmp_path / "empty"
    empty.mkdir()
    program = tmp_path / "gone"
    shutil.copy(ticker, program)
    words = ["--backend", backend, "--portable", PROBES[0], "--", str(program), "0", "1"]
    ptap.run("record", "-o", str(path), *words)
    expected, _ = reported(path)
    program.unlink()
    traces, told = reported(path, sysroot=str(empty))
    (there,), (here,) = traces, expected
    assert there["stop"] == here["stop"] == "end_of_stack", told
    assert [frame["function"] for frame in there["frames"][:2]] == ["tick", "main"]
    assert [frame["address"] for frame in there["frames"]] == [frame["address"] for frame in here["frames"]]
    # The text that the pointer is to lies in a section that is not kept.
    assert here["frames"][0]["arguments"] and there["frames"][0]["arguments"] == []
    CaptureMerge([str(path)]).write(str(tmp_path / "merged.ptap"))
    assert reported(tmp_path / "merged.ptap", sysroot=str(empty))[0] == traces
    # The debug file of the program is found by what was kept.
    file = CaptureFile(str(path))
    file.read_blobs()
    kept = KeptFile(file.blobs[0, f"file {there['frames'][0]['build_id']}"], "gone")
    debug = tmp_path / ".build-id" / kept.build_id.hex()[:2] / f"{kept.build_id.hex()[2:]}.debug"
    debug.parent.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", str(ticker), str(debug)], check=True)
    assert find_debug_file(kept, (str(tmp_path),)).image is not None
    whole = ElfImage.open(ticker)
    for name in (".eh_frame", ".dynsym", ".symtab"):
        assert kept.section_data(name).tobytes() == whole.section_data(name).tobytes()
    with pytest.raises(ElfError, match="does not hold"):
        kept.read(whole.sections[".rodata"].address, 4)


@_BY_PTRACE
def test_pieces_and_what_is_merged_of_them_show_the_same(ptap, ticker, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "FULL_CHUNK", 1 << 12)
    script = f"{ticker} 20 4; {ticker} 20 3; true"
    probe = f'process("{ticker}").function("tick")'
    whole = tmp_path / "whole.ptap"
    ptap.run("record", "-o", str(whole), "--backend", backend, probe, "--", "sh", "-c", script)
    expected, _ = reported(whole, arguments=False)
    assert len(expected) == 7
    size = 3 * whole.stat().st_size // 4  # what every piece begins with counts
    for split_by in (
        lambda split: split.by_time(60_000_000),
        lambda split: split.by_size(size),
        lambda split: split.by_process(),
    ):
        pieces = split_by(CaptureSplit(str(whole), str(tmp_path / "piece")))
        assert len(pieces) > 1
        found = [trace for piece in pieces for trace in reported(piece, arguments=False)[0]]
        assert sorted(found, key=lambda trace: trace["time_ns"]) == expected
        CaptureMerge(pieces).write(str(tmp_path / "merged.ptap"))
        assert reported(tmp_path / "merged.ptap", arguments=False)[0] == expected


@_BY_PTRACE
def test_recordings_of_two_machines_stay_apart_in_one_file(ptap, ticker, backend, tmp_path):
    """The second machine's clock began at another time; the same pids and addresses are other programs there."""
    record(ptap, tmp_path / "a.ptap", ticker, "0", "2", backend=backend)
    file = CaptureFile(str(tmp_path / "a.ptap"))
    events = list(file.events())
    facts = file.sources[0]
    machine = replace(
        facts.machine, host="other", boot_id="other", start_wall_ns=facts.machine.start_wall_ns - 3_600_000_000_000
    )
    other = CaptureWriter(str(tmp_path / "b.ptap"), [replace(facts, machine=machine)])
    for (_, name), content in file.blobs.items():
        other.add_blob(name, content)
    for _, event in events:
        other.add(event)
    other.close()
    merged = ptap.run("merge", str(tmp_path / "a.ptap"), str(tmp_path / "b.ptap"), "-o", str(tmp_path / "m.ptap"))
    assert merged.status == 0, merged.stderr
    traces, _ = reported(tmp_path / "m.ptap")
    apart = reported(tmp_path / "a.ptap")[0]
    assert [trace["host"] for trace in traces] == ["other"] * len(apart) + [facts.machine.host] * len(apart)
    assert without_identity([{**trace, "host": 0} for trace in traces]) == 2 * without_identity(
        [{**trace, "host": 0} for trace in apart]
    )
    times = [trace["time_ns"] for trace in traces]
    assert times == sorted(times) and times[-1] - times[0] > 3_500_000_000_000


@_BY_PTRACE
def test_a_killed_recording_can_be_read_and_was_followed(ptap, ticker, backend, tmp_path):
    path = tmp_path / "killed.ptap"
    command = [*PTAP, "record", "-o", path, "--backend", backend, PROBES[0], "--", ticker, "5", "100000"]
    with running(command) as recorder:
        wait_until(lambda: path.exists() and path.stat().st_size > 0, "the file")
        with running([*PTAP, "report", "--follow", "--format", "json", "--arguments", "all", path]) as follower:
            line = first_line(follower)
            assert recorder.poll() is None  # it is shown while it is recorded
            recorder.send_signal(signal.SIGKILL)
            status, rest, words = ended(follower)
    assert json.loads(line)["frames"][0]["function"] == "tick"
    assert status == 0 and "was not ended in order" in words
    traces, _ = reported(path)
    assert [json.loads(line), *map(json.loads, rest.splitlines())] == traces


@_BY_PTRACE
def test_info_tells_what_is_in_a_file(ptap, ticker, backend, tmp_path):
    path = tmp_path / "a.ptap"
    record(ptap, path, ticker, "0", "3", backend=backend)
    run = ptap.run("info", str(path), "--format", "json")
    told = json.loads(run.stdout)
    (recording,) = told["recordings"]
    samples = [event for _, event in CaptureFile(str(path)).events() if isinstance(event, Sample)]
    assert run.status == 0 and told["complete"] and not told["damage"]
    assert recording["samples"] == len(samples) == 3 * _SAMPLES_PER_TICK
    assert recording["stack_bytes"] == sum(len(each.data) for sample in samples for each in sample.slices)
    assert recording["hits"] == {"0": 3, "1": 3} and recording["lost"] == 0
    notes = subprocess.run(["readelf", "-n", str(ticker)], capture_output=True, text=True, check=True).stdout
    build_ids = {mapped["path"]: mapped["build_id"] for mapped in recording["mapped"]}
    assert build_ids[str(ticker)] in notes
    assert sum(part["stored"] for part in told["parts"].values()) + 16 == told["bytes"] == path.stat().st_size
    text = ptap.run("info", str(path))
    assert f"3 hits of {recording['probes'][0]['probe']}" in text.stdout
    path.write_bytes(path.read_bytes()[:-5])
    damaged = ptap.run("info", str(path))
    assert damaged.status == 1 and "the file ends inside a chunk at byte" in damaged.stdout


@_BY_PTRACE
def test_a_recording_that_cannot_be_written_starts_nothing(ptap, ticker, backend, tmp_path):
    probe = f'process("{ticker}").function("tick")'
    words = ["--backend", backend, probe, "--", "sh", "-c", f"touch {tmp_path}/started; exec {ticker} 0 1"]
    run = ptap.run("record", "-o", str(tmp_path / "nowhere" / "a.ptap"), *words)
    assert run.status == 2 and "nowhere/a.ptap: No such file or directory" in run.stderr
    assert not (tmp_path / "started").exists()


@_BY_PTRACE
def test_only_wanted_stacks_are_recorded(ptap, ticker, backend, tmp_path):
    path = tmp_path / "a.ptap"
    words = ["--when", 'direct_caller("worker")', PROBES[0], "--", str(ticker), "0", "3"]
    run = ptap.run("record", "-o", str(path), "--backend", backend, *words)
    assert "3 hits, 3 not wanted" in run.stderr
    assert not [event for _, event in CaptureFile(str(path)).events() if isinstance(event, Sample)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "none.ptap"], "No such file"),
        (["record", "-o", "/nowhere/a.ptap", "timer.profile(9)"], "/nowhere/a.ptap: No such file"),
        (["record", "-o", "a.ptap"], "nothing to record"),
        (["split", "{empty}", "--every", "10s"], "nothing was recorded"),
        (["split", "{empty}"], "--every, --size, --process"),
        (["split", "{empty}", "--every", "soon"], "is no time"),
        (["merge", "{empty}", "-o", "{empty}"], "one of the files that are merged"),
        (["report", "--follow", "{source}"], "is not followed"),
    ],
)
@_BY_PTRACE
def test_what_cannot_be_done_is_said_with_a_remedy(backend, tmp_path, words, told):
    empty = tmp_path / "empty.ptap"
    empty.write_bytes(b"")
    name, *arguments = (word.format(empty=empty, source=SOURCE) for word in words)
    target = ("true",) if name == "record" and arguments[-1].startswith("timer") else None
    run = CliRunner().invoke(import_module(f"ptap.cli.{name}").command, arguments, obj=target)
    assert run.exit_code == 2 and told in run.output, run.output
