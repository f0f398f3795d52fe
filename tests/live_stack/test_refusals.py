"""Who cannot be looked at, and why: each refusal says what to do, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from live_stack.conftest import ptap_stack, stacks, wait_until

from ptap.backend.live_capture import CaptureError
from ptap.snapshot.process_snapshot import SnapshotOptions, take_snapshot

_NOBODY = "65534"
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


def test_a_process_of_another_user(standing, require_tool):
    process = standing("values")
    if os.geteuid() != 0:
        assert "belongs to user" in _refusal(1)
        return
    prefix = (require_tool("setpriv", "util-linux"), f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    done = ptap_stack(process.pid, prefix=prefix, HOME="/nonexistent", XDG_CACHE_HOME="/nonexistent")
    assert done.returncode != 0
    if "No module named" not in done.stderr and "Permission denied" not in done.stderr:
        # Where the tests lie in a folder that others may not look into, Python itself is refused.
        assert "belongs to user 0, and you are user 65534" in done.stderr and "sudo" in done.stderr, done.stderr
    assert process.status("TracerPid") == "0"


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
