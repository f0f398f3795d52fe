"""`ptap profile --off-cpu`, -a, and processes that begin later, on a program that says itself how long it waits."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stack_profile import waiting_program

from ptap.backend.live_capture import CaptureError, CaptureLimits, Target
from ptap.backend.perf_events.capture import PerfCapture
from ptap.backend.perf_events.extra_event import SamplingEvent, Wait
from ptap.backend.perf_events.off_cpu import RECORD_SWITCH, RECORD_SWITCH_CPU_WIDE, OffCpuTimes, SwitchTracepoint
from ptap.backend.perf_events.process_state import sleeping_threads, thread_ids
from ptap.capture_file_report import CaptureFileReport
from ptap.capture_report import ReportOptions
from ptap.profile.call_tree import write_call_tree
from ptap.profile.firefox import write_firefox
from ptap.profile.folded import write_folded
from ptap.profile.function_table import write_function_table
from ptap.profile.html import write_html
from ptap.profile.pprof import write_pprof
from ptap.profile.pprof_schema import profile_message
from ptap.profile.profile_report import ProfileReport
from ptap.profile.speedscope import write_speedscope
from relay_reader.capture import ProcessForked, Sample, ThreadExited
from unwind.trace_builder import ArgumentFrames

_NAPS, _NAP_NS = 12, 25_000_000
_OUT, _PREEMPTED = 1 << 13, 1 << 14
"""PERF_RECORD_MISC_SWITCH_OUT and …_PREEMPT of linux/perf_event.h."""


@pytest.fixture(scope="module")
def program(tmp_path_factory, require_tool) -> Path:
    return waiting_program.build(tmp_path_factory.mktemp("waiting"), require_tool("gcc", "gcc"))


def profile(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptap", "profile", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def naps(program, tmp_path_factory) -> tuple[Path, int, int]:
    """A capture of naps and some work, with the nanoseconds that the program says both took."""
    kept = tmp_path_factory.mktemp("naps") / "naps.ptap"
    options = ("--off-cpu", "-F", "499", "--keep", str(kept), "-o", os.devnull, "--format", "top")
    run = profile(*options, "--", str(program), "nap", str(_NAPS), "0.2")
    assert run.returncode == 0, run.stderr
    napped, worked = map(int, run.stdout.split())
    return kept, napped, worked


def report(path: Path, form: str) -> str:
    command = [sys.executable, "-m", "ptap", "report", str(path), "--format", form]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_time_of_waits_is_their_weight(naps):
    """What is off the processor in `nap` lies within what the program measures around it, and is most of it."""
    kept, napped, worked = naps
    traces = [json.loads(line) for line in report(kept, "json").splitlines()]
    assert {trace["weight_unit"] for trace in traces} == {"ns"}
    waits = [trace for trace in traces if trace["probe"].startswith("off-cpu: ")]
    asleep = [trace for trace in waits if "nap" in [frame["function"] for frame in trace["frames"]]]
    assert len(asleep) >= _NAPS - 2  # a nap that is over before it begins is possible, where a processor is taken away
    total = sum(trace["weight"] for trace in asleep)
    assert _NAPS * _NAP_NS / 2 < total < napped + 1_000_000
    for trace in asleep:
        functions = [frame["function"] for frame in trace["frames"] if frame["space"] == "user"]
        assert trace["stop"] == "end_of_stack"
        assert functions[functions.index("nap") :][:3] == ["nap", "nap_often", "main"], functions
        assert any(frame["space"] == "kernel" for frame in trace["frames"])
    whole = sum(trace["weight"] for trace in traces)
    assert 0.3 * (napped + worked) < whole < 1.3 * (napped + worked) + 100_000_000


def test_a_wait_that_no_signal_ends(program, tmp_path):
    """The tracepoint tells; five times, as each may be over before the parent comes to wait."""
    events = waiting_program.record(tmp_path / "lend.ptap", Target((str(program), "lend", "5")), off_cpu=True)
    places = [event.places[0] for event in events if isinstance(event, Sample)]
    assert 1 + list(Wait).index(Wait.UNINTERRUPTIBLE) in places and 1 + list(Wait).index(Wait.BLOCKED) in places


def test_waits_on_a_kernel_without_tracepoints(program, tmp_path, monkeypatch):
    monkeypatch.setattr(SwitchTracepoint, "of", lambda _: None)
    events = waiting_program.record(tmp_path / "naps.ptap", Target((str(program), "nap", "5", "0")), off_cpu=True)
    blocked = 1 + list(Wait).index(Wait.BLOCKED)
    waits = [event for event in events if isinstance(event, Sample) and event.places == (blocked,)]
    long = [wait for wait in waits if wait.weight > _NAP_NS / 2]
    assert len(long) >= 4 and all(wait.kernel_chain and wait.slices for wait in long)


@pytest.mark.parametrize(
    ("state", "wait"),
    [
        (0, Wait.PREEMPTED),
        (1, Wait.BLOCKED),
        (2, Wait.UNINTERRUPTIBLE),
        (4, Wait.BLOCKED),
        (0x80, Wait.BLOCKED),
        (0x100, Wait.PREEMPTED),
    ],
)
def test_the_states_of_sched_switch(state, wait):
    tracepoint = SwitchTracepoint(1, 32, 8)
    raw = bytes(32) + state.to_bytes(8, "little")
    assert tracepoint.state(raw + bytes(24)) is wait and tracepoint.state(raw[:-1]) is None


def test_every_form_shows_times(naps):
    kept, _, _ = naps
    merged = ProfileReport(lambda _: None)
    CaptureFileReport(str(kept), ReportOptions(arguments=ArgumentFrames.NONE)).write(merged)

    def written(write: Callable[..., None]) -> str:
        stream = io.StringIO()
        write(merged.profile, stream)
        return stream.getvalue()

    folded = [line.rsplit(" ", 1) for line in written(write_folded).splitlines()]
    whole = sum(int(weight) for _, weight in folded)
    assert any(re.search(r";nap_often;nap;.*\[off-cpu: blocked\]$", stack) for stack, _ in folded)
    assert all(f"weight {whole} ns" in written(write) for write in (write_function_table, write_call_tree, write_html))
    assert {one["unit"] for one in json.loads(written(write_speedscope))["profiles"]} == {"nanoseconds"}
    packed = io.BytesIO()
    write_pprof(merged.profile, packed)
    message = profile_message()()
    message.ParseFromString(gzip.decompress(packed.getvalue()))
    assert message.string_table[message.sample_type[1].unit] == "nanoseconds"
    assert sum(sample.value[1] for sample in message.sample) == whole
    tables = [thread["samples"] for thread in json.loads(written(write_firefox))["threads"]]
    assert {table["weightType"] for table in tables} == {"tracing-ms"}
    assert sum(sum(table["weight"]) for table in tables) == pytest.approx(whole / 1e6)


def test_threads_that_do_not_come_back(program, tmp_path):
    """One sleeps from before the beginning, one goes to sleep for good: both count until the end, and say so."""
    go = tmp_path / "go"
    process = subprocess.Popen([program, "threads", go], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "began\n"
        _, second, third = thread_ids(process.pid)

        def is_pausing(tid: int) -> bool:
            return Path(f"/proc/{process.pid}/task/{tid}/syscall").read_text().split()[0] == "34"  # pause

        while not is_pausing(third):
            os.sched_yield()

        def armed(capture):
            go.touch()
            waiting_program.stop_when(lambda: is_pausing(second))(capture)

        events = waiting_program.record(
            tmp_path / "threads.ptap", Target(pids=(process.pid,)), off_cpu=True, when_armed=armed
        )
    finally:
        process.kill()
        process.wait()
    places = {wait: number for number, wait in enumerate(Wait, 1)}  # behind the timer
    samples = [event for event in events if isinstance(event, Sample)]
    last = {tid: [each for each in samples if each.tid == tid][-1] for tid in (second, third)}
    assert last[second].places == (places[Wait.BLOCKED_UNTIL_END],) and last[second].slices
    assert last[third].places == (places[Wait.ASLEEP_THROUGHOUT],) and not last[third].known
    ends = {tid: sample.time_ns + sample.weight for tid, sample in last.items()}
    assert ends[second] == ends[third]  # the end of the capture


def test_all_that_runs(program, tmp_path):
    """Two programs that know nothing of each other nor of ptap; the command waits until both have worked."""
    files = [tmp_path / name for name in ("go", "first", "second")]
    go, *done = files
    others = [
        subprocess.Popen([program, "spin", "0.4", go, each], stdout=subprocess.DEVNULL, cwd=tmp_path) for each in done
    ]
    try:
        script = 'touch "$0"; until [ -e "$1" ] && [ -e "$2" ]; do sleep 0.05; done'
        target = Target(("sh", "-c", script, *map(str, files)), everything=True)
        events = waiting_program.record(tmp_path / "all.ptap", target, frequency=199)
    finally:
        for other in others:
            other.kill()
            other.wait()
    pids = [event.pid for event in events if isinstance(event, Sample)]
    assert all(pids.count(other.pid) > 20 for other in others)
    assert 0 not in pids  # idle processors are no time that anything took


def test_what_a_process_starts_later(program, tmp_path):
    """A child that is forked when the capture runs, and runs another program, is sampled, and its frames have names."""
    go = tmp_path / "go"
    other = tmp_path / "other"
    other.write_bytes(program.read_bytes())
    other.chmod(0o755)
    process = subprocess.Popen([program, "family", go, other, "0.4"], stdout=subprocess.DEVNULL)
    kept = tmp_path / "family.ptap"
    try:
        waiting_program.record(kept, Target(pids=(process.pid,)), when_armed=lambda _: go.touch())
    finally:
        process.kill()
        process.wait()
    stacks = [line.rsplit(" ", 1) for line in report(kept, "folded").splitlines()]
    assert sum(int(weight) for stack, weight in stacks if re.search(r"^other;.*;main;spin\b", stack)) > 50


def test_an_interrupt_gives_the_report(program, tmp_path):
    """As a terminal sends it: to both."""
    page = tmp_path / "page.folded"
    command = [sys.executable, "-m", "ptap", "profile", "-F", "499", "-o", page, "--"]
    run = subprocess.Popen(
        [*command, program, "endless", "0.4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None and run.stdout.readline() == "spun\n"
        os.killpg(run.pid, signal.SIGINT)
        _, told = run.communicate(timeout=300)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 128 + signal.SIGINT, told
    weights = [line.rsplit(" ", 1) for line in page.read_text().splitlines()]
    assert sum(int(weight) for stack, weight in weights if ";main;spin" in stack) > 50
    assert sum(int(weight) for _, weight in weights) == int(re.findall(r"(\d+) hits", told)[0])


def test_a_frequency_that_the_kernel_does_not_allow():
    limit = int(Path("/proc/sys/kernel/perf_event_max_sample_rate").read_text())
    capture = PerfCapture(Target(("true",)), (), CaptureLimits(1024), [SamplingEvent("cpu-clock", limit + 1)])
    with pytest.raises(CaptureError, match=f"perf_event_max_sample_rate, {limit},.*sysctl"):
        capture.start()


def test_who_may_not_sample_is_told_what_allows_it():
    """By the one who would be root but has no capability."""
    command = [sys.executable, "-m", "ptap", "profile", "-a", "-o", os.devnull, "--", "true"]
    run = subprocess.run(["setpriv", "--bounding-set=-all", *command], capture_output=True, text=True, check=False)
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if paranoid >= 1:
        assert run.returncode == 2 and f"kernel.perf_event_paranoid is {paranoid}" in run.stderr
        assert "sysctl kernel.perf_event_paranoid=-1" in run.stderr and "ptrace" not in run.stderr
    else:
        assert run.returncode == 0, run.stderr


def test_sleepers_of_the_whole_machine_are_counted():
    times = OffCpuTimes({wait: number for number, wait in enumerate(Wait)})
    times.found_asleep(7, 3, 50)
    times.found_asleep(8, 4, 50)
    back = times.switched(_switch(3, 90))
    assert back is not None and back.weight == 40 and back.places == (list(Wait).index(Wait.ASLEEP_BEFORE),)
    assert not list(times.finish(200, unseen=False))
    assert times.shortcomings() == ["1 threads are left out that slept all the time"]


def _sample(tid: int, time: int) -> Sample:
    return Sample(time, 0, 7, tid, (), (), 0)


def _switch(tid: int, time: int, misc: int = 0, kind: int = RECORD_SWITCH) -> bytes:
    other = struct.pack("<II", 7, 0) if kind == RECORD_SWITCH_CPU_WIDE else b""
    body = other + struct.pack("<IIQQQ", 7, tid, time, 0, 1)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


@pytest.mark.parametrize("kind", [RECORD_SWITCH, RECORD_SWITCH_CPU_WIDE])
def test_a_wait_ends_with_the_next_switch_of_its_thread(kind):
    times = OffCpuTimes({wait: number for number, wait in enumerate(Wait)})
    reasons = list(Wait)
    for tid, time in ((1, 100), (2, 110)):
        times.left(_sample(tid, time))
        assert times.switched(_switch(tid, time + 1, _OUT | (_PREEMPTED if tid == 2 else 0), kind)) is None
    second, first = times.switched(_switch(2, 150, 0, kind)), times.switched(_switch(1, 400, 0, kind))
    assert first is not None and second is not None
    assert (first.weight, first.places) == (300, (reasons.index(Wait.BLOCKED),))
    assert (second.weight, second.places) == (40, (reasons.index(Wait.PREEMPTED),))
    assert times.switched(_switch(1, 500, 0, kind)) is None and not list(times.finish(600, unseen=True))


def test_waits_whose_records_were_lost_are_counted():
    times = OffCpuTimes({wait: number for number, wait in enumerate(Wait)})
    times.left(_sample(1, 100))
    times.left(_sample(1, 200))  # it has come back in between
    back = times.switched(_switch(1, 250))
    assert back is not None and back.weight == 50 and times.unended == 1


def test_threads_that_end_wait_for_nothing():
    times = OffCpuTimes({wait: number for number, wait in enumerate(Wait)})
    times.found_asleep(7, 3, 50)
    for tid in (2, 3):
        times.observe(ThreadExited(100, 7, tid))
    times.left(_sample(2, 101))
    times.left(_sample(0, 102))  # an idle processor
    assert not list(times.finish(200, unseen=True))
    times.observe(ProcessForked(300, 7, 7, 2, 1))  # the number is given again
    times.left(_sample(2, 301))
    (last,) = times.finish(400, unseen=True)
    assert last.weight == 99 and last.places == (list(Wait).index(Wait.BLOCKED_UNTIL_END),)


def test_who_sleeps_is_known_by_the_state(program):
    """This thread runs, so it is none of them; a child that waits for its input is."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as waiting:
        while sleeping_threads(waiting.pid) != [waiting.pid] or os.readlink(f"/proc/{waiting.pid}/exe").endswith(
            "python"
        ):
            os.sched_yield()
        assert waiting.stdin is not None
        waiting.stdin.close()
    assert os.getpid() not in sleeping_threads(os.getpid())
