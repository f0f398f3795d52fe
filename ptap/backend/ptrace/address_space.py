"""One address space (the kernel's mm) of traced processes: its memory and the breakpoints patched into it.

Several processes may share one (vfork, clone with CLONE_VM); a fork copies it with what is patched in. All
access goes through one open /proc/PID/mem, which stays bound to this address space when a process leaves it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from ptap.backend.ptrace.memory_map import MapRow

INT3: Final = b"\xcc"
_LONGEST_INSTRUCTION = 15


@dataclass(slots=True)
class Breakpoint:
    """One patched instruction and why it is patched."""

    address: int
    code: bytes
    """What the instruction is without breakpoints: 15 bytes, fewer at the end of a mapping."""
    entry_places: tuple[int, ...] = ()
    return_places: tuple[int, ...] = ()
    """Places whose function begins here and whose return is watched."""
    loader: bool = False
    """The dynamic linker comes here whenever it has changed what is mapped."""
    awaited: int = 0
    """How many calls under way return here."""

    @property
    def taken(self) -> bool:
        """Whether an int3 was here before ours: the program's own, or a breakpoint of somebody else."""
        return self.code[:1] == INT3

    @property
    def permanent(self) -> bool:
        """False when it is here only for calls that return to it."""
        return bool(self.entry_places or self.return_places or self.loader)


@dataclass(slots=True)
class AddressSpace:
    """Memory and breakpoints of one mm."""

    memory: int
    """File descriptor of /proc/PID/mem."""
    breakpoints: dict[int, Breakpoint] = field(default_factory=dict)
    rows: list[MapRow] = field(default_factory=list)
    """What is mapped, as last looked at."""
    map_text: str = ""
    retired: dict[int, bytes] = field(default_factory=dict)
    """Original bytes where a breakpoint was, which a copy of this address space may still have."""
    _sorted: list[int] | None = None

    @classmethod
    def of_process(cls, tid: int) -> AddressSpace:
        """The address space that thread `tid` runs in now. Raises OSError."""
        return cls(os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC))

    def copied_by(self, tid: int) -> AddressSpace:
        """The copy that a forked process `tid` has. Raises OSError.

        The copy was made some time ago: breakpoints that have been put in, taken out or lifted for a step since
        are put right.
        """
        copy = AddressSpace.of_process(tid)
        copy.rows, copy.map_text = self.rows, self.map_text
        for address, point in self.breakpoints.items():
            copy.breakpoints[address] = Breakpoint(
                address, point.code, point.entry_places, point.return_places, point.loader
            )
            copy.reinsert(address)
        for address, original in self.retired.items():
            copy.retired[address] = original
            if copy.read_raw(address, 1) == INT3:
                copy.write(address, original)
        return copy

    def release(self) -> None:
        """Close the file. May be called twice."""
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes as the program would see them without breakpoints; b"" where nothing can be read."""
        data = self.read_raw(address, size)
        if self._sorted is None:
            self._sorted = sorted(self.breakpoints)
        points = self._sorted
        if not points or points[-1] < address or points[0] >= address + len(data):
            return data
        clean = bytearray(data)
        for index in range(bisect_left(points, address), len(points)):
            if points[index] >= address + len(data):
                break
            clean[points[index] - address] = self.breakpoints[points[index]].code[0]
        return bytes(clean)

    def read_raw(self, address: int, size: int) -> bytes:
        """Up to `size` bytes of the memory as it is, b"" where nothing can be read."""
        try:
            return os.pread(self.memory, size, address)
        except (OSError, OverflowError):
            return b""

    def write(self, address: int, data: bytes) -> bool:
        """Write all of `data`; False when the memory refuses it."""
        try:
            return os.pwrite(self.memory, data, address) == len(data)
        except (OSError, OverflowError):
            return False

    def insert(self, address: int) -> Breakpoint | None:
        """The breakpoint at `address`, patched in now if there is none yet; None when it cannot be written."""
        point = self.breakpoints.get(address)
        if point is not None:
            return point
        code = self.read(address, _LONGEST_INSTRUCTION)
        if not code or not self.write(address, INT3):
            return None
        point = self.breakpoints[address] = Breakpoint(address, code)
        self.retired.pop(address, None)
        self._sorted = None
        return point

    def lift(self, address: int) -> None:
        """Put the original byte back, as long as the program has not itself written something else there."""
        if self.read_raw(address, 1) == INT3:
            self.write(address, self.breakpoints[address].code[:1])

    def reinsert(self, address: int) -> None:
        """Patch a known breakpoint in again, where the original byte shows."""
        if self.read_raw(address, 1) == self.breakpoints[address].code[:1]:
            self.write(address, INT3)

    def remove(self, address: int) -> None:
        """Take a breakpoint out for good."""
        self.lift(address)
        original = self.breakpoints[address].code[:1]
        self.forget(address)
        if original != INT3:
            self.retired[address] = original

    def forget(self, address: int) -> None:
        """Drop a breakpoint whose memory has been unmapped."""
        self.breakpoints.pop(address, None)
        self.retired.pop(address, None)
        self._sorted = None

    def trap_is_stale(self, address: int) -> bool:
        """Whether an int3 that a thread has run at `address` was one of ours, taken out since."""
        return self.read_raw(address, 1) != INT3
