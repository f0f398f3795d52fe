"""Recordings of one program for the tests of bulk walks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
volatile long sink;
__attribute__((noipa)) static void leaf(long n) { for (int i = 0; i < 200; i++) sink += i * n; }
__attribute__((noipa)) static long down(long n) {
    char room[32 + n % 5 * 48];
    memset(room, (int)n, sizeof room);
    if (n) down(n - 1);
    leaf(n);
    return room[n % 32];
}
static int compare(const void *a, const void *b) { leaf(3); return *(const int *)a - *(const int *)b; }
__attribute__((noipa)) static void sorting(void) {
    int values[128];
    for (int i = 0; i < 128; i++) values[i] = rand();
    qsort(values, 128, sizeof *values, compare);
}
static void *work(void *rounds) {
    for (long i = 0; i < (long)rounds; i++) {
        sorting();
        down(24);
        for (int j = 0; j < 300; j++) leaf(j); /* a quarter of the time on stacks that small dumps hold whole */
    }
    return 0;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, work, (void *)400);
    work((void *)400);
    pthread_join(thread, 0);
    if (!fork()) { work((void *)400); _exit(0); }
    wait(0);
    return 0;
}
"""


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Callable[..., Path]:
    """record(name, *options) → a perf.data of a program with threads, a fork, deep and shallow stacks."""
    perf, gcc = require_tool("perf", "linux-perf"), require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("deep")
    (folder / "deep.c").write_text(PROGRAM)
    flags = ["-O2", "-g", "-fomit-frame-pointer", "-pthread"]
    subprocess.run([gcc, *flags, "-o", folder / "deep", folder / "deep.c"], check=True)

    def run(name: str, *options: str) -> Path:
        path = folder / name
        command = [perf, "record", "-qN", *options, "-o", path, folder / "deep"]
        done = subprocess.run(command, capture_output=True, text=True)
        if not path.exists():
            pytest.skip(f"perf record does not work here: {done.stderr.strip()}")
        return path

    return run
