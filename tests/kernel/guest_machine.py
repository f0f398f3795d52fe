"""What the tests have a guest do beside a session: processors go and come, another tracer's probe is on the same stack.

Writes captures, and what was seen as machine.json, to the folder that is named. Standard library only.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

SESSIONS = Path("/guest/sessions")
sys.path.insert(0, str(SESSIONS / "ticks" / "run.pyz"))

from ptap_target.collector import run_session  # noqa: E402
from ptap_target.kernel_module import KernelModule  # noqa: E402
from ptap_target.session_folder import SessionFolder  # noqa: E402

SECOND = Path("/sys/devices/system/cpu/cpu1/online")
TRACING = Path("/sys/kernel/tracing")
TICKS, PATIENCE_S = 5, 120
READS = 20


def ticks(module):
    """Hits of each processor so far: the session's only probe is a timer."""
    lines = [line.split() for line in module.status() if line.startswith("cpu ")]
    return [int(line[3]) for line in lines]


def await_ticks(module, cpu):
    """The hits of all processors once `cpu` has some more than now; as they are when nothing comes for long."""
    before, end = ticks(module)[cpu], time.monotonic() + PATIENCE_S
    while ticks(module)[cpu] < before + TICKS and time.monotonic() < end:
        time.sleep(0.02)
    return ticks(module)


def hotplug(session):
    """Hits of both processors: with one, with both, with one again, with both again; and what the module tells."""
    SECOND.write_text("0")
    with KernelModule(session.module) as module:
        for message in session.messages:
            module.send(message)
        counts = [await_ticks(module, 0)]
        for state, cpu in (("1", 1), ("0", 0), ("1", 1)):
            SECOND.write_text(state)
            begin = ticks(module)
            counts += [begin, await_ticks(module, cpu)]
        SECOND.write_text("0")
        module.send(session.stop)
        told = module.status()
    SECOND.write_text("1")
    return {"counts": counts, "told": told}


def beside_another_return_probe(folder, results):
    """Reads whose stacks have a return address that a probe of the kernel's own tracer has replaced."""
    subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACING], check=True)
    (TRACING / "kprobe_events").write_text("r:ptap_other ksys_read\n")
    enable = TRACING / "events/kprobes/ptap_other/enable"
    enable.write_text("1")
    try:
        return run_session(folder, results / "returning", ["/guest/workload", "0", str(READS)])
    finally:
        enable.write_text("0")
        (TRACING / "kprobe_events").write_text("")
        subprocess.run(["umount", TRACING], check=True)


def main():
    results = Path(sys.argv[1])
    seen = {"hotplug": hotplug(SessionFolder.open(SESSIONS / "ticks"))}
    seen["returning"] = beside_another_return_probe(SESSIONS / "reads", results)
    (results / "machine.json").write_text(json.dumps(seen))


main()
