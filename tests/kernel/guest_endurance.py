"""Every kind of probe at once, in a guest, while modules come and go. Standard library only.

What programs have done is counted by themselves, so that the records can be compared with it.
"""

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from guest_memory import in_use
from guest_work import NOTES, PROBED, TOLD

from ptap_target import collector
from ptap_target.kernel_module import KernelModule
from ptap_target.session_folder import SessionFolder

CAPTURE_BYTES = 40 << 20
"""Of records, at the most but for what is left in the rings: what comes faster than that in the time is dropped."""
CYCLES, REMOVALS = 4, 6
DELETE_MODULE = 176
"""The system call's number on x86-64 (asm/unistd_64.h)."""


class BoundedCollector(collector.Collector):
    """Reads no more than so many bytes a second while the probes are on."""

    bytes_a_second = 0

    def _until_done(self, command, duration):
        self._begin, self._seen = time.monotonic(), 0
        status = super()._until_done(command, duration)
        self._begin = None
        return status

    def _read_all(self):
        if self._begin is not None and self._seen > (time.monotonic() - self._begin + 1) * self.bytes_a_second:
            return 0
        size = super()._read_all()
        self._seen += size
        return size


def prepared(session):
    """Put the program that is probed to where the session has it; its path."""
    program = Path(next(each["path"] for each in session.description["probes"] if "path" in each))
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_bytes(Path("/guest/user_workload").read_bytes())
    program.chmod(0o755)
    return str(program)


def cycle(session):
    """Load, probe everything, unload; the hits that there were meanwhile."""
    with KernelModule(session.module) as module:
        for message in session.messages:
            module.send(message)
        time.sleep(0.05)
        module.send(session.stop)
        return sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu "))


def cycles(program, session):
    """Some loads of ours while all goes on: the hits in each."""
    child = subprocess.Popen(working(program, 1 << 20, "/tmp/endurance.left"), start_new_session=True)
    try:
        time.sleep(0.3)
        return [cycle(session) for _ in range(CYCLES)]
    finally:
        os.killpg(child.pid, 9)
        child.wait()
        time.sleep(0.5)
        subprocess.run(["rmmod", "probed"], check=False, capture_output=True)


def removed_at_once(session):
    """The probed module goes as soon as the probes in it are gone, and comes again; the hits each time.

    The kernel may have made jumps of breakpoints by then, which it takes back later on.
    """
    hits = []
    for _ in range(REMOVALS):
        subprocess.run(["insmod", PROBED], check=True)
        with KernelModule(session.module) as module:
            for message in session.messages:
                module.send(message)
            subprocess.run(["cat", "/proc/ptap_probed"], check=True, stdout=subprocess.DEVNULL)
            time.sleep(0.4)
            module.send(session.stop)
            assert ctypes.CDLL(None).syscall(DELETE_MODULE, b"probed", os.O_NONBLOCK) == 0
            hits.append(sum(int(line.split()[3]) for line in module.status() if line.startswith("cpu ")))
    return hits


def working(program, seconds, told):
    """The command that works for so long and tells of it in the file `told`."""
    return [sys.executable, "/guest/guest_work.py", program, str(seconds), str(told)]


def endure(folder, program, seconds, results):
    """Probe everything for so long: how it ended, what was in use before and after, and what the programs did."""
    session = SessionFolder.open(folder)
    TOLD.touch()
    cycles(program, session)  # what is kept from the first time on is there
    NOTES.unlink(missing_ok=True)
    removals = removed_at_once(session)
    before = in_use()
    collector.Collector, whole = BoundedCollector, collector.Collector
    BoundedCollector.bytes_a_second = CAPTURE_BYTES // seconds
    told = results / "endurance.told"
    status, said = collector.run_session(folder, results / "endurance", working(program, seconds, told))
    collector.Collector = whole
    lines = NOTES.read_text().count("\n")
    NOTES.unlink()
    after = in_use()
    hits = cycles(program, session)
    end = in_use()
    return {
        "status": status,
        "told": said,
        "loads": int(told.read_text()),
        "calls": lines,
        "seconds": seconds,
        "removals": removals,
        "before": before,
        "after": after,
        "cycles": {"hits": hits, "after": end},
    }
