"""What live_scenario.py has the guest do with `ptap record` and `ptap profile`, by the kernel module and by choice.

Files of each run: NAME.out is what it gave, NAME.err what it said, NAME.ptap what it recorded.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from guest_ptap import SECONDS, Run, left_behind, note

import ptap.capture_file_report
import ptap.cli.info
import ptap.cli.profile
import ptap.cli.record
import ptap.cli.report  # noqa: F401
from ptap.backend.kernel_module.running_kernel import headers_folder
from ptap.backend.live_capture import Target
from ptap.record_session import RecordSession
from ptap.trace_point import parse_trace_point
from ptap.trace_session import TraceOptions

BUSY = "/guest/busy_reader"
READER = "/guest/reader"
ENTRY = 'kernel.function("vfs_read").call'
MODULE = ("--backend", "module")
OFTEN = ("-F", "199")
SHORT = "0.5"
"""Seconds of its own time."""
_USED_TICKS = 40
"""Of a processor, which the scheduler counts in /proc/PID/stat."""
_BUILDERS = ("make", "gcc")


class Recordings:
    """Runs, whose files are in `folder`; `seen` says by name what each came to."""

    def __init__(self, folder):
        self._folder = folder
        self.seen = {}

    def run(self, name, *words, during=lambda run: None):
        note(f"{name} begins")
        run = Run([str(word) for word in words], self._folder / f"{name}.err", self._folder / f"{name}.out")
        during(run)
        self.seen[name] = {"status": run.wait(), "left": left_behind()}

    def file(self, name):
        return self._folder / f"{name}.ptap"

    def all(self):
        # The choice is free, and falls on the module for functions of the kernel; for samples on perf events.
        kept = self.file("record")
        self.run("record", "record", "-v", "-o", kept, ENTRY, "--", READER, "2")
        self.run("info", "info", kept)
        self.run("report", "report", "--format", "json", kept)
        self.run("samples", "record", "-v", "-o", self.file("samples"), "--", BUSY, "0.1")
        profile = self.file("profile")
        self.run("profile", "profile", *MODULE, *OFTEN, "--format", "folded", "--keep", profile, "--", BUSY, SHORT)
        self.everything()
        endless = ("--", BUSY, "100000")
        words = (*MODULE, *OFTEN, "--format", "top", *endless)
        self.run("interrupted_profile", "profile", *words, during=interrupt_busy)
        with builds_that_fail():
            unbuilt = self.file("unbuilt")
            self.run("unbuilt", "record", *MODULE, "-o", unbuilt, ENTRY, "--", READER, "1")
            self.seen["unbuilt"]["file"] = unbuilt.exists()
            self.run("auto_unbuilt", "record", "-o", self.file("auto_unbuilt"), ENTRY, "--", READER, "1")

    def everything(self):
        """`ptap profile -a --backend module` without its report, for which Python's own stacks would be walked."""
        note("everything begins")
        said = []
        point = parse_trace_point("timer.profile(199)", "module")
        session = RecordSession(
            *([point], Target((BUSY, SHORT), (), True), TraceOptions(back_end="module")),
            *(lambda text, _: said.append(text), str(self.file("everything"))),
            postponed=True,
        )
        other = subprocess.Popen([BUSY, "100000"])
        try:
            status = session.record()
        finally:
            other.kill()
            other.wait()
        (self._folder / "everything.err").write_text("\n".join(said + session.closing_lines()))
        self.seen["everything"] = {"status": status, "left": left_behind(), "other": other.pid}


def interrupt_busy(run):
    """Ctrl-C, as a terminal gives it, once the command has used some processor time as the program that it is."""
    end = time.monotonic() + SECONDS
    first = None
    while run.poll() is None and time.monotonic() < end:
        used = _used_ticks(run.pid)
        first = used if first is None else first
        if used is not None and used - first >= _USED_TICKS:
            os.killpg(run.pid, signal.SIGINT)
            return
        time.sleep(0.1)
    raise RuntimeError("the command of the run that was to be interrupted did not run")


def _used_ticks(parent):
    """Of the process that `parent` has started and that is BUSY by now, before that too; None where there is none."""
    try:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            head, _, rest = Path(f"/proc/{child}/stat").read_text().rpartition(")")
            if head.endswith(f"({Path(BUSY).name}"):
                fields = rest.split()
                return int(fields[11]) + int(fields[12])
    except OSError:
        pass
    return None


@contextmanager
def builds_that_fail():
    """Headers that nothing was built with before, and a make that fails."""
    configuration = headers_folder() / ".config"
    before = configuration.read_text()
    tools = [Path("/usr/bin", name) for name in _BUILDERS]
    tools[0].parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(f"{before}# changed\n")
    for tool in tools:
        tool.write_text(f"#!{sys.executable}\nraise SystemExit('ptap_main.c: No space left on device')\n")
        tool.chmod(0o755)
    try:
        yield
    finally:
        configuration.write_text(before)
        for tool in tools:
            tool.unlink()
