"""What a new thread or process shares with its maker: the flags of clone(2), read at the event's stop.

The kind of event does not tell: a vfork event may be a copy, a fork event may share memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptap.backend.ptrace.registers import CS, CS_64, ORIG_RAX, RDI, read_registers
from ptap.backend.ptrace.syscalls import EVENT_CLONE, EVENT_FORK
from relay_reader.capture import MemoryReader

_SYS_CLONE: Final = 56
_SYS_FORK: Final = 57
_SYS_VFORK: Final = 58
_SYS_CLONE3: Final = 435
_CLONE_VM: Final = 0x100
_CLONE_THREAD: Final = 0x10000


@dataclass(frozen=True, slots=True)
class Creation:
    """How a new task relates to its maker."""

    thread: bool
    """It is a thread of the same process."""
    shares_memory: bool


def creation_flags(tid: int, event: int, read: MemoryReader) -> Creation:
    """What the thread `tid`, stopped at a creation event, has made. Raises OSError when it is gone."""
    registers = read_registers(tid)
    call = registers[ORIG_RAX]
    if registers[CS] == CS_64:
        if call == _SYS_CLONE:
            return _from_flags(registers[RDI])
        if call == _SYS_CLONE3:
            flags = read(registers[RDI], 8)  # struct clone_args begins with them
            if len(flags) == 8:
                return _from_flags(int.from_bytes(flags, "little"))
        if call == _SYS_FORK:
            return Creation(False, False)
        if call == _SYS_VFORK:
            return Creation(False, True)
    # A 32-bit program, or a system call that is not known: what the event commonly means.
    return Creation(event == EVENT_CLONE, event != EVENT_FORK)


def _from_flags(flags: int) -> Creation:
    return Creation(bool(flags & _CLONE_THREAD), bool(flags & _CLONE_VM))
