"""Attaching to what runs, letting it go unharmed, and what is told when that is refused."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from ptap.backend.live_capture import CaptureError, CaptureLimits, PlaceKind, Target
from ptap.backend.ptrace.capture import PtraceCapture
from ptap.backend.ptrace.launch import available
from relay_reader.capture import MappingAdded, Sample, ThreadNamed

ENTRY, RETURN = PlaceKind.ENTRY, PlaceKind.RETURN

# Four threads compute until they are told to end, and each checks its own work.
WORKER = r"""
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include <stdint.h>
static atomic_int done, started;
#define KEEP __attribute__((noinline, noclone))
KEEP uint64_t mix(uint64_t *x, uint64_t n) {
    *x ^= n * 0x9e3779b97f4a7c15u; __asm__ volatile("" ::: "memory"); return *x; }
KEEP uint64_t saved(uint64_t x, uint64_t n) {
    uint64_t a = x; for (int i = 0; i < 3; i++) a = mix(&a, n + i) * 5; return a; }
static void on_term(int s) { (void)s; done = 1; }
static void *run(void *result) {
    uint64_t x = 1, n = 0;
    while (!done) { x = saved(x, n++); if (n == 1) started++; }
    uint64_t y = 1;
    for (uint64_t i = 0; i < n; i++) y = saved(y, i);
    *(long *)result = x == y && n > 0;
    return 0;
}
int main(void) {
    signal(SIGTERM, on_term);
    pthread_t t[4];
    long good[4] = {0};
    for (int i = 0; i < 4; i++) pthread_create(t + i, 0, run, good + i);
    while (started < 4) usleep(1000);  /* a thread that has done nothing has nothing to show */
    puts("ready"); fflush(stdout);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    return good[0] + good[1] + good[2] + good[3] == 4 ? 0 : 1;
}
"""


@pytest.fixture
def worker(compile_c):
    program = compile_c("worker", WORKER, "-pthread")
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield program, process
    if process.poll() is None:
        process.kill()
    process.stdout.close()
    process.wait()


def text_differs(pid, program):
    """Addresses at which a process's executable memory of `program` differs from the file."""
    differences = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            if "x" in fields[1] and len(fields) > 5 and fields[5].startswith("/"):
                start, end = (int(a, 16) for a in fields[0].split("-"))
                with open(fields[5], "rb") as file:
                    file.seek(int(fields[2], 16))
                    on_disk = file.read(end - start)
                memory.seek(start)
                live = memory.read(len(on_disk))
                differences += [start + i for i in range(len(live)) if live[i] != on_disk[i]]
    return differences


def states(pid):
    """The states of a process's threads, as proc(5) names them."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat") as stat:
            found.add(stat.read().rpartition(")")[2].split()[0])
    return found


@pytest.mark.parametrize("round_number", range(3))
def test_attach_hit_and_leave_a_process_that_runs_on(worker, place, alarm, round_number):
    program, process = worker
    places = [place(program, f, k) for f in ("mix", "saved") for k in (ENTRY, RETURN)]
    tracer = PtraceCapture(Target(pids=(process.pid,)), places, CaptureLimits(65528))
    tracer.start()
    assert text_differs(process.pid, program)
    hits, events = 0, []
    for event in tracer.events():
        events.append(event)
        hits += isinstance(event, Sample)
        if hits >= 500:
            tracer.stop()
    tracer.close()
    tracer.close()
    assert len([e for e in events if isinstance(e, ThreadNamed)]) == 5
    assert any(isinstance(e, MappingAdded) and e.mapping.path == program for e in events)
    assert text_differs(process.pid, program) == []
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/status") as status:
            assert "TracerPid:\t0\n" in status.read()
    time.sleep(0.05)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_close_in_the_middle_of_a_hit(worker, place, alarm):
    program, process = worker
    tracer = PtraceCapture(Target(pids=(process.pid,)), [place(program, "mix")], CaptureLimits(65528))
    tracer.start()
    assert any(isinstance(event, Sample) for event in tracer.events())  # the iterator is dropped here
    tracer.close()
    assert text_differs(process.pid, program) == []
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_stop_from_another_thread_wakes_an_idle_capture(alarm):
    process = subprocess.Popen(["sleep", "1000"])
    try:
        tracer = PtraceCapture(Target(pids=(process.pid,)), [], CaptureLimits(65528))
        tracer.start()
        timer = threading.Timer(0.2, tracer.stop)
        timer.start()
        assert not [event for event in tracer.events() if isinstance(event, Sample)]
        tracer.close()
        timer.join()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_stop_leaves_the_command_running(worker, compile_c, place, alarm):
    program, _ = worker
    tracer = PtraceCapture(Target((program,)), [place(program, "mix")], CaptureLimits(65528))
    tracer.start()
    for event in tracer.events():
        if isinstance(event, Sample):
            tracer.stop()
    tracer.close()
    assert tracer.exit_status is None
    time.sleep(0.1)  # so that every thread has begun
    os.kill(tracer.child_pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(tracer.wait_for_command()) == 0


def test_a_stopped_process_stays_stopped(worker, place, alarm):
    program, process = worker
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    tracer = PtraceCapture(Target(pids=(process.pid,)), [place(program, "mix")], CaptureLimits(65528))
    tracer.start()
    timer = threading.Timer(0.3, tracer.stop)
    timer.start()
    assert not [event for event in tracer.events() if isinstance(event, Sample)]
    tracer.close()
    timer.join()
    deadline = time.monotonic() + 10
    while states(process.pid) != {"T"} and time.monotonic() < deadline:
        time.sleep(0.01)  # a detached thread is on its way back into the stop
    assert states(process.pid) == {"T"}
    assert text_differs(process.pid, program) == []
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(pids=(2**22 - 1,)), "no process"),
        (Target(("/nonexistent/program",)), "command not found"),
        (Target(("/etc/passwd",)), "chmod"),
        (Target(pids=(os.getpid(),)), "itself"),
    ],
)
def test_refusals_say_what_to_do(target, words, alarm):
    tracer = PtraceCapture(target, [], CaptureLimits(65528))
    with pytest.raises(CaptureError, match=words):
        tracer.start()


def test_a_file_of_no_format(tmp_path, alarm):
    program = tmp_path / "garbage"
    program.write_bytes(b"\x7fELF garbage")
    program.chmod(0o755)
    with pytest.raises(CaptureError, match="exec format"):
        PtraceCapture(Target((str(program),)), [], CaptureLimits(65528)).start()


def test_a_process_that_has_a_tracer_names_it(worker, alarm):
    _, process = worker
    code = (
        "import sys; from ptap.backend.ptrace.launch import attach;"
        "attach(int(sys.argv[1])); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "1\n"
        with pytest.raises(CaptureError, match=f"already traced by process {other.pid}"):
            PtraceCapture(Target(pids=(process.pid,)), [], CaptureLimits(65528)).start()
        other.stdin.close()


def test_available_here():
    assert available() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_without_capabilities(compile_c, tmp_path, place, alarm):
    folder = tempfile.mkdtemp()  # pytest's own folders are closed to other users
    os.chmod(folder, 0o755)
    program = shutil.copy(compile_c("worker", WORKER, "-pthread"), folder)
    offset = place(program, "saved").file_offset
    # Python's own folders may be closed to that user, so everything is imported before the change of user.
    script = f"""
import os, signal
from ptap.backend.live_capture import *
from ptap.backend.ptrace.capture import PtraceCapture
from ptap.backend.ptrace.launch import available
import cfi_tables.elf_image, cfi_tables.symbol_table, ctypes, threading, platform, warnings
from relay_reader.capture import Sample
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE, as after an exec by that user
assert available() is None
place = ProbePlace({program!r}, {offset}, PlaceKind.ENTRY)
tracer = PtraceCapture(Target(({program!r},)), [place], CaptureLimits(65528))
tracer.start()
hits = 0
for event in tracer.events():
    hits += isinstance(event, Sample)
    if hits == 200 and isinstance(event, Sample):
        os.kill(tracer.child_pid, signal.SIGTERM)
        tracer.stop()
tracer.close()
assert os.waitstatus_to_exitcode(tracer.wait_for_command()) == 0
try:
    PtraceCapture(Target(pids=({os.getpid()},)), [], CaptureLimits(65528)).start()
except CaptureError as error:
    print(hits >= 200, error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    shutil.rmtree(folder)
    assert run.returncode == 0, run.stderr
    assert "True" in run.stdout
    assert "belongs to user 0, and you are user 65534" in run.stdout


@pytest.mark.parametrize("call", ["fork", "vfork"])
def test_stop_while_processes_are_being_made(compile_c, place, alarm, call):
    program = compile_c(
        "spawner",
        """
        #include <pthread.h>
        #include <sys/wait.h>
        #include <unistd.h>
        __attribute__((noinline, noclone)) long probed(volatile long *n) { *n += 1; return *n; }
        static void *spawn(void *good) {
            volatile long n = 0;
            for (int i = 0; i < 150; i++) {
                int status;
                probed(&n);
                pid_t p = CALL();
                if (p == 0) { probed(&n); execl("/bin/true", "true", (char *)0); _exit(9); }
                if (waitpid(p, &status, 0) != p || status) return 0;
                probed(&n);
            }
            *(int *)good = 1;
            return 0;
        }
        int main(void) {
            pthread_t t[2];
            int good[2] = {0};
            for (int i = 0; i < 2; i++) pthread_create(t + i, 0, spawn, good + i);
            for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
            return good[0] + good[1];
        }
        """.replace("CALL", call),
        "-pthread",
    )
    for wanted in (1, 20, 101, 230):
        places = [place(program, "probed", k) for k in (ENTRY, RETURN)]
        tracer = PtraceCapture(Target((program,)), places, CaptureLimits(65528))
        tracer.start()
        hits = 0
        for event in tracer.events():
            hits += isinstance(event, Sample)
            if hits >= wanted:
                tracer.stop()
        tracer.close()
        assert hits >= wanted
        assert tracer.exit_status is None
        assert os.waitstatus_to_exitcode(tracer.wait_for_command()) == 2
    full = PtraceCapture(Target((program,)), places, CaptureLimits(65528))
    full.start()
    counted = sum(len(event.places) for event in full.events() if isinstance(event, Sample))
    full.close()
    assert counted == 2 * 2 * 150 * 3
    assert os.waitstatus_to_exitcode(full.exit_status) == 2
