"""What was looked at goes on as if nothing had been: stopped ones stay stopped, no signal is lost, nobody is left."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
from pathlib import Path

import pytest
from live_stack.conftest import count_stacks, ptap_stack, stacks, wait_until

from ptap.backend.live_capture import CaptureError
from ptap.snapshot.process_snapshot import SnapshotOptions, take_snapshot


def test_a_program_that_counts_counts_on(started, standing_program, tmp_path):
    with (tmp_path / "counter").open("w+b") as file:
        file.truncate(4096)
        process = started([standing_program, "count"], stdin=file)
        with mmap.mmap(file.fileno(), 4096) as shared:

            def count() -> int:
                return int.from_bytes(shared[:8], "little")

            for _ in range(3):
                (trace,), report = stacks(process.pid)
                assert "main" in [frame["function"] for frame in trace["frames"]]
                assert report.snapshot.pause_ns > 0
                assert process.status("TracerPid") == "0"
                before = count()
                wait_until(lambda before=before: count() > before)


def test_a_stopped_process_stays_stopped(standing):
    process = standing("threads", 5)
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: all(process.state(tid) == "T" for tid in process.threads()))
    done = ptap_stack(process.pid)
    assert done.returncode == 0 and count_stacks(done.stdout) == 5, done.stderr
    for tid in process.threads():
        assert process.state(tid) == "T" and process.status("TracerPid", tid) == "0"
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: all(process.state(tid) == "S" for tid in process.threads()))
    assert stacks(process.pid)[0][0]["stop"] == "end_of_stack"


def test_no_signal_is_lost_or_comes_twice(started, standing_program):
    process = started([standing_program, "signals"])
    taken = 0
    while process.process.poll() is None:
        try:
            taken += len(take_snapshot(process.pid, SnapshotOptions()).threads)
        except CaptureError:
            break  # it has ended
    # Not by its status: a tracer that is the parent, too, may have taken that.
    assert taken > 0 and process.process.stdout.read() == b"all handled\n"


def test_threads_that_come_and_go(started, standing_program):
    process = started([standing_program, "churn"], stdin=subprocess.PIPE)
    snapshots = [take_snapshot(process.pid, SnapshotOptions()) for _ in range(40)]
    assert all(each.threads[0].tid == process.pid for each in snapshots)
    assert any(each.threads[0].known for each in snapshots)
    process.process.stdin.close()
    assert process.process.wait(timeout=60) == 0


def test_processes_that_end_meanwhile(standing_program):
    for _ in range(20):
        process = subprocess.Popen(["/bin/true"])
        try:
            take_snapshot(process.pid, SnapshotOptions())
        except CaptureError as error:
            assert "ended" in str(error) or "no process" in str(error)
        process.wait(timeout=60)


def test_who_cannot_be_stopped_is_told(started, standing_program):
    process = started([standing_program, "vfork"])
    wait_until(lambda: process.state() == "D")
    (trace,), _ = stacks(process.pid)
    assert trace["frames"]
    done = ptap_stack(process.pid)
    assert "it did not stop: it sleeps in the kernel" in done.stdout and "vfork" in done.stdout
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    assert process.process.wait(timeout=60) == 0


def test_the_first_thread_has_ended(started, standing_program):
    process = started([standing_program, "leave"])
    wait_until(lambda: process.state() == "Z" and process.state(process.threads()[1]) == "S")
    (trace,), _ = stacks(process.pid)
    assert trace["tid"] == process.threads()[1] and trace["stop"] == "end_of_stack"
    assert {"outlive", "stand"} <= {frame["function"] for frame in trace["frames"]}


def test_one_that_another_tracer_has_is_left_alone(standing):
    from ptap.backend.ptrace.syscalls import SEIZE, ptrace

    process = standing("values")
    ptrace(SEIZE, process.pid, 0, 0)
    done = ptap_stack(process.pid)
    assert done.returncode == 2 and "already traced by process" in done.stderr, done.stderr


def test_a_snapshot_has_only_the_threads_that_were_asked_for(standing):
    process = standing("threads", 5)
    wanted = process.threads()[2]
    found, _ = stacks(process.pid, tids=frozenset([wanted]))
    assert [trace["tid"] for trace in found] == [wanted]
    done = ptap_stack(process.pid, "-t", wanted, "-t", 1)
    assert done.returncode == 0 and "has no thread 1" in done.stderr and count_stacks(done.stdout) == 1
    done = ptap_stack(process.pid, "-t", 1)
    assert done.returncode == 2 and "has no thread 1" in done.stderr
    done = ptap_stack(wanted)
    assert done.returncode == 2 and f"{wanted} is a thread of process {process.pid}" in done.stderr


@pytest.mark.parametrize("values", [False, True])
def test_copies_are_what_was_there(standing, values):
    process = standing("values")
    snapshot = take_snapshot(process.pid, SnapshotOptions(values=values))
    memory = snapshot.memory
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as file:
        for address, data in snapshot.threads[0].stacks:
            file.seek(address)
            assert file.read(len(data)) == data and memory.read(address + 64, 100) == data[64:164]
    assert memory.read(8, 8) == b""
