"""ptap while it runs: started in the background, read by lines, signalled; and what it must not leave behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PTAP = (sys.executable, "-m", "ptap")
_SECONDS = 60


@contextmanager
def running(command: Sequence[str | Path], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process in a process group of its own, which is killed in the end whatever happened."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=_SECONDS)


def first_line(process: subprocess.Popen[str]) -> str:
    """The first line of standard output, as soon as it is there; "" when there is none in a minute."""
    assert process.stdout is not None
    line = b""
    # By single bytes: what a buffer took in would be missing from `communicate`.
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], _SECONDS)
        byte = os.read(process.stdout.fileno(), 1) if ready else b""
        if not byte:
            break
        line += byte
    return line.decode()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, the rest of standard output, and standard error, once the process has ended."""
    out, err = process.communicate(timeout=_SECONDS)
    return process.returncode, out, err


def code_bytes(pid: int, program: Path, offset: int, size: int = 64) -> tuple[bytes, bytes]:
    """`size` bytes of code at a file offset, as they are in the file and in the memory of a process."""
    with program.open("rb") as file:
        file.seek(offset)
        in_file = file.read(size)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(None, 5)
        start, end = (int(each, 16) for each in fields[0].split("-"))
        at = int(fields[2], 16)
        if len(fields) == 6 and os.path.realpath(fields[5]) == os.path.realpath(program) and "x" in fields[1]:
            if at <= offset < at + end - start:
                with open(f"/proc/{pid}/mem", "rb") as memory:
                    memory.seek(start + offset - at)
                    return in_file, memory.read(size)
    raise AssertionError(f"{program}+{offset:#x} is not mapped in {pid}")


def probe_events_of(path: Path) -> list[str]:
    """The kernel's uprobe events on a file; none where tracefs cannot be read."""
    from ptap.backend.live_capture import CaptureError
    from ptap.backend.perf_events.tracefs import TraceFilesystem

    try:
        tracefs = TraceFilesystem()
    except CaptureError:
        return []
    try:
        return [line for line in tracefs.read("uprobe_events").splitlines() if str(path) in line]
    finally:
        tracefs.close()


def wait_until(condition: object, what: str) -> None:
    """Wait for `condition()` to hold, a minute at most."""
    assert callable(condition)
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.02)
