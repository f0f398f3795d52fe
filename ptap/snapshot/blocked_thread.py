"""What the kernel tells of a thread that is blocked in it, without stopping it: proc(5), /proc/PID/task/TID.

`syscall` has the pc and the stack pointer with which it went into the kernel, `stack` the kernel's own frames (for
root alone). Both hold as long as it stays there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ptap.backend.ptrace.registers import RIP_COLUMN, RSP_COLUMN

_LINE = re.compile(r"\[<[0-9a-f]*>\] (\S+?)(?:\+(0x[0-9a-f]+)/0x[0-9a-f]+)?(?: \[([^\]]+)\])?$")


@dataclass(frozen=True, slots=True)
class KernelFrame:
    """One line of /proc/PID/task/TID/stack."""

    function: str
    offset: int | None
    module: str | None


@dataclass(frozen=True, slots=True)
class KernelStay:
    """A thread's stay in the kernel."""

    frames: tuple[KernelFrame, ...]
    place: tuple[int, int] | None
    """(stack pointer, pc) of the user's code, None for a thread that was not blocked."""

    def is_where(self, registers: tuple[int, ...]) -> bool:
        """Whether a thread with these registers (in DWARF order) may still be in it."""
        return bool(registers) and self.place == (registers[RSP_COLUMN], registers[RIP_COLUMN])


def blocked_registers(pid: int, tid: int) -> tuple[tuple[int, ...], int] | None:
    """The registers of a blocked thread in DWARF order and the mask of the known ones; None where it is not blocked."""
    fields = _read(pid, tid, "syscall").split()
    # "running", "-1 SP PC" outside of a system call, or number, six arguments, SP and PC.
    if len(fields) < 3:
        return None
    registers = [0] * 17
    registers[RSP_COLUMN], registers[RIP_COLUMN] = int(fields[-2], 16), int(fields[-1], 16)
    return tuple(registers), 1 << RSP_COLUMN | 1 << RIP_COLUMN


def kernel_stay(pid: int, tid: int) -> KernelStay:
    """Where a thread is in the kernel now; without frames where it is not, or where they may not be read."""
    blocked = blocked_registers(pid, tid)
    if blocked is None:
        return KernelStay((), None)
    frames = tuple(
        KernelFrame(found[1], int(found[2], 16) if found[2] else None, found[3])
        for found in map(_LINE.match, _read(pid, tid, "stack").splitlines())
        if found is not None
    )
    return KernelStay(frames, (blocked[0][RSP_COLUMN], blocked[0][RIP_COLUMN]))


def symbol_addresses(names: Iterable[str], path: str = "/proc/kallsyms") -> dict[str, int]:
    """Where the kernel's functions of these names begin, of those that no other has the name of and that are told."""
    try:
        with open(path, "rb") as file:
            text = b"\n" + file.read()
    except OSError:
        return {}
    found = {}
    for name in set(names):
        places = [at for end in (b"\n", b"\t") for at in _places(text, b" " + name.encode() + end)]
        if len(places) == 1:
            line = text[text.rfind(b"\n", 0, places[0]) + 1 : places[0]]
            address = int(line.split()[0], 16)
            if address:
                found[name] = address
    return found


def _places(text: bytes, wanted: bytes) -> Iterator[int]:
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + 1)


def _read(pid: int, tid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/task/{tid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
