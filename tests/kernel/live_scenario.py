"""What the tests of live traces have a guest do, run in it by its own Python: the command as users run it.

Each run is a process of its own that has forked from this one: importing everything takes longer under emulation than
all the rest. Writes each run's traces and messages, and what was seen as results.json, to the folder that is named.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from guest_ptap import SECONDS, Run, left_behind, note
from live_recordings import Recordings

import ptap.backend.kernel_module.session
import ptap.cli.trace
import ptap.trace_session  # noqa: F401
from ptap.kernel_module.resolve import KernelResolver
from unwind.kernel.kernel_files import find_local_vmlinux

RESULTS = Path(sys.argv[1])
READER = "/guest/reader"
FUNCTION = 'kernel.function("vfs_read")'
ENTRY, RETURN = f"{FUNCTION}.call", f"{FUNCTION}.return"
"""Kinds that need no search in debug information, which takes long here."""
READS = [ENTRY, RETURN]
IN_PROGRAM = f'process("{READER}").function("read_one")'
HEADERS = Path("/lib/modules", platform.release(), "build")
DEBUG = Path("/usr/lib/debug")


def started(name, *words):
    """A run of ptap that writes its traces and messages to files of that name."""
    note(f"{name} begins")
    words = ("--backtrace", "--format", "json", "-o", str(RESULTS / f"{name}.json"), *words)
    return Run(words, RESULTS / f"{name}.err")


def ended(name, run, begin):
    """What a run came to."""
    status = run.wait()
    note(f"{name} ended")
    return {"status": status, "left": left_behind(), "seconds": round(time.monotonic() - begin, 1)}


def traced(name, *words):
    begin = time.monotonic()
    return ended(name, started(name, *words), begin)


def first_trace(name, run):
    """Wait until the run has written a trace."""
    end = time.monotonic() + SECONDS
    path = RESULTS / f"{name}.json"
    while not (path.exists() and path.stat().st_size):
        if run.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{name}: no trace; " + (RESULTS / f"{name}.err").read_text())
        time.sleep(0.05)


def signalled(name, how, *words):
    """A run that `how(run)` ends after its first trace."""
    begin = time.monotonic()
    run = started(name, *words)
    first_trace(name, run)
    how(run)
    return ended(name, run, begin)


def interrupt_attached(name):
    """Ctrl-C to a run that traces a process which goes on."""
    reader = subprocess.Popen([READER, "100000", "700"], start_new_session=True)
    try:
        words = ("-v", ENTRY, "-p", str(reader.pid))
        seen = signalled(name, lambda run: os.kill(run.pid, signal.SIGINT), *words)
        seen["goes on"] = reader.poll() is None
    finally:
        os.killpg(reader.pid, signal.SIGKILL)
    return seen


def kill_all(run):
    """ptap itself is killed, and can clean up nothing."""
    os.killpg(run.pid, signal.SIGKILL)


def doctor(name):
    Run(("doctor",), RESULTS / f"{name}.txt").wait()


def main():
    seen = {}
    KernelResolver(find_local_vmlinux([], []))  # kept for the runs that follow
    doctor("doctor")
    seen["module"] = traced("module", "--backend", "module", *READS, "--", READER, "2")
    both = [IN_PROGRAM, f"{IN_PROGRAM}.return", ENTRY]
    seen["program"] = traced("program", "--backend", "module", *both, "--", READER, "2")
    seen["perf"] = traced("perf", "--backend", "perf", *READS, "--", READER, "2")
    unwilling = 'kernel.function("kprobe_int3_handler").call'
    seen["unwilling"] = traced("unwilling", "--backend", "module", ENTRY, unwilling, "--", READER, "1")
    seen["perf unwilling"] = traced("perf_unwilling", "--backend", "perf", unwilling, "--", READER, "1")
    seen["killed"] = signalled("killed", kill_all, "--backend", "module", ENTRY, "--", READER, "100000", "700")
    doctor("leftover")
    recordings = Recordings(RESULTS)
    recordings.all()
    seen["recordings"] = recordings.seen
    DEBUG.rename("/debug-away")
    seen["interrupted"] = interrupt_attached("interrupted")
    seen["wildcard"] = traced("wildcard", "--backend", "perf", 'kernel.function("vfs_rea*")', "--", READER, "1")
    HEADERS.rename("/headers-away")
    no_such = 'kernel.function("no_such_function")'
    seen["without headers"] = traced("without_headers", "-v", no_such, "--", READER, "1")
    (RESULTS / "results.json").write_text(json.dumps(seen))


main()
