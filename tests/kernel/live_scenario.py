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
import traceback
from pathlib import Path

import ptap.backend.kernel_module.session
import ptap.cli.trace
import ptap.trace_session  # noqa: F401
from ptap.cli.main import main as ptap_main
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
SECONDS = 300


def note(text):
    """Tell on the console, for when there are no results."""
    Path("/dev/console").write_text(f"{time.monotonic():.1f} {text}\n")


def loaded():
    return "ptap_kernel" in Path("/proc/modules").read_text()


def left_behind():
    """What is there that no run may leave."""
    left = ["module"] if loaded() else []
    tracing = Path("/sys/kernel/tracing/kprobe_events")
    return left + tracing.read_text().splitlines()


class Run:
    """A process that runs ptap, in a session of its own."""

    def __init__(self, words, messages):
        self.pid = os.fork()
        self._status = None
        if self.pid == 0:
            run_ptap(words, messages)

    def poll(self):
        """The exit status as a shell gives it, None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self):
        end = time.monotonic() + SECONDS
        while self.poll() is None:
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise RuntimeError(f"a run did not end in {SECONDS} s")
            time.sleep(0.02)
        return self._status


def run_ptap(words, messages):
    """Be ptap: never returns."""
    status = 70
    try:
        os.setsid()
        nowhere, said = os.open(os.devnull, os.O_RDWR), os.open(messages, os.O_WRONLY | os.O_CREAT, 0o644)
        for descriptor, target in ((nowhere, 0), (said, 1), (said, 2)):
            os.dup2(descriptor, target)
        sys.argv = ["ptap", *words]
        try:
            ptap_main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


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
    DEBUG.rename("/debug-away")
    seen["interrupted"] = interrupt_attached("interrupted")
    seen["wildcard"] = traced("wildcard", "--backend", "perf", 'kernel.function("vfs_rea*")', "--", READER, "1")
    HEADERS.rename("/headers-away")
    no_such = 'kernel.function("no_such_function")'
    seen["without headers"] = traced("without_headers", "-v", no_such, "--", READER, "1")
    (RESULTS / "results.json").write_text(json.dumps(seen))


main()
