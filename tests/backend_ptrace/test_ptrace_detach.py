"""Letting go amid what cannot be stopped: exits, vfork parents, a trap that is on its way, deaths.

Each test brings about by itself the one moment that a capture's end meets only now and then.
"""

import os
import signal
import subprocess
import time

import pytest

from ptap.backend.live_capture import CaptureLimits, Target
from ptap.backend.ptrace import detach
from ptap.backend.ptrace.address_space import AddressSpace, Breakpoint
from ptap.backend.ptrace.capture import PtraceCapture
from ptap.backend.ptrace.launch import attach
from ptap.backend.ptrace.registers import RIP, read_registers
from ptap.backend.ptrace.syscalls import EVENT_STOP, WALL, send_signal
from ptap.backend.ptrace.thread import Thread, ThreadTable
from relay_reader.capture import ProcessExeced, Sample

PROBED = '__attribute__((noinline, noclone)) void probed(void) { __asm__ volatile(""); }\n'


def capture_of(places, command=(), pids=()):
    return PtraceCapture(Target(tuple(command), tuple(pids)), places, CaptureLimits(65528))


def stop_at_first_hit(tracer):
    tracer.start()
    hits = 0
    for event in tracer.events():
        if isinstance(event, Sample):
            hits += 1
            tracer.stop()
    tracer.close()
    assert hits == 1


def status_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return dict(line.split(":", 1) for line in status)


@pytest.fixture
def run_when_we_sleep():
    """Keep a process from running while its tracer, this process, does: one processor, which it does not preempt."""
    processors = os.sched_getaffinity(0)

    def keep(pid):
        for each in (0, pid):
            os.sched_setaffinity(each, {min(processors)})
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))

    yield keep
    os.sched_setaffinity(0, processors)


@pytest.fixture
def waited_for(compile_c):
    """A process whose parent waits for it, and which runs until it is told to end: the parent, and its pid."""
    program = compile_c(
        "waited_for",
        """
        #include <stdio.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int status;
            char byte;
            pid_t p = fork();
            if (p == 0) { read(0, &byte, 1); _exit(3); }
            printf("%d\\n", p); fflush(stdout);
            return waitpid(p, &status, 0) == p && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
        """,
    )
    parent = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    yield parent, child
    if parent.poll() is None:
        os.kill(child, signal.SIGKILL)
        parent.kill()
    parent.stdin.close()
    parent.stdout.close()
    parent.wait()


def test_the_parent_of_a_process_that_is_exiting_learns_of_its_end(waited_for, monkeypatch, alarm):
    parent, child = waited_for
    tracer = capture_of([], pids=[child])
    exiting = PtraceCapture._exiting

    def stop_when_exiting(self, thread):
        exiting(self, thread)
        self._stopping = True  # what `stop` does first

    monkeypatch.setattr(PtraceCapture, "_exiting", stop_when_exiting)
    tracer.start()
    parent.stdin.write("x")
    parent.stdin.flush()
    list(tracer.events())
    tracer.close()
    assert parent.wait(30) == 3


def test_the_parent_of_a_process_that_is_killed_in_the_end_learns_of_it(
    waited_for, run_when_we_sleep, monkeypatch, alarm
):
    parent, child = waited_for
    run_when_we_sleep(child)
    tracer = capture_of([], pids=[child])
    note_stop = detach._note_stop

    def kill_when_stopped(thread, status):
        note_stop(thread, status)
        assert thread.stopped
        os.kill(thread.tid, signal.SIGKILL)

    monkeypatch.setattr(detach, "_note_stop", kill_when_stopped)
    tracer.start()
    tracer.close()
    assert parent.wait(30) == 1


def test_a_process_that_has_outlived_its_first_thread(compile_c, place, alarm):
    program = compile_c(
        "outlived",
        PROBED
        + """
        #include <pthread.h>
        #include <stdio.h>
        #include <string.h>
        #include <sys/wait.h>
        #include <unistd.h>
        static void *run(void *unused) {
            char path[64], line[256] = "";
            snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
            while (!strstr(line, ") Z ")) {
                FILE *stat = fopen(path, "r");
                if (!fgets(line, sizeof line, stat)) return 0;
                fclose(stat);
                usleep(1000);
            }
            probed();
            usleep(300000);
            probed();
            return unused;
        }
        int main(void) {
            int status;
            pid_t p = fork();
            if (p == 0) {
                pthread_t t;
                pthread_create(&t, 0, run, 0);
                pthread_exit(0);
            }
            return waitpid(p, &status, 0) == p && status == 0 ? 3 : 1;
        }
        """,
        "-pthread",
    )
    tracer = capture_of([place(program, "probed")], [program])
    stop_at_first_hit(tracer)
    assert os.waitstatus_to_exitcode(tracer.wait_for_command()) == 3


def test_a_vfork_parent_whose_child_takes_longer_than_our_patience(compile_c, place, monkeypatch, alarm):
    program = compile_c(
        "long_vfork",
        PROBED
        + """
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            int status;
            pid_t p = vfork();
            if (p == 0) { probed(); usleep(600000); probed(); _exit(4); }
            probed();
            return waitpid(p, &status, 0) == p && WEXITSTATUS(status) == 4 ? 3 : 1;
        }
        """,
    )
    monkeypatch.setattr(detach, "_PATIENCE_SECONDS", 0.1)
    tracer = capture_of([place(program, "probed")], [program])
    stop_at_first_hit(tracer)
    assert os.waitstatus_to_exitcode(tracer.wait_for_command()) == 3


def test_a_trap_that_is_pending_is_taken_in_before_the_breakpoint_goes(compile_c, run_when_we_sleep, alarm):
    """A thread is stopped between its int3 and the SIGTRAP of it, which must not be held off by another interruption.

    The signal is a sent one here: the kernel's own cannot be made to wait.
    """
    program = compile_c(
        "spinner",
        """
        #include <signal.h>
        #include <stdio.h>
        #include <unistd.h>
        static void on_trap(int s) { (void)s; _exit(6); }
        int main(void) {
            signal(SIGTRAP, on_trap);
            puts("ready"); fflush(stdout);
            for (;;) __asm__ volatile("");
        }
        """,
    )
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        (tid,) = attach(process.pid)
        run_when_we_sleep(tid)
        thread = Thread(tid, tid, AddressSpace.of_process(tid))
        thread.interrupt()
        _, status = os.waitpid(tid, WALL)
        assert status >> 16 == EVENT_STOP
        before = read_registers(tid)[RIP] - 1
        thread.space.breakpoints[before] = Breakpoint(before, thread.space.read_raw(before, 15))
        send_signal(tid, tid, signal.SIGTRAP)
        table = ThreadTable()
        table.threads[tid] = thread
        table.reports.append((tid, status))
        stops = []

        def count(tid, status):
            stops.append(status >> 16)
            assert len(stops) < 20, "interrupted again and again"
            return False

        detach.detach_all(table, count)
        assert not table.threads
        assert stops[-1] == 0
        assert process.wait(30) == 6
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_exec_in_a_process_whose_first_thread_had_ended_before(compile_c, alarm):
    program = compile_c(
        "headless",
        """
        #include <pthread.h>
        #include <unistd.h>
        static void *run(void *go) {
            char byte;
            read(0, &byte, 1);
            execl("/bin/sh", "sh", "-c", "exit 7", (char *)0);
            return go;
        }
        int main(void) {
            pthread_t t;
            pthread_create(&t, 0, run, 0);
            pthread_exit(0);
        }
        """,
        "-pthread",
    )
    process = subprocess.Popen([program], stdin=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while "zombie" not in status_of(process.pid)["State"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        tracer = capture_of([], pids=[process.pid])
        tracer.start()
        process.stdin.write("x")
        process.stdin.flush()
        execs = 0
        for event in tracer.events():
            if isinstance(event, ProcessExeced):
                execs += 1
                tracer.stop()
        tracer.close()
        assert execs == 1
        assert process.wait(30) == 7
    finally:
        process.kill()
        process.stdin.close()
        process.wait()
