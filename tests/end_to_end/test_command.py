"""The command as a whole: options, limits, endings by signals, what passes through and what is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from live_run import PTAP, code_bytes, ended, first_line, probe_events_of, running, wait_until

SOURCE = Path(__file__).with_name("ticker.c")
PROBE = 'process.function("tick")'
CONTRACT = ["probe", "time_ns", "cpu", "pid", "tid", "comm", "weight", "stop", "frames"]
FRAME = [
    "space",
    "address",
    "module",
    "build_id",
    "function",
    "offset",
    "file",
    "line",
    "column",
    "inlined",
    "arguments",
]


@pytest.fixture(scope="module")
def ticker(tmp_path_factory, require_tool):
    program = tmp_path_factory.mktemp("ticker") / "ticker"
    gcc = require_tool("gcc", "gcc")
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-pthread"]
    subprocess.run([gcc, *flags, str(SOURCE), "-o", str(program)], check=True)
    return program


def summary(stderr: str) -> str:
    """The last line of ptap on stderr."""
    return [line for line in stderr.splitlines() if line.startswith("ptap: ")][-1]


def tick_offset(ptap, ticker: Path) -> int:
    listed = ptap.run("list", "--format", "json", f'process("{ticker}").function("tick")')
    return int(json.loads(listed.stdout)["file_offset"], 16)


# --- what comes out


def test_json_is_the_contract(ptap, ticker, backend):
    run = ptap.trace(PROBE, [ticker, "0", "3"], backend=backend)
    assert len(run.traces) == 3, run.stderr
    for number, trace in enumerate(run.traces):
        assert list(trace) == CONTRACT
        assert trace["comm"] == "ticker" and trace["weight"] == 1 and trace["stop"] == "end_of_stack"
        assert [list(frame) for frame in trace["frames"]] == [FRAME] * len(trace["frames"])
        first = trace["frames"][0]
        assert (first["function"], first["file"], first["space"]) == ("tick", str(SOURCE), "user")
        assert int(first["address"], 16) > 0 and os.path.samefile(first["module"], ticker)
        assert first["arguments"][0] == {"name": "number", "type": "int", "value": str(number), "why": None}
        assert first["arguments"][1]["value"].endswith('"main"')
    times = [trace["time_ns"] for trace in run.traces]
    assert times == sorted(times)


def test_a_return_probe_has_the_value_and_not_the_callers_arguments(ptap, ticker, backend):
    run = ptap.trace(f"{PROBE}.return", [ticker, "0", "3"], backend=backend)
    assert [list(trace) for trace in run.traces] == [[*CONTRACT, "returned"]] * 3, run.stderr
    assert [trace["returned"]["value"] for trace in run.traces] == ["0", "2", "4"]
    assert [trace["frames"][0]["function"] for trace in run.traces] == ["main"] * 3
    assert [trace["frames"][0]["arguments"] for trace in run.traces] == [[]] * 3


def test_a_trace_is_flushed_before_the_next_hit(ticker, backend):
    arguments = ["--backtrace", "--format", "json", "--backend", backend, PROBE, "--", ticker, "30000", "2"]
    with running([*PTAP, *arguments]) as process:
        trace = json.loads(first_line(process))
        assert trace["frames"][0]["function"] == "tick"
        assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        assert ended(process)[0] == 128 + signal.SIGINT


def test_one_line_a_hit_without_backtrace(ptap, ticker, backend):
    run = ptap.run("--backend", backend, PROBE, "--", str(ticker), "0", "4")
    lines = [line for line in run.lines if line.startswith("process")]
    assert len(lines) == 4 and "sum 12" in run.lines
    for number, line in enumerate(lines):
        assert f"number={number}" in line and '"main"' in line
    assert summary(run.stderr) == "ptap: 4 hits, 4 traces, 0 records lost"


def test_a_command_keeps_its_output_input_and_status(ptap, ticker, backend):
    run = ptap.trace(PROBE, [ticker, "0", "2"], backend=backend)
    assert (run.status, run.stdout) == (3, "sum 2\n")
    probe = 'process("libc.so.6").function("write")'
    command = [*PTAP, "--backend", backend, "-o", os.devnull, probe, "--", "cat"]
    done = subprocess.run(command, input="through\n", capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "through\n"), done.stderr


def test_death_by_a_signal_is_128_and_its_number(ptap, ticker, backend):
    run = ptap.trace(PROBE, [ticker, "0", "2", "kill"], backend=backend)
    assert run.status == 128 + signal.SIGKILL
    assert len(run.traces) == 2 and run.stdout == "sum 2\n"


def test_the_command_has_the_signal_dispositions_it_would_have(ptap, backend):
    plain = subprocess.run(["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], capture_output=True, text=True)
    probe = 'process("libc.so.6").function("fopen*")'
    run = ptap.run(
        "--backend", backend, "-o", os.devnull, probe, "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"
    )
    assert plain.stdout and run.stdout == plain.stdout


# --- limits


def test_count_stops_tracing_and_not_the_command(ptap, ticker, backend):
    run = ptap.trace(PROBE, [ticker, "1", "50"], "--count", "3", backend=backend)
    assert len(run.traces) == 3
    assert (run.status, run.stdout) == (3, f"sum {sum(2 * each for each in range(50))}\n")
    assert summary(run.stderr).startswith("ptap: 3 hits, 3 traces, 0 records lost, 0 cut short")
    assert probe_events_of(ticker) == []


def test_duration_ends_a_trace_of_a_running_process(ptap, ticker, backend):
    with running([ticker, "10", "100000"]) as target:
        run = ptap.run(
            "--backend", backend, "--duration", "1", f'process("{ticker}").function("tick")', "-p", str(target.pid)
        )
        assert run.status == 0 and len(run.lines) > 5, run.stderr
        assert target.poll() is None


def test_max_depth_limits_the_frames_and_says_so(ptap, ticker, backend):
    run = ptap.trace(PROBE, [ticker, "0", "2"], "--max-depth", "2", backend=backend)
    assert [run.functions(index) for index in range(2)] == [["tick", "main"]] * 2
    assert [trace["stop"] for trace in run.traces] == ["too_deep"] * 2
    assert summary(run.stderr).endswith("2 cut short (2 too_deep)")


@pytest.mark.parametrize(("chosen", "frames"), [("none", []), ("probed", ["tick"]), ("all", ["main", "tick"])])
def test_arguments_of_the_frames_asked_for(ptap, ticker, backend, chosen, frames):
    run = ptap.trace(PROBE, [ticker, "0", "1"], "--arguments", chosen, backend=backend)
    having = {frame["function"] for frame in run.traces[0]["frames"] if frame["arguments"]}
    assert sorted(having & {"main", "tick"}) == frames
    assert chosen == "all" or sorted(having) == frames


def test_a_small_user_stack_is_told_as_cut(ptap, ticker):
    from ptap_run import usable_back_end

    usable_back_end("perf")
    run = ptap.run("--backtrace", "--backend", "perf", "--user-stack", "16", PROBE, "--", str(ticker), "0", "2")
    assert "cut short: the stack is larger than the copy" in run.stdout and "--backend ptrace" in run.stdout
    assert "2 cut short (2 stack_cut)" in summary(run.stderr)


# --- running processes


def test_all_threads_of_running_processes_are_traced(ptap, ticker, backend, tmp_path):
    with running([ticker, "5", "100000", "threads"]) as one, running([ticker, "5", "100000", "threads"]) as two:
        wait_until(lambda: all(len(os.listdir(f"/proc/{each.pid}/task")) == 4 for each in (one, two)), "the threads")
        output = tmp_path / "traces.json"
        arguments = ["--backtrace", "--format", "json", "--backend", backend, "--count", "200", "-o", str(output)]
        run = ptap.run(*arguments, PROBE, "-p", str(one.pid), "-p", str(two.pid))
        assert run.status == 0, run.stderr
        traces = [json.loads(line) for line in output.read_text().splitlines()]
        assert {(trace["pid"], trace["tid"]) for trace in traces} == {
            (each.pid, int(tid)) for each in (one, two) for tid in os.listdir(f"/proc/{each.pid}/task")
        }
        for trace in traces:
            names = [frame["function"] for frame in trace["frames"]]
            assert names[:2] == ["tick", "main" if trace["pid"] == trace["tid"] else "worker"]
            assert trace["stop"] == "end_of_stack"
        offset = tick_offset(ptap, ticker)
        for each in (one, two):
            in_file, in_memory = code_bytes(each.pid, ticker, offset)
            assert in_memory == in_file
            assert each.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_trace_and_leaves_the_process_right(ptap, ticker, backend, number):
    probe = f'process("{ticker}").function("tick")'
    with running([ticker, "5", "100000"]) as target:
        with running([*PTAP, "--backend", backend, probe, "-p", target.pid]) as tracer:
            assert "tick" in first_line(tracer)
            os.kill(tracer.pid, number)
            status, _, err = ended(tracer)
        assert status == 0 and re.fullmatch(r"ptap: \d+ hits?, \d+ traces?, 0 records lost", summary(err)), err
        in_file, in_memory = code_bytes(target.pid, ticker, tick_offset(ptap, ticker))
        assert in_memory == in_file and target.poll() is None
        assert probe_events_of(ticker) == []
        os.kill(target.pid, signal.SIGTERM)
        assert ended(target)[0] == -signal.SIGTERM


def test_a_process_that_sleeps_does_not_hold_up_the_end(ticker, backend):
    with running(["sleep", "1000"]) as target:
        with running(
            [*PTAP, "--backend", backend, "-v", 'process("libc.so.6").function("*sleep*")', "-p", target.pid]
        ) as tracer:
            assert tracer.stderr is not None and "back end" in _line_with(tracer.stderr, "back end")
            wait_until(lambda: _is_watched(target.pid, tracer.pid, backend), "the capture")
            os.kill(tracer.pid, signal.SIGINT)
            status, _, err = ended(tracer)
        assert (status, target.poll()) == (0, None) and summary(err).startswith("ptap: 0 hits"), err


def _line_with(stream, text: str) -> str:
    return next((line for line in stream if text in line), "")


def _is_watched(pid: int, tracer: int, backend: str) -> bool:
    if backend == "ptrace":
        return f"TracerPid:\t{tracer}\n" in Path(f"/proc/{pid}/status").read_text()
    # perf events cannot be seen from outside but for the descriptors of their owner.
    links = [os.readlink(each) for each in Path(f"/proc/{tracer}/fd").iterdir() if each.is_symlink()]
    return any("perf_event" in link for link in links)


# --- the end of commands


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_ptap_alone_reaches_the_command(ticker, backend, number):
    with running([*PTAP, "--backtrace", "--backend", backend, PROBE, "--", ticker, "5", "100000", "catch"]) as process:
        assert "tick" in first_line(process)
        os.kill(process.pid, number)
        status, out, err = ended(process)
    assert status == 7, err
    assert "#0" in out and re.search(r"^sum \d+$", out, re.MULTILINE)
    assert re.match(r"ptap: \d+ hits?, \d+ traces?, 0 records lost, 0 cut short", summary(err))
    assert probe_events_of(ticker) == []


@pytest.mark.parametrize(("mode", "expected"), [("", 128 + signal.SIGINT), ("catch", 7)])
def test_ctrl_c_at_a_terminal_ends_both(ticker, backend, mode, expected):
    arguments = ["--backtrace", "--backend", backend, PROBE, "--", str(ticker), "5", "100000", mode]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*PTAP, *arguments])
    text, pressed = b"", False
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # EIO: the terminal's other side is closed
            break
        if not chunk:
            break
        text += chunk
        if not pressed and text.count(b"#0") >= 3:
            pressed = True
            os.write(terminal, b"\x03")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    assert status == expected, text[-500:]
    assert b"Traceback" not in text
    assert re.search(rb"ptap: \d+ hits, \d+ traces, 0 records lost, 0 cut short\r\n$", text), text[-300:]
    assert mode != "catch" or len(re.findall(rb"sum \d+", text)) == 1
    assert probe_events_of(ticker) == []


def test_a_second_ctrl_c_leaves_a_command_that_ignores_the_first(ticker, backend):
    with running([*PTAP, "--backend", backend, PROBE, "--", ticker, "5", "100000", "ignore"]) as process:
        assert "tick" in first_line(process)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert "waiting for" in process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        # Not read to its end: the command holds it open.
        assert re.match(r"ptap: \d+ hits?, ", process.stderr.readline())


def test_a_reader_that_goes_away_ends_the_trace_quietly(ptap, ticker, backend):
    probe = f'process("{ticker}").function("tick")'
    with running([ticker, "5", "100000"]) as target:
        command = f"{sys.executable} -m ptap --backend {backend} '{probe}' -p {target.pid} | head -n 2"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=100)
        assert len(done.stdout.splitlines()) == 2
        assert [line for line in done.stderr.splitlines() if not line.startswith("ptap: ")] == []
        in_file, in_memory = code_bytes(target.pid, ticker, tick_offset(ptap, ticker))
        assert in_memory == in_file and target.poll() is None


def test_a_full_disk_is_told_and_the_command_goes_on(ptap, ticker, backend):
    run = ptap.run("--backend", backend, "-o", "/dev/full", PROBE, "--", str(ticker), "0", "3")
    assert run.status == 2 and "No space left on device" in run.stderr and "Traceback" not in run.stderr


def test_without_standard_output(ticker, backend):
    command = f"{sys.executable} -m ptap --backend {backend} '{PROBE}' -- {ticker} 0 2 >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, timeout=100)
    assert "Traceback" not in done.stderr and "2 hits, 2 traces" in done.stderr


# --- the command line itself


@pytest.mark.parametrize("words", [["doctor"], ["symbolize", "-e", "{}", "0"], ["tables", "stats", "{}"], ["--help"]])
def test_a_full_standard_output_is_told(ticker, words):
    with open("/dev/full", "wb") as full:
        command = [*PTAP, *(word.format(ticker) for word in words)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 2 and done.stderr.count("No space left on device") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["trace"], ["list"], ["doctor"], ["tables"], ["tables", "show"]])
def test_help_has_an_example(ptap, words):
    run = ptap.run(*words, "--help")
    assert run.status == 0 and run.stderr == ""
    assert re.search(r"^ +ptap .*", run.stdout, re.MULTILINE) and "Example" in run.stdout
    assert words or run.stdout == ptap.run().stdout


def test_version(ptap):
    from importlib.metadata import version

    assert ptap.run("--version").stdout == f"ptap {version('ptap')}\n"


def test_a_one_shot_command_imports_nothing_heavy(ptap, ticker):
    probe = f'process("{ticker}").function("tick")'
    command = [sys.executable, "-X", "importtime", "-m", "ptap", "list", probe]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ptap.probe.resolve" in imported
    assert {"numba", "llvmlite", "construct", "elftools", "importlib.metadata"} & imported == set()


def test_doctor_names_every_back_end(ptap):
    from ptap.backend.choice import BACK_ENDS

    run = ptap.run("doctor")
    for name, available in BACK_ENDS.items():
        reason = available()
        (line,) = [line for line in run.lines if line.startswith(f"back end {name}")]
        assert line.endswith("works") if reason is None else "does not work" in line
    assert run.status == (0 if any(each() is None for each in BACK_ENDS.values()) else 1)
    assert "perf_event_paranoid" in run.stdout
