"""What the command shows beside plain stacks: values as text, the kernel's frames, predicates, other forms."""

from __future__ import annotations

import os
from pathlib import Path

from live_stack.conftest import count_stacks, json_stacks, ptap_stack

from ptap.snapshot.blocked_thread import symbol_addresses


def test_forms_of_the_command(standing):
    process = standing("threads", 5)
    done = ptap_stack(process.pid, "-v")
    assert done.returncode == 0 and count_stacks(done.stdout) == 5
    assert f"process {process.pid} stood still for " in done.stderr and done.stderr.endswith("5 threads, 0 cut short\n")
    done = ptap_stack(process.pid, "--when", 'caller("thread_main") and depth() > 20', "--format", "folded")
    lines = done.stdout.splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 2, done.stdout  # ten and none are too few
    assert all("thread_main;descend" in line and ";stand" in line for line in lines)
    assert "5 threads, 3 not wanted, 0 undecided (--when)" in done.stderr
    done = ptap_stack(process.pid, "--when", "nonsense(")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    inlined = [frame for trace in json_stacks(process.pid) for frame in trace["frames"] if frame["inlined"]]
    assert inlined and not any(
        frame["inlined"] for trace in json_stacks(process.pid, "--no-inline") for frame in trace["frames"]
    )


def test_frames_of_the_kernel(standing):
    process = standing("values")
    (trace,) = json_stacks(process.pid, "--kernel")
    kernel = [frame for frame in trace["frames"] if frame["space"] == "kernel"]
    if os.geteuid() != 0:
        assert not kernel
        return
    try:
        told = Path(f"/proc/{process.pid}/stack").read_text()
    except OSError:
        return  # a kernel without CONFIG_STACKTRACE, or a container that hides it
    names = [line.split()[1].partition("+")[0] for line in told.splitlines()]
    assert [frame["function"] for frame in kernel] == names
    assert trace["frames"][len(kernel)]["space"] == "user" and trace["stop"] == "end_of_stack"


def test_addresses_of_kernel_symbols(tmp_path):
    listed = tmp_path / "kallsyms"
    listed.write_text(
        "ffffffff81000000 T first\nffffffff81000040 t twice\nffffffff81000080 t twice\n"
        "ffffffffc0000010 t inside\t[module]\n0000000000000000 T hidden\n"
    )
    asked = ["first", "twice", "inside", "hidden", "nobody"]
    assert symbol_addresses(asked, str(listed)) == {"first": 0xFFFFFFFF81000000, "inside": 0xFFFFFFFFC0000010}
    assert symbol_addresses(asked, str(tmp_path / "nothing")) == {}
