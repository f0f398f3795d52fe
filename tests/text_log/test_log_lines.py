"""What is no frame: it passes byte for byte, at once, in bounded memory, whatever it is."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from text_log_oracle import Rewritten, Told, told

from ptap.text_log.log_lines import LONGEST, LogLine, lines_ahead, read_batches

Symbolize = Callable[..., Rewritten]

FOREIGN = rb"""
panic: runtime error: index out of range [5] with length 3
goroutine 1 [running]:
main.f(0xc000012345, 0x3)
	/home/u/x.go:12 +0x1d
thread 'main' panicked at 'oops', src/main.rs:2:5
   0: rust_begin_unwind
             at /rustc/90c5418/library/std/src/panicking.rs:575:5
Fatal Python error: Segmentation fault
Current thread 0x00007f31c5a01b40 (most recent call first):
  File "x.py", line 3 in f
  Binary file "/usr/bin/python3", at _Py_DumpStack+0x31 [0x55d0b7a5b139]
#0  main () at a.c:3
#1  0x000055555555524f in work (p=0x5555 <buffer+0x10>) at b.c:9
==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x604000000038 at pc 0x5576adc42371
    #0 0x5576adc42370 in f /tmp/a.cpp:4:63
  0x0c087fff7fb0: 00 00 00 00 00 00 00 00
prog[12]: segfault at 0 ip 000055d0b7a5b139 sp 00007ffc error 4 in prog[55d0b7a5b000+1000]
RIP: 0033:0x7f31c5a01b40
7f31c5a01b40
ffffffff81000000-ffffffff81001000 not an address
"""

HOSTILE = [
    b"\0\0\0./prog(+0x12\0)[0x12]\n",
    b"/no/such(+0xffffffffffffffffffffffff)[0xffffffffffffffffffffffffff]\n",
    b"    #0 0x1 (/no/such+0x11111111111111111111)\n",
    b"    #0 0x1 (((((((((((((((/x+0x1\n",
    b"    #99999999999999999999 0x1 (/no/such+0x1)\n",
    b"    #1 0x55 (\xff\xfe/no/such\x80+0x1) (BuildId: zz)\n",
    b"f+0x/0x\n",
    b"f+0x1/0x\n",
    b"+0x1/0x10\n",
    b"f+0x11111111111111111/0x1\n",
    b"[<>] [<zz>] [<00000000000000000000>]\n",
    b"#1  0x0 in ?? () from\n",
    b"#1  0x12345678901234567890 in ?? ()\n",
    b"1-0 r-xp 0 0:0 0 /x\n",
    b"ffffffffffffffff-0000 r-xp ffffffffffffffff 00:00 0 /x\n",
    b"Kernel Offset: 0xfffffffffffffffffffffffff\n",
    b"\r\r\n",
    b"\xed\xa0\x80 \xc0\x80 \xf5\n",
    b"a" * 40_000 + b"+0x1/0x2\n",
    b"(" * 30_000 + b"\n",
    b"[0x1]" * 6_000 + b"\n",
    b"0x1 " + b" " * 30_000 + b"x\n",
    b"CPU: 1 PID: 1 Comm: x Tainted: " + b"A " * 15_000 + b"\n",
    b"1000-2000 r-xp 0 0:0 0 /" + b" " * 30_000 + b"x\n",
    b"Sanitizer: " * 2_900 + b"\n",
    b"#1 " * 10_000 + b"\n",
]


def test_what_other_tools_print_stays(symbolize: Symbolize) -> None:
    done = symbolize(log=FOREIGN)
    assert done.stdout == FOREIGN
    assert symbolize(log=FOREIGN, as_json=True).stdout == b""


@pytest.mark.parametrize("end", [b"", b"no end of the line 0x1"])
def test_hostile_lines_stay(symbolize: Symbolize, end: bytes) -> None:
    log = b"".join(HOSTILE) + end
    assert symbolize(log=log).stdout == log


def in_common(one: bytes, other: bytes) -> int:
    """How many bytes the two begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_damaged_frames(teller: Callable[..., Told], symbolize: Symbolize) -> None:
    """Bytes changed at random in sound logs: what is no frame any more stays, and frames are only added to."""
    program = teller("-pie")
    sound = "".join(program.sections[each] for each in ("fd", "maps", "gdb", "coredump")).encode()
    generator = random.Random(1)
    damaged = bytearray()
    for _ in range(30):
        copy = bytearray(sound)
        for _ in range(40):
            copy[generator.randrange(len(copy))] = generator.choice(b"0f+-/()[]# x\xff\0\n")
        damaged += copy
    done = symbolize(log=bytes(damaged))
    given = bytes(damaged).split(b"\n")
    kept = [line for line in done.stdout.split(b"\n") if not line.endswith(b" [inlined]")]
    assert len(kept) == len(given)
    changed = [(before, after) for before, after in zip(given, kept, strict=True) if before != after]
    assert len(changed) > 100
    for before, after in changed:
        # Words are put in at one place, and stand for nothing but the forms' own for what they do not know.
        first = in_common(before, after)
        last = in_common(before[first:][::-1], after[first:][::-1])
        assert re.fullmatch(rb"[ ?()n/ai]*", before[first : len(before) - last]), (before, after)


def test_lines_come_as_they_are(tmp_path: Path) -> None:
    """However a pipe cuts them: whole lines with their ends, and pieces of what is too long."""
    generator = random.Random(2)
    data = b"".join(
        bytes(generator.choices(b"ab\r\0\xff", k=generator.choice([0, 1, 50, LONGEST - 2, LONGEST + 1, 5 * LONGEST])))
        + b"\n"
        for _ in range(60)
    )
    data += b"the end"
    reading, writing = os.pipe()

    def write() -> None:
        at = 0
        while at < len(data):
            step = generator.choice([1, 100, 4096, 100_000])
            at += os.write(writing, data[at : at + step])
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    pieces: list[LogLine] = []
    with open(reading, "rb", buffering=0) as pipe:
        for batch in read_batches(pipe.fileno()):
            pieces += batch
    writer.join()
    assert b"".join(piece.data for piece in pieces) == data
    wanted = [line for line in data.splitlines(keepends=True) if b"\r" not in line]
    assert wanted
    whole = [piece.data for piece in pieces if piece.whole]
    assert whole == [line for line in re.findall(rb"[^\n]*\n|[^\n]+$", data) if len(line) <= LONGEST]
    assert max(len(piece.data) for piece in pieces) <= (1 << 20) + LONGEST
    (tmp_path / "log").write_bytes(data)
    with open(tmp_path / "log", "rb", buffering=0) as file:
        ahead = list(lines_ahead(file.fileno()))
        assert file.tell() == 0
    assert ahead == [line for line in data.split(b"\n") if len(line) <= LONGEST]


def test_the_command_answers_line_by_line(teller: Callable[..., Told], tmp_path: Path) -> None:
    """A pipe that stays open gets each line back before the next one is written; notes come at the end."""
    program = teller("-pie")
    lines = [line for line in program.sections["fd"].splitlines(keepends=True) if str(program.path) in line]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "ptap", "symbolize"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin is not None and run.stdout is not None and run.stderr is not None
        answers = []
        for line in ["plain\n", lines[0], *lines[-2:-1], "./no/such(+0x12)[0x1012]\n"]:
            run.stdin.write(line)
            run.stdin.flush()
            answers.append(run.stdout.readline())
        assert answers[0] == "plain\n" and answers[3] == "./no/such(+0x12)[0x1012]\n"
        assert [name for name, _ in told("".join(answers))] == ["show", "main"]
        run.stdin.close()
        assert run.stdout.read() == ""
        notes = run.stderr.read()
    assert run.returncode == 0
    assert "1 frame: ./no/such: there is no such file" in notes and "Traceback" not in notes


def test_an_output_that_is_full(teller: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "log").write_text(teller("-pie").sections["fd"])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ptap", "symbolize", tmp_path / "log"],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_the_command_with_files(teller: Callable[..., Told], tmp_path: Path) -> None:
    """Logs by name; what is no file needs a source; options of addresses do not go with logs; missing files."""
    program = teller("-pie")
    (tmp_path / "a.log").write_text(program.sections["fd"])
    (tmp_path / "b.log").write_text("nothing\n")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ptap", "symbolize", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    done = run("a.log", "b.log")
    assert done.returncode == 0 and done.stdout.endswith("\nnothing\n") and len(told(done.stdout)) > 5
    for words, expected in (
        (["c.log"], "-e, --build-id, --kernel, --perf-map"),
        (["--index", "a.log"], "--index goes with addresses"),
        (["--vmlinux", "no_vmlinux", "a.log"], "no_vmlinux: No such file"),
        (["--sysroot", ".", "-e", str(program.path), "0x10"], "--sysroot goes with logs"),
    ):
        failed = run(*words)
        assert failed.returncode == 2 and expected in failed.stderr and failed.stdout == ""
        assert "Traceback" not in failed.stderr
