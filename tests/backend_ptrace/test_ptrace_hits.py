"""Hits are counted as the program counts them: threads, recursion, longjmp, fork, vfork, exec, libraries."""

import os
import re
import signal
import struct
import subprocess

import pytest

from ptap.backend.live_capture import PlaceKind
from relay_reader.capture import MappingAdded, ProcessExeced, ProcessForked, ThreadExited

ENTRY, RETURN = PlaceKind.ENTRY, PlaceKind.RETURN

HAMMER = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static long counts[4], rounds;
#define KEEP __attribute__((noinline, noclone))
/* First instructions: a load (stepped), a push (emulated), a compare. */
KEEP long load(long *c) { *c += 1; __asm__ volatile("" ::: "memory"); return *c * 3; }
KEEP long push(long *c) { long kept; __asm__ volatile("" : "=b"(kept) : "0"(c)); *c += 1; return *(long *)kept; }
KEEP long compare(long *c, long n) { if (n == 3) return 1; *c += 1; return *c; }
static void *run(void *c) {
    long sum = 0;
    for (long i = 0; i < rounds; i++) { sum += load(c); sum += push(c); sum += compare(c, i); }
    return (void *)sum;
}
int main(int argc, char **argv) {
    rounds = atol(argv[1]);
    pthread_t t[4];
    long sum = 0, calls = 0;
    for (int i = 0; i < 4; i++) pthread_create(t + i, 0, run, counts + i);
    for (int i = 0; i < 4; i++) { void *r; pthread_join(t[i], &r); sum += (long)r; calls += counts[i]; }
    FILE *f = fopen(argv[2], "w");
    fprintf(f, "%ld %ld", calls, sum);
    return fclose(f);
}
"""

SHAPES = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile long hits, handled;
static jmp_buf env;
#define KEEP __attribute__((noinline, noclone))
KEEP long probed(long n) {
    hits++;
    __asm__ volatile("" ::: "memory");
    if (n <= 0) return 1;
    long r = probed(n - 1);
    __asm__ volatile("" : "+r"(r));
    return r + n;
}
KEEP long jumper(long n) {
    hits++;
    if (n % 3 == 0) longjmp(env, 1);
    __asm__ volatile("" ::: "memory");
    return n;
}
static void on_signal(int s) { handled++; if (s == SIGUSR1) probed(0); }
static void tell(const char *path, long a, long b) {
    FILE *f = fopen(path, "a");
    fprintf(f, "%ld %ld\n", a, b);
    fclose(f);
}
int main(int argc, char **argv) {
    const char *mode = argv[1], *path = argv[2];
    long n = atol(argv[3]), returned = 0;
    if (!strcmp(mode, "recurse")) probed(n);
    else if (!strcmp(mode, "longjmp"))
        for (volatile long i = 0; i < n; i++) { if (!setjmp(env)) { jumper(i); returned++; } }
    else if (!strcmp(mode, "fork"))
        for (int i = 0; i < n; i++) {
            pid_t p = fork();
            if (!p) { hits = 0; probed(i); tell(path, hits, 0); _exit(3); }
            waitpid(p, 0, 0);
        }
    else if (!strcmp(mode, "vfork"))
        for (int i = 0; i < n; i++) {
            pid_t p = vfork();
            if (!p) { execl(argv[0], argv[0], "recurse", path, "3", (char *)0); _exit(9); }
            waitpid(p, 0, 0);
        }
    else if (!strcmp(mode, "exec")) {
        probed(1); tell(path, hits, 0);
        execl(argv[0], argv[0], "recurse", path, "4", (char *)0);
    } else if (!strcmp(mode, "signal")) {
        signal(SIGUSR1, on_signal);
        for (int i = 0; i < n; i++) { kill(getpid(), SIGUSR1); probed(0); }
        returned = handled;
    } else if (!strcmp(mode, "abort")) { probed(1); tell(path, hits, 0); raise(SIGABRT); }
    else if (!strcmp(mode, "trap")) {
        signal(SIGTRAP, on_signal);
        for (int i = 0; i < n; i++) { probed(0); __asm__ volatile("int3"); raise(SIGTRAP); }
        returned = handled;
    } else if (!strcmp(mode, "stop")) {
        pid_t p = fork();
        if (!p) {
            for (int i = 0; i < n; i++) {
                usleep(2000); kill(getppid(), SIGSTOP);
                usleep(2000); kill(getppid(), SIGCONT);
            }
            _exit(0);
        }
        hits = 0;
        while (waitpid(p, 0, WNOHANG) == 0) probed(0);
    }
    tell(path, hits, returned);
    return 5;
}
"""


def told(path):
    """The two columns that a program wrote, summed."""
    rows = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    return tuple(map(sum, zip(*rows, strict=True)))


@pytest.fixture(params=[(), ("-static",), ("-static-pie",), ("-no-pie",)], ids=lambda flags: "".join(flags) or "pie")
def shapes(request, compile_c):
    return compile_c("shapes", SHAPES, *request.param)


@pytest.mark.parametrize("kinds", [(ENTRY,), (RETURN,), (ENTRY, RETURN)])
def test_no_hit_is_missed_when_four_threads_hammer(compile_c, place, capture, tmp_path, kinds):
    program = compile_c("hammer", HAMMER, "-pthread")
    plain, traced = tmp_path / "plain", tmp_path / "traced"
    subprocess.run([program, "400", plain], check=True)
    names = ("load", "push", "compare")
    outcome = capture([place(program, n, k) for n in names for k in kinds], [program, 400, traced])
    assert traced.read_text() == plain.read_text()
    calls = int(traced.read_text().split()[0]) + 4  # `compare` does not count one of its calls in each thread
    assert sum(outcome.hits.values()) == calls * len(kinds)
    assert set(outcome.hits.values()) == {1600}
    assert len({sample.tid for sample in outcome.samples}) == 4
    assert len([e for e in outcome.of(ProcessForked) if e.pid == e.parent_pid]) == 4
    assert len(outcome.of(ThreadExited)) == 5
    assert outcome.exit_code == 0


def test_recursion_counts_every_level(shapes, place, capture, tmp_path):
    out = tmp_path / "out"
    outcome = capture([place(shapes, "probed", k) for k in (ENTRY, RETURN)], [shapes, "recurse", out, 50])
    hits, _ = told(out)
    assert outcome.hits == {0: hits, 1: hits}
    results = [s.registers[0] for s in outcome.samples if s.places == (1,)]
    assert results == [1 + n * (n + 1) // 2 for n in range(51)]  # innermost returns first
    assert outcome.exit_code == 5


def test_returns_that_longjmp_leaves_out_are_not_counted(shapes, place, capture, tmp_path):
    out = tmp_path / "out"
    outcome = capture([place(shapes, "jumper", k) for k in (ENTRY, RETURN)], [shapes, "longjmp", out, 60])
    hits, returned = told(out)
    assert 0 < returned < hits
    assert outcome.hits == {0: hits, 1: returned}


@pytest.mark.parametrize("mode", ["fork", "vfork", "exec"])
def test_processes_are_followed(shapes, place, capture, tmp_path, mode):
    out = tmp_path / "out"
    outcome = capture([place(shapes, "probed", k) for k in (ENTRY, RETURN)], [shapes, mode, out, 4])
    hits, _ = told(out)
    assert hits > 1
    assert outcome.hits == {0: hits, 1: hits}
    execs = outcome.of(ProcessExeced)
    assert len(execs) == {"fork": 1, "vfork": 5, "exec": 2}[mode]
    assert len(outcome.of(ProcessForked)) == {"fork": 4, "vfork": 4, "exec": 0}[mode]
    for position, event in enumerate(outcome.events):
        if isinstance(event, ProcessExeced):
            assert isinstance(outcome.events[position + 1], MappingAdded)
            assert outcome.events[position + 1].pid == event.pid
    assert outcome.exit_code == 5


@pytest.mark.parametrize("mode", ["signal", "trap"])
def test_signals_reach_the_handler_once_each(shapes, place, capture, tmp_path, mode):
    out = tmp_path / "out"
    outcome = capture([place(shapes, "probed", k) for k in (ENTRY, RETURN)], [shapes, mode, out, 30])
    hits, handled = told(out)
    assert handled == {"signal": 30, "trap": 60}[mode]
    assert outcome.hits == {0: hits, 1: hits}


def test_stop_and_continue_pass_through(compile_c, place, capture, tmp_path):
    program, out = compile_c("shapes", SHAPES), tmp_path / "out"
    outcome = capture([place(program, "probed")], [program, "stop", out, 20])
    hits, _ = told(out)
    assert outcome.hits == {0: hits}
    assert outcome.exit_code == 5


def test_death_by_signal_is_the_exit_status(shapes, place, capture, tmp_path):
    out = tmp_path / "out"
    outcome = capture([place(shapes, "probed")], [shapes, "abort", out, 0])
    assert outcome.hits == {0: told(out)[0]}
    assert os.WTERMSIG(outcome.capture.exit_status) == signal.SIGABRT


def test_a_library_loaded_by_dlopen_is_probed(compile_c, place, capture, tmp_path):
    library = compile_c(
        "libplugin.so", "long calls; long in_plugin(long n) { return ++calls + n; }", "-shared", "-fPIC"
    )
    program = compile_c(
        "opener",
        """
        #include <dlfcn.h>
        int main(int argc, char **argv) {
            for (int i = 0; i < 3; i++) {
                void *l = dlopen(argv[1], RTLD_NOW);
                long (*f)(long) = dlsym(l, "in_plugin");
                for (int n = 0; n < 5; n++) f(n);
                if (dlclose(l)) return 1;
            }
            return 0;
        }
        """,
        "-ldl",
    )
    outcome = capture([place(library, "in_plugin", k) for k in (ENTRY, RETURN)], [program, library])
    assert outcome.hits == {0: 15, 1: 15}
    mapped = [e.mapping.path for e in outcome.of(MappingAdded)]
    assert mapped.count(library) == 3
    assert any(re.search(r"/libc[.-]", path) for path in mapped) and "[vdso]" in mapped
    first_hit = outcome.events.index(outcome.samples[0])
    assert any(isinstance(e, MappingAdded) and e.mapping.path == library for e in outcome.events[:first_hit])


def test_a_sample_shows_the_stack_and_memory_as_without_breakpoints(compile_c, place, capture, tmp_path):
    program, out = compile_c("shapes", SHAPES), tmp_path / "out"
    places = [place(program, "probed", k) for k in (ENTRY, RETURN)]
    with open(program, "rb") as file:
        file.seek(places[0].file_offset)
        original = file.read(16)
    seen = []

    def look(tracer, event):
        if getattr(event, "places", ()) == (0,):
            slot = event.slices[0]
            rip, rsp = event.registers[16], event.registers[7]
            seen.append(
                (
                    event.read_memory(rip, 16),
                    slot.address == rsp and event.read_memory(rsp, 64) == slot.data[:64],
                    event.registers[5],
                    sorted(event.read_vector_registers()),
                    event.read_memory(8, 8),
                    struct.unpack_from("<Q", slot.data)[0],
                )
            )

    capture(places, [program, "recurse", out, 6], at_event=look)
    assert [row[2] for row in seen] == [6, 5, 4, 3, 2, 1, 0]  # rdi, the argument
    for memory, stack_agrees, _, vectors, nothing, return_address in seen:
        assert memory == original
        assert stack_agrees
        assert vectors == list(range(17, 33))
        assert nothing == b""
        assert return_address  # the true one: it lies in the program, not in a trampoline
