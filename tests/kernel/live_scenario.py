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
import ptap_target.collector  # noqa: F401
from ptap.cli.main import main as ptap_main
from ptap.kernel_module.resolve import KernelResolver
from relay_reader.capture import Sample
from relay_reader.module_capture import RecordStream
from relay_reader.record_layout import HitFlag
from unwind.kernel.kernel_files import find_local_vmlinux

RESULTS = Path(sys.argv[1])
READER = "/guest/reader"
FUNCTION = 'kernel.function("vfs_read")'
ENTRY, RETURN = f"{FUNCTION}.call", f"{FUNCTION}.return"
"""Kinds that need no search in debug information, which takes long here."""
READS = [ENTRY, RETURN]
LATER, LIBRARY, NEXT = "/guest/later", "/guest/liblater.so", "/guest/next"
SETTLED = f'process("{LATER}").function("settled_read")'
STAGES = ("own", "child", "library", "next")
"""What tests/kernel/later.c comes to."""
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
    """A process that runs ptap, in a session of its own. `log` is where its records go, too."""

    def __init__(self, words, messages, log=None):
        self.pid = os.fork()
        self._status = None
        if self.pid == 0:
            if log is not None:
                log_records(log)
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


def log_records(path):
    """Have this process write what each record of the module says, a line of JSON a hit or a processor's account."""
    log = open(path, "w")  # noqa: SIM115  as long as the process
    decode = RecordStream.decode

    def logged(stream, record):
        accounts = len(stream.accounts)
        for event in decode(stream, record):
            if isinstance(event, Sample):
                flags = event.user_stack.flags if event.user_stack is not None else HitFlag.USER_UNTOLD
                copied = bool(flags & (HitFlag.USER_UNTOLD | HitFlag.USER_FLAT))
                hit = {"comm": stream._names[event.tid], "pid": event.pid, "time_ns": event.time_ns, "copied": copied}
                log.write(json.dumps(hit) + "\n")
            yield event
        for account in stream.accounts[accounts:]:
            counts = {name: getattr(account, name) for name in ("hits", "dropped", "unwanted", "others")}
            log.write(json.dumps(counts) + "\n")
        log.flush()

    RecordStream.decode = logged


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


def started(name, *words, log=None):
    """A run of ptap that writes its traces and messages to files of that name."""
    note(f"{name} begins")
    words = ("--backtrace", "--format", "json", "-o", str(RESULTS / f"{name}.json"), *words)
    return Run(words, RESULTS / f"{name}.err", log)


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


def until(what, holds, run):
    """Wait for `holds()`, while the run goes on."""
    end = time.monotonic() + SECONDS
    while not holds():
        if run.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"{what} did not come to be")
        time.sleep(0.05)


def whole_in(log, stage):
    """Whether a stack of that stage was walked at the probe, as far as is written."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    hits = [json.loads(line) for line in lines if line.endswith("\n")]
    return any(hit.get("comm") == stage and not hit["copied"] for hit in hits)


def noisy():
    """Another process that hits the same probes."""
    return subprocess.Popen([READER, "1000000", "30"], start_new_session=True)


def later(name):
    """A program that becomes others, while another one hits the same probe all the time."""
    noise = noisy()
    log = RESULTS / f"{name}.records"
    try:
        begin = time.monotonic()
        words = ("-v", ENTRY, SETTLED, f"{SETTLED}.return", "--", LATER, LIBRARY, NEXT)
        run = started(name, *words, log=log)
        for stage in STAGES:
            until(f"{name}: a whole stack of {stage}", lambda stage=stage: whole_in(log, stage), run)
            Path(f"/tmp/settled-{stage}").touch()
        seen = ended(name, run, begin)
        seen["noise goes on"] = noise.poll() is None
    finally:
        os.killpg(noise.pid, signal.SIGKILL)
        noise.wait()
    return seen


def only(name):
    """A session for whatever runs, used for one command."""
    noise = noisy()
    folder = "/tmp/reads"
    try:
        vmlinux = str(find_local_vmlinux([], []).path)
        words = ("module", "build", "--kernel-headers", str(HEADERS), "--vmlinux", vmlinux, "-o", folder, ENTRY)
        built = Run(words, RESULTS / f"{name}.build").wait()
        words = ("run", folder, "--only", "-o", str(RESULTS / f"{name}.capture"), "--", READER, "2")
        status = Run(words, RESULTS / f"{name}.err").wait()
    finally:
        os.killpg(noise.pid, signal.SIGKILL)
        noise.wait()
    return {"built": built, "status": status, "left": left_behind(), "noise": noise.pid}


def doctor(name):
    Run(("doctor",), RESULTS / f"{name}.txt").wait()


def main():
    seen = {}
    KernelResolver(find_local_vmlinux([], []))  # kept for the runs that follow
    doctor("doctor")
    seen["module"] = traced("module", "--backend", "module", *READS, "--", READER, "2")
    seen["perf"] = traced("perf", "--backend", "perf", *READS, "--", READER, "2")
    seen["later"] = later("later")
    seen["only"] = only("only")
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
