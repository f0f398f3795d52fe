"""Beginning to trace: start a command, attach to running processes, try whether ptrace works at all."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from ptap.backend.live_capture import CaptureError
from ptap.backend.ptrace.refusal import attach_error, launch_error, process_status, traced_by_us
from ptap.backend.ptrace.syscalls import EVENT_EXEC, FOLLOW_ALL, O_EXITKILL, SEIZE, WALL, ptrace

_EXEC_FAILED = 127


def launch(command: tuple[str, ...]) -> tuple[int, int]:
    """Start `command`, traced; its pid, and the wait status of its stop after exec, before its first instruction.

    It is killed when this process dies. Raises CaptureError.
    """
    go_read, go_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        _become(command, go_read, failure_write)
    os.close(go_read)
    os.close(failure_write)
    try:
        try:
            ptrace(SEIZE, pid, 0, FOLLOW_ALL | O_EXITKILL)
        except OSError as error:
            os.close(go_write)
            go_write = -1
            os.waitpid(pid, 0)
            raise launch_error(error) from None
        os.write(go_write, b"g")
        status = _await_exec(pid)
        if status is not None:
            return pid, status
        number = os.read(failure_read, 16)
        raise _exec_error(command[0], int(number or b"0"))
    finally:
        os.close(failure_read)
        if go_write >= 0:
            os.close(go_write)


def _become(command: tuple[str, ...], go: int, failure: int) -> None:
    """The child: wait until it is traced, then be the command."""
    try:
        if os.read(go, 1):
            # What the Python interpreter ignores is not to be ignored in the command.
            for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(ignored, signal.SIG_DFL)
            os.execvpe(command[0], command, os.environ)
    except OSError as error:
        os.write(failure, str(error.errno).encode())
    finally:
        os._exit(_EXEC_FAILED)


def _await_exec(pid: int) -> int | None:
    """The status of the exec stop, None when the child has ended instead."""
    from ptap.backend.ptrace.syscalls import CONT

    while True:
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            return None
        if status >> 16 == EVENT_EXEC:
            return status
        try:
            ptrace(CONT, pid, 0, 0 if status >> 16 else os.WSTOPSIG(status))
        except ProcessLookupError:
            continue


def _exec_error(program: str, number: int) -> CaptureError:
    if number == errno.ENOENT:
        return CaptureError(f"{program}: command not found; give its path, or add its folder to PATH")
    if number == errno.EACCES:
        return CaptureError(f"{program}: it may not be executed; `chmod +x` it, or name another file")
    if number == errno.ENOEXEC:
        return CaptureError(f"{program}: exec format error; it is no program for this machine, or lacks a #! line")
    return CaptureError(f"{program}: cannot be executed: {os.strerror(number) if number else 'it was killed'}")


def attach(pid: int) -> list[int]:
    """Trace all threads of a running process, and follow what they make; their ids. Raises CaptureError.

    The threads are not stopped. New threads of a thread that is already traced are traced by the kernel.
    """
    own = int(process_status(pid).get("Tgid", pid))
    if own != pid:
        raise CaptureError(f"{pid} is a thread of process {own}; give the process, -p {own}")
    seen: set[int] = set()
    seized: list[int] = []
    while True:
        try:
            new = {int(name) for name in os.listdir(f"/proc/{pid}/task")} - seen
        except OSError:
            new = set()
        if not new:
            break
        for tid in sorted(new):
            try:
                ptrace(SEIZE, tid, 0, FOLLOW_ALL)
                seized.append(tid)
            except OSError as error:
                gone = error.errno == errno.ESRCH or not Path(f"/proc/{pid}/task/{tid}").exists()
                if not (traced_by_us(tid) or (gone and tid != pid) or _is_zombie(pid, tid)):
                    raise attach_error(pid, error) from None
        seen |= new
    if not seized:
        raise attach_error(pid, ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)))
    return seized


def _is_zombie(pid: int, tid: int) -> bool:
    """Whether a first thread has ended while others of its process run on."""
    return process_status(tid).get("State", "").startswith("Z") and len(os.listdir(f"/proc/{pid}/task")) > 1


def available() -> str | None:
    """None when ptrace works here; else why not and what would enable it. Tries it on a child."""
    import platform

    if platform.machine() != "x86_64":
        return f"the ptrace back end knows x86_64 only, this machine is {platform.machine()}"
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write_end)
            os.read(read_end, 1)
        finally:
            os._exit(0)
    os.close(read_end)
    try:
        ptrace(SEIZE, pid, 0, 0)
    except OSError as error:
        return str(launch_error(error))
    finally:
        os.close(write_end)
        while not os.WIFEXITED(os.waitpid(pid, WALL)[1]):
            pass
    return None
