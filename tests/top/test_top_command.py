"""`ptap top` on real programs: tables for scripts, the view on a terminal, and how both end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PROGRAM = """
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>
static double processor(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}
static volatile long sum;
static __attribute__((noinline)) void spin(double seconds) {
    for (double end = processor() + seconds; processor() < end;)
        for (long i = 0; i < 20000; i++) sum += i;
}
static __attribute__((noinline)) void much(void) { spin(0.8); sum++; }
static __attribute__((noinline)) void little(void) { spin(0.2); sum++; }
static void *named(void *unused) {
    pthread_setname_np(pthread_self(), "little one");
    little();
    return unused;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, named, 0);
    much();
    pthread_join(thread, 0);
    return 3;
}
"""
_RESULT = "since the start"


@pytest.fixture(scope="module")
def program(tmp_path_factory, require_tool) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.c").write_text(_PROGRAM)
    gcc = require_tool("gcc", "gcc")
    flags = ["-O1", "-g", "-fomit-frame-pointer", "-pthread"]
    subprocess.run([gcc, *flags, "-o", "watched", "watched.c"], cwd=folder, check=True)
    return folder / "watched"


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "ptap", "top", *options]


def top(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=300
    )


def tables(text: str) -> list[list[str]]:
    """The tables printed, as lines."""
    return [each.splitlines() for each in re.split(r"\n\n(?=\S)", text.rstrip())]


def test_tables_of_a_program_that_says_where_its_time_goes(program):
    """By processor time, which no other load changes: four fifths in one function, the rest in another thread's."""
    run = top("--batch", "-F", "499", "-d", "0.5", "--sort", "total", "--rows", "1000", "--", str(program))
    assert run.returncode == 3, run.stderr
    *windows, result = tables(run.stdout)
    assert windows and all("last 5 s" in table[0] for table in windows) and _RESULT in result[0]
    (counted,) = re.findall(r"(\d+) hits, \1 traces", run.stderr)
    rows = [line.split() for line in result[5:]]
    total = {name: float(share.rstrip("%")) for _, share, _, _, name, *_ in rows}
    assert 60 < total["much"] < 90 and 10 < total["little"] < 40, result
    assert total["main"] + total["little"] > 90 and total["spin"] > 90
    assert sum(int(row[2]) for row in rows) == int(counted) and result[1].startswith(f"{counted} samples")
    assert re.search(r"% watched \d+, .*% little one \d+", result[2]), result[2]


def test_all_that_runs_with_a_command_as_long_as_it_runs(program):
    run = top("--all-cpus", "--batch", "-F", "99", "--rows", "100000", "--", str(program))
    assert run.returncode == 3, run.stderr
    functions = {line.split()[4] for line in tables(run.stdout)[-1][5:]}
    assert {"much", "little", "spin"} <= functions


@pytest.mark.parametrize("words", [(), ("-p", "1", "-a"), ("-p", "1", "--", "true")])
def test_what_is_watched_is_told_once(words):
    run = top("--batch", *words)
    assert run.returncode == 2 and "-a for all" in run.stderr and not run.stdout


def test_a_number_of_tables_ends_what_was_started_for_them():
    run = top("--batch", "-n", "2", "-d", "0.1", "--", "sleep", "1000")
    assert run.returncode == 130, run.stderr  # as Ctrl-C would have ended it
    assert ["last 5 s" in table[0] for table in tables(run.stdout)] == [True, True, False]


def test_a_running_process_goes_on():
    with subprocess.Popen(["sleep", "1000"]) as sleeping:
        try:
            run = top("--batch", "-n", "1", "-d", "0.1", "-p", str(sleeping.pid))
            assert run.returncode == 0 and f"pid {sleeping.pid}\n" in run.stdout, run.stderr
            assert sleeping.poll() is None
        finally:
            sleeping.kill()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "either a command behind `--` or -p PID"),
        (("-p", "1", "--", "true"), "either a command behind `--` or -p PID"),
        (("-n", "3", "--", "true"), "--batch"),
        (("--", "true"), "`ptap profile --format top`"),
        (("--batch", "-p", str(1 << 30)), "there is no process"),
        (("--batch", "--", "/nonexistent/program"), "/nonexistent/program"),
    ],
    ids=["nothing", "both", "tables of a view", "no terminal", "no process", "no program"],
)
def test_mistakes_are_told(options, words):
    run = top(*options)
    assert run.returncode == 2 and words in run.stderr and not run.stdout


def test_the_view_on_a_terminal(program):
    """The command's own output does not spoil the screen, and is not lost; leaving prints what was seen."""
    script = f'echo from the command; echo "its errors" >&2; exec {program}'
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    run = subprocess.Popen(
        command("-F", "99", "-d", "0.2", "--max-lag", "1000", "--", "sh", "-c", script),
        stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen = b""
    ended = time.monotonic() + 120
    try:
        while time.monotonic() < ended:
            try:
                piece = os.read(leader, 1 << 16)
            except OSError:  # nobody has the terminal any more
                break
            if b"(ended)" in seen[-100:] + piece:
                os.write(leader, b"q")
            seen += piece
        status = run.wait(60)
    finally:
        run.kill()
        run.wait()
        os.close(leader)
    screen, _, left = seen.rpartition(b"\x1b[?1049l")
    assert status == 3, left
    assert b"spin" in screen and b"from the command\r\nits errors\r\n" in left
    after = left.decode()
    assert _RESULT in after and re.search(r"% +\d+  u spin  watched", after), after
