"""The state of one stack frame, as far as the walk recovered it: what DWARF expressions are evaluated in.

The walk fills it; inlined frames share the state of the function that they are inlined into. Nothing here
reads debug information: the entry of the function comes through `function`, only when an expression needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay_reader.capture import MemoryReader
from unwind.architecture.frame_architecture import FrameArchitecture
from unwind.architecture.x86_64 import FRAMES as X86_64_FRAMES
from unwind.arguments.unavailable import Reason, Unavailable
from unwind.dwarf.die import Die

if TYPE_CHECKING:
    from unwind.arguments.call_site import CallSite

_OPTIMIZATION = re.compile(r"(?<!\S)-O(\S*)")


def _no_caller() -> FrameState | None:
    return None


def _no_function() -> Die | None:
    return None


def _past_prologue() -> bool:
    return False


def _no_symbol(address: int) -> str | None:
    return None


def _no_memory(address: int, size: int) -> bytes:
    return b""


def _no_variable(name: str) -> int | None:
    return None


def _no_definition(name: str) -> Die | None:
    return None


@dataclass(slots=True)
class FrameState:
    """Registers, memory and surroundings of one physical (not inlined) frame."""

    registers: Sequence[int]
    """Unsigned values in DWARF order, the program counter last, as they are in this frame."""
    known: int
    """Bit r set: `registers[r]` is recovered."""
    cfa: int | None
    """The canonical frame address, None where the walk does not know it."""
    pc: int
    """File virtual address to look things up with: the interrupted pc, or the return address minus one."""
    bias: int
    """Run-time address minus file virtual address."""
    read: MemoryReader
    """Memory of the sampled thread; short or b"" where it was not captured."""
    interrupted: bool = False
    """True when the frame was stopped at `pc` itself (innermost frame, or below a signal frame)."""
    caller: Callable[[], FrameState | None] = _no_caller
    """The state of the physical frame that called this one; entry values are looked up there."""
    function: Callable[[], Die | None] = _no_function
    """The DW_TAG_subprogram whose machine code `pc` lies in (not an inlined call): frame base and call
    sites.
    """
    carried: int = 0
    """Bit r set: `registers[r]` is what an inner frame had, and no rule tells whether a call changed it."""
    vector_registers: Mapping[int, bytes] = field(default_factory=dict)
    """Floating-point and vector registers by DWARF number, as they were in the innermost frame."""
    innermost: bool = True
    """False where a call lies between this frame and the innermost one: calls may change the vector registers."""
    in_prologue: Callable[[], bool] = _past_prologue
    """True when an interrupted `pc` lies before the end of its function's prologue: what the prologue stores in the
    frame is not there yet, and the registers that address it are not set up."""
    symbol: Callable[[int], str | None] = _no_symbol
    """Names a run-time address: "name" or "name+8", None when no symbol covers it. Shown after pointers."""
    definition: Callable[[str], Die | None] = _no_definition
    """The subprogram with machine code that has this linkage name (or DW_AT_name in C), for tail calls that
    leave the unit; None when the module has no debug information for it."""
    entered_by: CallSite | None = None
    """The call site where it is known: of a function that has jumped on, whose frame is gone."""

    of_process: bool = True
    """False where only an address is known: there are no registers and no memory, and nothing was loaded anywhere."""
    variable: Callable[[str], int | None] = _no_variable
    """The run-time address of the data symbol of this (linkage) name; None when the module has not exactly one."""
    architecture: FrameArchitecture = X86_64_FRAMES
    """Whose registers these are."""

    @property
    def return_pc(self) -> int | None:
        """File virtual address that the frame's pending call returns to, None for an interrupted frame."""
        return None if self.interrupted else self.pc + 1

    def register(self, number: int) -> int:
        """General register `number`, unsigned. Raises Unavailable."""
        self.needs_process()
        if not 0 <= number < len(self.registers):
            raise Unavailable(Reason.REGISTER, f"DWARF register {number} is not captured")
        if not self.known >> number & 1 and not (self.carried >> number & 1 and self._calls_keep_locations()):
            name = self.architecture.register_name(number)
            raise Unavailable(Reason.REGISTER, f"register {name} is not recovered in this frame")
        return self.registers[number] & self.architecture.address_mask

    def _calls_keep_locations(self) -> bool:
        """True where a location that names a call-clobbered register during a call says that it survives the call.

        GCC ends such a location at the byte before the return address, so one that still holds there is kept on
        purpose: interprocedural register allocation (-fipa-ra) knows that nothing below changes the register.
        Where one register serves for a whole function, that is no list. LLVM lets locations last to the return
        address whatever the call does; so does GCC without variable tracking, as at -O0. GCC records its options.
        """
        if self.interrupted:
            return False
        function = self.function()
        producer = function.unit.producer if function is not None else None
        if producer is None or not producer.startswith("GNU ") or "-fno-var-tracking" in producer:
            return False
        levels = _OPTIMIZATION.findall(producer)
        return bool(levels) and levels[-1] != "0"

    def register_bytes(self, number: int) -> bytes:
        """A register's content, little-endian: of an address's or the vector register's size. Raises Unavailable."""
        if number in self.architecture.vector_names:
            self.needs_process()
            content = self.vector_registers.get(number)
            if content is None:
                raise Unavailable(Reason.VECTOR_REGISTER)
            if not self.innermost and not self._calls_keep_locations():
                name = self.architecture.register_name(number)
                raise Unavailable(Reason.REGISTER, f"register {name} is not recovered in this frame")
            return content
        return self.register(number).to_bytes(self.architecture.address_size, "little")

    def memory(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes at the run-time `address`. Raises Unavailable."""
        self.needs_process()
        data = self.read(address, size) if size else b""
        if len(data) < size:
            raise Unavailable(Reason.MEMORY, f"memory at {address + len(data):#x} not captured")
        return bytes(data[:size])

    def needs_process(self) -> None:
        """Raise Unavailable where only an address is known."""
        if not self.of_process:
            raise Unavailable(Reason.NO_PROCESS)


def state_of_address(address: int, function: Die | None) -> FrameState:
    """What is known at an address (file virtual) of `function` without a process: only what is constant there."""
    return FrameState(
        registers=(),
        known=0,
        cfa=None,
        pc=address,
        bias=0,
        read=_no_memory,
        interrupted=True,
        function=lambda: function,
        of_process=False,
    )
