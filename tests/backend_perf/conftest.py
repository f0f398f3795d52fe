"""Programs that count their own calls, and the means to trace them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ptap.backend.live_capture import PlaceKind, ProbePlace
from ptap.backend.perf_events.availability import available

CALLS = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) long work(long x) { __asm__ volatile("" : "+r"(x)); return x + 1; }

static void calls(int n) {
    long sum = 0;
    for (int i = 0; i < n; i++) sum = work(sum);
    printf("%d %d %d\n", getpid(), gettid(), n);
    fflush(stdout);
}
static void *thread(void *n) { calls((int)(long)n); return NULL; }
static void threads(void) {
    pthread_t ids[4];
    for (long i = 0; i < 4; i++) pthread_create(&ids[i], NULL, thread, (void *)(20 + i * 10));
    for (int i = 0; i < 4; i++) pthread_join(ids[i], NULL);
}
int main(int argc, char **argv) {
    const char *how = argv[1];
    if (!strcmp(how, "wait")) {
        char line[16];
        if (!fgets(line, sizeof line, stdin)) return 1;
        calls(7);
        threads();
    } else if (!strcmp(how, "plain")) {
        calls(atoi(argv[2]));
        return 5;
    } else if (!strcmp(how, "threads")) {
        calls(3);
        threads();
    } else if (!strcmp(how, "fork")) {
        calls(4);
        for (int i = 1; i <= 3; i++)
            if (!fork()) { calls(10 * i); threads(); return 0; }
        while (wait(NULL) > 0) { }
        calls(6);
    } else if (!strcmp(how, "exec")) {
        calls(2);
        if (!fork()) { calls(3); execl(argv[0], argv[0], "plain", "11", NULL); return 1; }
        while (wait(NULL) > 0) { }
        execl(argv[0], argv[0], "plain", "13", NULL);
    }
    return 0;
}
"""


@pytest.fixture(scope="session", autouse=True)
def _perf_events_work() -> None:
    why = available()
    if why is not None:
        pytest.skip(f"perf events do not work here: {why}")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """build(name, source, *flags) → path of the program."""
    folder = tmp_path_factory.mktemp("programs")

    def compile_program(name: str, source: str, *flags: str) -> str:
        path = folder / name
        path.with_suffix(".c").write_text(source)
        subprocess.run(
            ["gcc", "-O2", "-g", "-fomit-frame-pointer", "-pthread", *flags, "-o", path, path.with_suffix(".c")],
            check=True,
        )
        return str(path)

    return compile_program


@pytest.fixture(scope="session")
def calls(build: Callable[..., str]) -> str:
    return build("calls", CALLS)


@pytest.fixture(scope="session")
def place() -> Callable[..., ProbePlace]:
    """place(path, function, kind) → the function's first instruction, by nm and readelf."""

    def find(path: str, function: str, kind: PlaceKind = PlaceKind.ENTRY) -> ProbePlace:
        symbols = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout.splitlines()
        address = next(int(line.split()[0], 16) for line in symbols if line.split()[-1] == function)
        headers = subprocess.run(["readelf", "-lW", path], check=True, capture_output=True, text=True).stdout
        for line in headers.splitlines():
            fields = line.split()
            if fields[:1] == ["LOAD"]:
                offset, start, size = (int(fields[i], 16) for i in (1, 2, 4))
                if start <= address < start + size:
                    return ProbePlace(str(Path(path).resolve()), address - start + offset, kind)
        raise AssertionError(f"{function} lies in no segment")

    return find
