"""The ptrace system call and its constants (linux/ptrace.h, ptrace(2)).

Owns the ctypes prototype. Memory of a tracee is not read here: /proc/PID/mem does that in one system call
(address_space.py).
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# Requests.
TRACEME: Final = 0
CONT: Final = 7
SINGLESTEP: Final = 9
GETREGS: Final = 12
SETREGS: Final = 13
GETFPREGS: Final = 14
POKEUSER: Final = 6
DETACH: Final = 17
SYSCALL: Final = 24
SETOPTIONS: Final = 0x4200
GETEVENTMSG: Final = 0x4201
GETSIGINFO: Final = 0x4202
SETSIGINFO: Final = 0x4203
SEIZE: Final = 0x4206
INTERRUPT: Final = 0x4207
LISTEN: Final = 0x4208

# Options.
O_TRACEFORK: Final = 0x02
O_TRACEVFORK: Final = 0x04
O_TRACECLONE: Final = 0x08
O_TRACEEXEC: Final = 0x10
O_TRACEVFORKDONE: Final = 0x20
O_TRACEEXIT: Final = 0x40
O_EXITKILL: Final = 0x100000

FOLLOW_ALL: Final = O_TRACEFORK | O_TRACEVFORK | O_TRACECLONE | O_TRACEEXEC | O_TRACEVFORKDONE | O_TRACEEXIT
"""Follow every thread and child, and know of a thread's end before it happens."""

# Events, the third byte of a wait status.
EVENT_FORK: Final = 1
EVENT_VFORK: Final = 2
EVENT_CLONE: Final = 3
EVENT_EXEC: Final = 4
EVENT_VFORK_DONE: Final = 5
EVENT_EXIT: Final = 6
EVENT_STOP: Final = 128

WALL: Final = 0x40000000
"""__WALL of waitpid(2): threads (clone children) are waited for as well."""

SI_KERNEL: Final = 0x80
"""si_code of the SIGTRAP that int3 raises on x86 (do_int3 uses force_sig, arch/x86/kernel/traps.c)."""

SIGINFO_SIZE: Final = 128

_SYS_TGKILL: Final = 234

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    """Do one request. Raises OSError; ProcessLookupError when `tid` is gone, or not stopped for us.

    Not for the PEEK requests, whose result glibc puts in the return value.
    """
    if _ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def send_signal(pid: int, tid: int, number: int) -> None:
    """Send a signal to one thread (tgkill(2)); nothing happens when it is gone."""
    _libc.syscall(_SYS_TGKILL, ctypes.c_long(pid), ctypes.c_long(tid), ctypes.c_long(number))


def event_message(tid: int) -> int:
    """What PTRACE_GETEVENTMSG tells about the event: a new thread's id, the former tid after an exec."""
    message = ctypes.c_ulong()
    ptrace(GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


class SignalInformation:
    """A siginfo_t of a signal-delivery-stop: kept, looked at and put back."""

    def __init__(self, tid: int) -> None:
        self.buffer = (ctypes.c_int * (SIGINFO_SIZE // 4))()
        ptrace(GETSIGINFO, tid, 0, ctypes.addressof(self.buffer))

    @property
    def number(self) -> int:
        """si_signo."""
        return self.buffer[0]

    @property
    def code(self) -> int:
        """si_code: above 0 when the kernel raised the signal for what the thread itself did."""
        return self.buffer[2]

    def restore(self, tid: int) -> None:
        """Make it the information of the signal that the next resumption of `tid` delivers."""
        ptrace(SETSIGINFO, tid, 0, ctypes.addressof(self.buffer))
