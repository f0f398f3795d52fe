"""A program that waits and works as it is told, and says itself for how long; and recordings of it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ptap.backend.live_capture import LiveCapture, Target
from ptap.record_session import RecordSession
from ptap.report.output import Report
from ptap.trace_point import parse_trace_point
from ptap.trace_session import TraceOptions
from relay_reader.capture import Event
from relay_reader.capture_file.reader import CaptureFile

SOURCE = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile long sum;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void wait_for(const char *path) { while (access(path, F_OK)) usleep(5000); }
static void touch(const char *path) { FILE *file = fopen(path, "w"); if (file) fclose(file); }

static __attribute__((noinline)) void spin(double seconds) {
    for (clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC); clock() < end;)
        for (long i = 0; i < 20000; i++) sum += i;
}
static __attribute__((noinline)) void nap(void) {
    struct timespec t = {0, 25000000};
    nanosleep(&t, NULL);
    sum++;
}
static __attribute__((noinline)) void nap_often(int times) { for (int i = 0; i < times; i++) nap(); sum++; }
static __attribute__((noinline)) void wait_forever(void) { for (;;) pause(); }

/* A parent waits for what its child does before exec or exit, and no signal ends that. */
static __attribute__((noinline)) void lend(int times) {
    for (int i = 0; i < times; i++) {
        if (!vfork()) { nap(); _exit(0); }
        wait(NULL);
    }
    sum++;
}

static void *sleeper(void *go) {
    wait_for(go);
    wait_forever();
    return NULL;
}
static void *from_the_start(void *ignored) { wait_forever(); return ignored; }

/* nap TIMES SECONDS; lend TIMES; spin SECONDS [GO DONE]; endless SECONDS; family GO PROGRAM SECONDS; threads GO */
int main(int count, char **arguments) {
    pthread_t thread;
    if (count > 3 && !strcmp(arguments[1], "nap")) {
        long long begin = now(), middle;
        nap_often(atoi(arguments[2]));
        middle = now();
        spin(atof(arguments[3]));
        printf("%lld %lld\n", middle - begin, now() - middle);
    } else if (count > 2 && !strcmp(arguments[1], "lend")) {
        lend(atoi(arguments[2]));
    } else if (count > 2 && !strcmp(arguments[1], "spin")) {
        if (count > 3) wait_for(arguments[3]);
        puts("began");
        fflush(stdout);
        spin(atof(arguments[2]));
        if (count > 4) touch(arguments[4]);
    } else if (count > 2 && !strcmp(arguments[1], "endless")) {
        spin(atof(arguments[2]));
        puts("spun");
        fflush(stdout);
        for (;;) spin(1);
    } else if (count > 4 && !strcmp(arguments[1], "family")) {
        wait_for(arguments[2]);
        if (!fork()) execl(arguments[3], "later", "spin", arguments[4], NULL);
        wait(NULL);
    } else if (count > 2 && !strcmp(arguments[1], "threads")) {
        pthread_create(&thread, NULL, sleeper, arguments[2]);
        pthread_create(&thread, NULL, from_the_start, NULL);
        puts("began");
        fflush(stdout);
        pthread_join(thread, NULL);
    }
    return 0;
}
"""


def build(folder: Path, gcc: str) -> Path:
    """The program, in `folder`."""
    (folder / "waiting.c").write_text(SOURCE)
    flags = ["-O1", "-g", "-fomit-frame-pointer", "-pthread"]
    subprocess.run([gcc, *flags, "-o", "waiting", "waiting.c"], cwd=folder, check=True)
    return folder / "waiting"


def record(
    path: Path,
    target: Target,
    *,
    frequency: int = 499,
    off_cpu: bool = False,
    when_armed: Callable[[LiveCapture], None] = lambda _: None,
) -> list[Event]:
    """The events of a recording of `target`; `when_armed` is called when nothing can be missed any more."""

    class Session(RecordSession):
        def _follow(self, capture: LiveCapture, report: Report) -> None:
            when_armed(capture)
            super()._follow(capture, report)

    points = [parse_trace_point(f"timer.profile({frequency})", "auto")]
    options = TraceOptions(user_stack=32_768, off_cpu=off_cpu)
    told: list[str] = []
    Session(points, target, options, lambda text, _: told.append(text), str(path), postponed=True).record()
    return [event for _, event in CaptureFile(str(path)).events()]


def stop_when(condition: Callable[[], bool]) -> Callable[[LiveCapture], None]:
    """What ends a capture as soon as `condition` holds; after a minute whether or not it does."""

    def watch(capture: LiveCapture) -> None:
        for _ in range(3000):
            if condition():
                break
            time.sleep(0.02)
        capture.stop()

    return lambda capture: threading.Thread(target=watch, args=(capture,), daemon=True).start()
