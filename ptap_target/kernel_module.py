"""The kernel module as the traced machine sees it: loaded, spoken to through its files, unloaded."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from ptap_target.session_folder import Message, SessionError

NAME = "ptap_kernel"
FILES = Path("/proc") / NAME
_SYSCALLS = {"x86_64": (313, 176), "aarch64": (273, 106)}
"""finit_module and delete_module, by machine (asm/unistd.h)."""
_UNLOAD_TRIES = 50


class KernelModule:
    """The loaded module; a context manager that unloads it, whatever happened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def __enter__(self) -> KernelModule:
        """Load it. Raises SessionError."""
        if os.geteuid() != 0:
            raise SessionError("kernel modules are loaded by root only: run this with sudo")
        if FILES.exists():
            self._take_over()
        load, _ = _system_calls()
        try:
            with open(self._path, "rb") as file:
                _call(load, file.fileno(), b"", 0)
        except OSError as error:
            raise SessionError(_why_not_loaded(self._path, error)) from None
        self._hold()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
        _unload()

    @staticmethod
    def in_use() -> bool | None:
        """Whether a run that goes on has the loaded module; None where it is not loaded, or only root sees that."""
        try:
            with open(FILES / "status", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False

    def _hold(self) -> bool:
        """Lock the module for this process; False when another one has it."""
        self._lock = os.open(FILES / "status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
        return self._lock is not None

    def _take_over(self) -> None:
        """Unload what a run that was killed has left behind."""
        if not self._hold():
            raise SessionError(f"{NAME} is in use by another run; wait for its end")
        assert self._lock is not None
        os.close(self._lock)
        _unload()

    def send(self, message: Message) -> None:
        """Give the module a message. Raises SessionError with its reason when it refuses."""
        with open(FILES / "control", "wb", buffering=0) as file:
            try:
                file.write(message.content)
            except OSError as error:
                told = [line for line in self.status() if line.startswith("error ")]
                reason = told[0].removeprefix("error ") if told else os.strerror(error.errno or 0)
                raise message.refused(reason) from None

    def status(self) -> list[str]:
        """What the module tells of itself, a line a fact."""
        return (FILES / "status").read_text(errors="backslashreplace").splitlines()

    def record_files(self) -> list[int]:
        """File descriptors of the CPUs' records, for the caller to close."""
        return [file for _, file in self.records()]

    def records(self) -> Iterator[tuple[Path, int]]:
        """(path, file descriptor) of each CPU's records, for the caller to close."""
        for path in sorted(FILES.glob("cpu*")):
            yield path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _system_calls() -> tuple[int, int]:
    try:
        return _SYSCALLS[platform.machine()]
    except KeyError:
        raise SessionError(f"kernel modules are not loaded on {platform.machine()} by this version") from None


def _call(number: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _unload() -> None:
    _, unload = _system_calls()
    for _ in range(_UNLOAD_TRIES):
        try:
            _call(unload, NAME.encode(), os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno not in (errno.EAGAIN, errno.EBUSY):
                raise SessionError(f"{NAME} cannot be unloaded: {error.strerror}") from None
        else:
            return
        time.sleep(0.1)
    raise SessionError(f"{NAME} is still in use and stays loaded; unload it with `rmmod {NAME}`")


def _why_not_loaded(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return f"{path} was built for another kernel; the kernel's log (dmesg) says more"
    if error.errno in (errno.EKEYREJECTED, errno.EPERM, errno.ENOKEY):
        return f"{path}: this kernel loads no modules that are not signed by its owner ({error.strerror})"
    return f"{path} cannot be loaded: {error.strerror}; the kernel's log (dmesg) says more"
