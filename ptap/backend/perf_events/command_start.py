"""Start a command that waits before its exec until everything is armed.

fork, then the child blocks on a pipe: events opened on it with attr.enable_on_exec see the new program from
its first instruction, and nothing of ours.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from ptap.backend.live_capture import CaptureError


class HeldCommand:
    """A forked child that has not yet run its program. Standard streams are ours."""

    def __init__(self, command: Sequence[str]) -> None:
        go_read, self._go = os.pipe2(os.O_CLOEXEC)
        self._failed, failed_write = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _run_child(go_read, self._go, failed_write, command)
        os.close(go_read)
        os.close(failed_write)
        self._command = command

    def release(self) -> None:
        """Let the child exec. Raises CaptureError, and reaps the child, when the program cannot be run."""
        with suppress(BrokenPipeError):
            os.write(self._go, b"g")
        self._close_go()
        # Closed by exec on success; else the child writes the error number.
        answer = b""
        while chunk := os.read(self._failed, 16):
            answer += chunk
        os.close(self._failed)
        self._failed = -1
        if answer:
            os.waitpid(self.pid, 0)
            raise _exec_error(self._command[0], int(answer))

    def cancel(self) -> None:
        """End a child that was never released, and reap it."""
        if self._go < 0:
            return
        self._close_go()
        os.close(self._failed)
        os.waitpid(self.pid, 0)

    def _close_go(self) -> None:
        os.close(self._go)
        self._go = -1


def _run_child(go_read: int, go_write: int, failed: int, command: Sequence[str]) -> None:
    try:
        os.close(go_write)
        # Python ignores these two for itself; a program expects the defaults.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if os.read(go_read, 1):
            os.execvpe(command[0], list(command), os.environ)
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    except BaseException:
        os.write(failed, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def _exec_error(program: str, code: int) -> CaptureError:
    what = f"cannot run {program}: {os.strerror(code)}"
    if code == errno.ENOENT:
        return CaptureError(f"{what}: check its name, or give its path")
    if code == errno.EACCES:
        return CaptureError(f"{what}: make it executable (`chmod +x {program}`) or run it by its interpreter")
    if code == errno.ENOEXEC:
        return CaptureError(f"{what}: it is no program of this machine and has no #! line")
    return CaptureError(what)
