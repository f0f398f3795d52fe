"""Who cannot be looked at, and why: each refusal says what to do, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from live_stack.conftest import ptap_stack, stacks, wait_until

from ptap.backend.live_capture import CaptureError
from ptap.snapshot.process_snapshot import SnapshotOptions, take_snapshot

_NOBODY = 65534
_PF_KTHREAD = 0x00200000


def _refusal(pid: int) -> str:
    with pytest.raises(CaptureError) as refused:
        take_snapshot(pid, SnapshotOptions())
    return str(refused.value)


def test_nobody_there():
    process = subprocess.Popen(["/bin/true"])
    wait_until(lambda: f"{Path(f'/proc/{process.pid}/stat').read_text()}".rpartition(")")[2].split()[0] == "Z")
    assert "has ended and waits for its parent" in _refusal(process.pid)
    process.wait()
    assert "no process" in _refusal(process.pid)
    done = ptap_stack(process.pid)
    assert done.returncode == 2 and "no process" in done.stderr and "Traceback" not in done.stderr


def test_this_process_itself():
    assert "is this process" in _refusal(os.getpid())


def test_a_kernel_thread():
    stat = Path("/proc/2/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else []
    if fields and int(fields[6]) & _PF_KTHREAD:  # in a container, 2 may be anybody
        assert "is a kernel thread" in _refusal(2)


def _as_nobody(work: Callable[[], str]) -> str:
    """What `work` says in a process of a user without privileges; as ourselves when we have none."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(_NOBODY, _NOBODY, _NOBODY)
            os.write(write_end, work().encode())
        except CaptureError as error:
            os.write(write_end, f"refused: {error}".encode())
        except BaseException as error:
            os.write(write_end, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return text


def _known_threads(pid: int) -> str:
    snapshot = take_snapshot(pid, SnapshotOptions())
    return f"{sum(copy.known != 0 and bool(copy.stacks) for copy in snapshot.threads)} known"


def _threads_of_own_process() -> str:
    process = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        return _known_threads(process.pid)
    finally:
        process.kill()
        process.wait()


def test_a_process_of_another_user(standing):
    process = standing("values")
    pid = process.pid if os.geteuid() == 0 else 1
    answer = _as_nobody(lambda: _known_threads(pid))
    assert answer.startswith("refused: ") and "belongs to user" in answer and "with sudo" in answer, answer
    assert process.status("TracerPid") == "0"


def test_a_user_may_look_at_processes_of_their_own():
    assert _as_nobody(_threads_of_own_process) == "1 known"


def test_code_of_32_bits(started, tmp_path, require_tool):
    source, program = tmp_path / "small.S", tmp_path / "small"
    source.write_text(
        ".globl _start\n_start: mov $4, %eax\n mov $1, %ebx\n mov $text, %ecx\n mov $6, %edx\n int $0x80\n"
        "again: mov $29, %eax\n int $0x80\n jmp again\n text: .ascii \"ready\\n\"\n"
    )  # fmt: skip
    require_tool("gcc", "gcc")
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-no-pie", source, "-o", program], check=True)
    try:
        process = started([program])
    except OSError:
        return  # this kernel runs no 32-bit programs
    (trace,), report = stacks(process.pid)
    assert trace["stop"] == "no_registers" and not trace["frames"]
    assert "32-bit" in (report.snapshot.threads[0].problem or "")
