"""`ptap profile` on a program that says itself where its time goes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
#include <time.h>
static volatile long sum;
static __attribute__((noinline)) void spin(double seconds) {
    for (clock_t end = clock() + (clock_t)(seconds * CLOCKS_PER_SEC); clock() < end;)
        for (long i = 0; i < 20000; i++) sum += i;
}
static __attribute__((noinline)) void much(void) { spin(0.8); sum++; }
static __attribute__((noinline)) void little(void) { spin(0.2); sum++; }
int main(void) { much(); little(); return 3; }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory, require_tool) -> Path:
    folder = tmp_path_factory.mktemp("spinning")
    (folder / "spinning.c").write_text(_PROGRAM)
    gcc = require_tool("gcc", "gcc")
    subprocess.run([gcc, "-O1", "-g", "-fomit-frame-pointer", "-o", "spinning", "spinning.c"], cwd=folder, check=True)
    return folder / "spinning"


def command(*options: str, program: Path | None = None) -> list[str]:
    return [sys.executable, "-m", "ptap", "profile", *options, *(["--", str(program)] if program else [])]


def profile(*options: str, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*options, program=program), capture_output=True, text=True, check=False)


def test_where_the_time_goes(program):
    """By CPU time, which no other load changes: four fifths in one function, the rest in another."""
    run = profile("-F", "499", "--format", "folded", program=program)
    assert run.returncode == 3, run.stderr
    weights = dict(line.rsplit(" ", 1) for line in run.stdout.splitlines())
    of = {
        name: sum(int(weight) for stack, weight in weights.items() if f";main;{name};spin" in stack)
        for name in ("much", "little")
    }
    assert of["little"] > 20 and 2 < of["much"] / of["little"] < 8, of
    whole = sum(int(weight) for weight in weights.values())
    assert sum(int(weight) for stack, weight in weights.items() if ";main;" in stack) > 0.9 * whole
    (counted,) = re.findall(r"(\d+) hits", run.stderr)
    assert whole == int(counted)


def test_what_is_kept_can_be_reported_again(program, tmp_path):
    kept, page = tmp_path / "kept.ptap", tmp_path / "firefox.json"
    run = profile("-F", "199", "--keep", str(kept), "-o", str(page), program=program)
    assert run.returncode == 3 and not run.stdout, run.stderr
    firefox = json.loads(page.read_text())  # by the suffix
    count = sum(thread["samples"]["length"] for thread in firefox["threads"])
    again = [sys.executable, "-m", "ptap", "report", str(kept), "--format", "top"]
    assert subprocess.run(again, capture_output=True, text=True, check=True).stdout.startswith(f"{count} samples")


def test_a_terminal_sees_how_it_goes(program):
    leader, follower = pty.openpty()
    status = subprocess.run(
        command("-F", "99", "-o", os.devnull, program=program), stderr=follower, check=False
    ).returncode
    os.close(follower)
    seen = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert status == 3 and re.search(r"\d+ samples in \d+ s, \d+ a second, 0 lost", seen)


@pytest.mark.parametrize("options", [(), ("-p", "1", "--", "true")], ids=["nothing", "both"])
def test_what_to_sample_has_to_be_clear(options):
    run = profile(*options)
    assert run.returncode == 2 and "either a command behind `--` or -p PID" in run.stderr
