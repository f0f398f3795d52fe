"""What the module has to stand, run in a guest by its own Python: many hits, damage, loads without end.

Writes captures and what was seen (load.json) to the folder that is named. Standard library only. What of the damage
has to be refused was decided by the machine that has made it (damage.py).
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SESSIONS = Path("/guest/sessions")
sys.path.insert(0, str(SESSIONS / "stacks" / "run.pyz"))

from guest_damage import damaged_copies, damaged_messages, damaged_user_tables, too_large_rings  # noqa: E402
from guest_endurance import endure, prepared  # noqa: E402
from guest_memory import in_use, leaks  # noqa: E402
from guest_work import PROBED, READS  # noqa: E402

from ptap_target.collector import CAPTURE_MAGIC, run_session  # noqa: E402
from ptap_target.kernel_module import KernelModule  # noqa: E402
from ptap_target.session_folder import SessionFolder  # noqa: E402

WARM_UP, AS_IT_IS = 3, 40
"""Cycles before memory is measured, and cycles before grace periods are sped up."""
SLOW_BYTES = 1 << 14


def counted(count, told):
    """The command that reads `count` times on each of two processors; what it tells goes to the file `told`."""
    return ["sh", "-c", f"{READS} 0 {count} >> {told} & {READS} 1 {count} >> {told} & wait"]


@contextmanager
def first_to_run():
    """This process runs whenever it can, its children as usual: so a reader keeps up, on few processors too."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def read_slowly(session, output, command):
    """A capture by a reader that is too slow, and reads what is left in the end."""
    with KernelModule(session.module) as module, open(output, "wb") as file:
        file.write(CAPTURE_MAGIC + json.dumps(session.description).encode() + b"\n")
        for message in session.messages:
            module.send(message)
        readers = module.record_files()
        child = subprocess.Popen(command)
        while child.poll() is None:
            time.sleep(0.01)
            for reader in readers:
                file.write(os.read(reader, SLOW_BYTES))
        module.send(session.stop)
        for reader in readers:
            while content := os.read(reader, 1 << 20):
                file.write(content)
            os.close(reader)
    return child.wait()


def cycle(session):
    """Load, probe, unload; the hits that there were meanwhile."""
    with KernelModule(session.module) as module:
        for message in session.messages:
            module.send(message)
        time.sleep(0.01)
        module.send(session.stop)
        return sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu "))


def cycles(session, count):
    """`count` of them while the probes are hit: hits, and memory in use before and after.

    Most of the time of one is spent in waiting for grace periods of RCU, so those are sped up after some.
    """
    expedited = Path("/sys/kernel/rcu_expedited")
    hits, seconds = [], []
    before = after = None
    child = subprocess.Popen([READS, "0", str(1 << 40)], stdout=subprocess.DEVNULL)
    try:
        for number in range(WARM_UP + count):
            if number == WARM_UP:
                before = in_use()
            expedited.write_text("1" if number >= WARM_UP + AS_IT_IS else "0")
            begin = time.monotonic()
            hits.append(cycle(session))
            seconds.append(time.monotonic() - begin)
        after = in_use()
    finally:
        child.kill()
        child.wait()
        expedited.write_text("0")
    return {"count": count, "hits": hits[WARM_UP:], "before": before, "after": after, "seconds": seconds}


def main():
    results, plan = Path(sys.argv[1]), json.loads(Path("/guest/plan.json").read_text())
    times = [time.monotonic()]
    seen = {"seconds": {}}

    def done(what):
        times.append(time.monotonic())
        seen["seconds"][what] = round(times[-1] - times[-2], 2)
        # What is left to see of a boot that comes to no end.
        Path("/dev/console").write_text(f"{what}: {seen['seconds'][what]} s\n")

    command = counted(plan["reads"], results / "counted.told")
    with first_to_run():
        status, told = run_session(SESSIONS / "counted", results / "counted", command)
    seen["counted"] = {"status": status, "told": told}
    done("a reader that keeps up")
    command = counted(plan["reads too fast"], results / "slow.told")
    seen["slow"] = {"status": read_slowly(SessionFolder.open(SESSIONS / "small"), results / "slow", command)}
    done("a slow reader")
    # Most of the time of a load is spent in waiting for grace periods of RCU.
    expedited = Path("/sys/kernel/rcu_expedited")
    expedited.write_text("1")
    small = SessionFolder.open(SESSIONS / "small")
    seen["tables"] = damaged_copies(small, "the kernel's unwind table", plan["damages"])
    done("damaged tables")
    seen["large rings"] = too_large_rings(small)
    done("too large rings")
    everything = SessionFolder.open(SESSIONS / "everything")
    program = prepared(everything)
    subprocess.run(["insmod", PROBED], check=True)
    seen["modules"] = damaged_copies(everything, "module probed", plan["module damages"])
    done("damaged modules")
    seen["predicates"] = damaged_copies(everything, "--when", plan["predicate damages"])
    done("damaged predicates")
    seen["user tables"] = damaged_user_tables(everything, program, plan["user damages"])
    done("damaged user tables")
    seen["messages"] = damaged_messages(everything, program, plan["fields"])
    done("damaged messages")
    subprocess.run(["rmmod", "probed"], check=True)
    seen["endurance"] = endure(SESSIONS / "everything", program, plan["endurance"], results)
    done("all kinds at once")
    seen["cycles"] = cycles(small, plan["cycles"])
    done("cycles")
    seen["left"] = Path("/proc/ptap_kernel").exists() or "ptap_kernel" in Path("/proc/modules").read_text()
    seen["kmemleak"] = leaks()
    seen["tainted"] = int(Path("/proc/sys/kernel/tainted").read_text())
    (results / "load.json").write_text(json.dumps(seen))


main()
