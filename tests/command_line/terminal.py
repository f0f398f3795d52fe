"""A program at a pseudo-terminal: what it shows is waited for, never for how long."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60.0


class Terminal:
    """The far end of a terminal. What was written to it is in `shown`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.shown = ""

    def type(self, keys: str, expected: str) -> None:
        """Type `keys`, and wait until `expected` is shown behind what was shown before."""
        begin = len(self.shown)
        os.write(self.descriptor, keys.encode())
        self.wait_for(expected, begin)

    def wait_for(self, expected: str, begin: int = 0) -> None:
        """Wait until `expected` is shown, from character `begin` on."""
        end = time.monotonic() + PATIENCE_S
        while expected not in self.shown[begin:]:
            assert time.monotonic() < end, self.shown
            assert self._read(1.0), self.shown

    def rest(self) -> str:
        """Everything that was shown, when all programs have ended."""
        while self._read(PATIENCE_S):
            pass
        return self.shown

    def _read(self, seconds: float) -> bool:
        """Take what is there; False at the end."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return seconds < PATIENCE_S
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # EIO: nobody has the terminal any more
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def shell(words: list[str], environment: dict[str, str], cwd: Path) -> Iterator[Terminal]:
    """A shell whose terminal this is; it is hung up at the end."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(words[0], words, environment)
    try:
        yield Terminal(descriptor)
    finally:
        os.close(descriptor)
        os.waitpid(pid, 0)


@contextmanager
def errors_at_terminal(
    words: list[str], environment: dict[str, str], *, output_too: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """A program with pipes for input and output (or the terminal for that too), and a terminal for its errors."""
    near, far = pty.openpty()
    output = far if output_too else subprocess.PIPE
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=far, env=environment)
    os.close(far)
    try:
        yield process, Terminal(near)
    finally:
        process.kill()
        process.communicate()
        os.close(near)
