"""A process of the guest that runs ptap, and what it may not leave behind. It has forked from one that has imported it.

Messages go to the folder that is named to the script.
"""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

from ptap.cli.main import main as ptap_main

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
    """A process that runs ptap, in a session of its own: what it says goes to `messages`, or apart to `output`."""

    def __init__(self, words, messages, output=None):
        self.pid = os.fork()
        self._status = None
        if self.pid == 0:
            _run_ptap(words, messages, output or messages)

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


def _run_ptap(words, messages, output):
    """Be ptap: never returns."""
    status = 70
    try:
        os.setsid()
        for target, path in enumerate((os.devnull, output, messages)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), target)
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
