"""A static aarch64 program under qemu, stepped, with the true call stack that its calls and returns make.

Owns the stepping and the truth; independent of the tables. A sequence from a load-exclusive to its store-exclusive
runs at once, since a step between them makes the store fail, for ever.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from shadow_stack.aarch64_instruction import Kind, branch_target, kind_of, may_write
from shadow_stack.gdb_remote import GdbRemote

from cfi_tables.elf_image import ElfImage

Int64s = npt.NDArray[np.int64]

SP, PC = 31, 32
FIRST_SAVED, LAST_SAVED = 19, 29
"""x19-x29: what a call leaves unchanged (AAPCS64 §6.1.1); sp and x30 are the call's own."""
CALL_RETURN_ADDRESS = 0
CALL_SP = 1
CALL_REGISTERS = 2
CALL_WIDTH = CALL_REGISTERS + LAST_SAVED - FIRST_SAVED + 1

_DEEPEST = 512
_STACK_BYTES = 1 << 17
_EXCLUSIVE_WORDS = 16  # as the architecture's forward-progress rule wants (§B2.9.5), with room


class Aarch64Run:
    """Steps the program `command`. A context manager, which ends the program."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._image = ElfImage.open(command[0])
        self._decoded: dict[int, tuple[Kind, bool]] = {}
        self._return_sites: set[int] = set()
        self.status: int | None = None
        """How the program ended; None until then."""
        self.instructions = 0
        """Executed and seen one by one; an exclusive sequence counts as one."""
        self.calls: Int64s = np.zeros(_DEEPEST * CALL_WIDTH, dtype=np.int64)
        """The true call stack, outermost first: for each call the return address, and sp and x19-x29 at the call."""
        self.depth = 0
        self.returned_elsewhere: list[int] = []
        """Addresses of the instructions that left frames otherwise than by their return addresses."""
        self.stack = np.zeros(_STACK_BYTES, dtype=np.uint8)
        """The stack's memory, of which what lies at and above sp is up to date."""
        self.stack_begin = 0
        self.bias = 0
        """Run-time address minus file virtual address."""

    def __enter__(self) -> Aarch64Run:
        # A small environment: the fewer variables, the smaller the stack.
        self._folder = tempfile.TemporaryDirectory()  # short, as the path of a socket must be
        path = Path(self._folder.name) / "stub"
        self._process = subprocess.Popen(
            ["qemu-aarch64", "-cpu", "max", "-g", str(path), *self._command], stdin=subprocess.DEVNULL, env={}
        )
        try:
            self._remote = GdbRemote(path, lambda: self._process.poll() is None)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def states(self) -> Iterator[Int64s]:
        """The registers before the first instruction and after each one; `calls` and `stack` hold for them."""
        registers = self._remote.registers()
        self.bias = int(registers[PC]) - self._image.entry
        self._stack_end = int(registers[SP]) + 64
        self.stack_begin = self._stack_end - _STACK_BYTES
        self._read_stack(registers)
        yield registers
        while True:
            pc = int(registers[PC])
            kind, writes = self._decode(pc)
            if kind is Kind.LOAD_EXCLUSIVE:
                self.status = self._remote.run_to(self._behind_exclusive(pc))
                writes = True
            else:
                self.status = self._remote.step()
            self.instructions += 1
            if self.status is not None:
                return
            before, registers = registers, self._remote.registers()
            if kind is Kind.CALL:
                self._enter_call(before, registers)
            elif kind is Kind.RETURN or kind is Kind.JUMP:
                self._leave(kind, pc, registers)
            # What comes into sight when the stack grows is read too.
            if writes or registers[SP] < before[SP]:
                self._read_stack(registers)
            yield registers

    def _read_stack(self, registers: Int64s) -> None:
        sp = int(registers[SP])
        content = self._remote.memory(sp, self._stack_end - sp)
        self.stack[sp - self.stack_begin :] = np.frombuffer(content, dtype=np.uint8)

    def _word(self, pc: int) -> int:
        return int.from_bytes(self._image.read(pc - self.bias, 4), "little")

    def _decode(self, pc: int) -> tuple[Kind, bool]:
        if pc not in self._decoded:
            word = self._word(pc)
            self._decoded[pc] = kind_of(word), may_write(word)
        return self._decoded[pc]

    def _behind_exclusive(self, pc: int) -> set[int]:
        """Where a sequence that begins with a load-exclusive at `pc` may be left."""
        places = set()
        for at in range(pc + 4, pc + 4 * _EXCLUSIVE_WORDS, 4):
            word = self._word(at)
            kind = kind_of(word)
            assert kind in (Kind.PLAIN, Kind.STORE_EXCLUSIVE), f"a call or return in an exclusive sequence at {pc:#x}"
            target = branch_target(word, at)
            if target is not None:
                places.add(target)
            if kind is Kind.STORE_EXCLUSIVE:
                return {place for place in places if not pc <= place <= at} | {at + 4}
        raise AssertionError(f"the load-exclusive at {pc:#x} has no store-exclusive")

    def _enter_call(self, before: Int64s, after: Int64s) -> None:
        return_address = int(before[PC]) + 4
        assert after[30] == return_address
        self._return_sites.add(return_address)
        at = self.depth * CALL_WIDTH
        self.calls[at + CALL_RETURN_ADDRESS] = return_address
        self.calls[at + CALL_SP] = before[SP]
        self.calls[at + CALL_REGISTERS : at + CALL_WIDTH] = before[FIRST_SAVED : LAST_SAVED + 1]
        self.depth += 1

    def _leave(self, kind: Kind, pc: int, after: Int64s) -> None:
        """After a return or an indirect jump, which may be a tail call, a switch, longjmp or a landing pad's begin."""
        if self.depth == 0:
            return
        top = (self.depth - 1) * CALL_WIDTH
        sp = int(after[SP])
        call_sp = int(self.calls[top + CALL_SP])
        if kind is Kind.RETURN and sp == call_sp and after[PC] == self.calls[top + CALL_RETURN_ADDRESS]:
            self.depth -= 1
            return
        # A function that calls has a frame, so one that has its caller's sp cannot go on behind a call of its own.
        if kind is Kind.RETURN or sp > call_sp or (sp == call_sp and int(after[PC]) in self._return_sites):
            self.returned_elsewhere.append(pc)
            while self.depth and self.calls[(self.depth - 1) * CALL_WIDTH + CALL_SP] <= sp:
                self.depth -= 1
