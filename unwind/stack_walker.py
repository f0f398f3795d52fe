"""Walking the samples of a capture one at a time: the arrays around `unwind.walk`, and its results as frames.

Samples come with their process's address space; tables come from modules and are laid side by side in one arena.
Always in the plain form: one walk costs less than what becomes of its frames, and needs no numba. Whole captures are
walked by `unwind.batch_walk`. The architecture is the samples'.
"""

from __future__ import annotations

import types
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cfi_tables.elf_image import ElfError
from cfi_tables.layout import StopReason
from cfi_tables.lookup import find_rule
from relay_reader.capture import EM_X86_64, Mapping, MemoryReader, Sample
from unwind.address_space import AddressSpace
from unwind.architecture.frame_architecture import Interrupted, frame_architecture
from unwind.architecture.specialised_walk import walk_of
from unwind.memory import SLICE_WIDTH
from unwind.module import Module, ModuleCatalog
from unwind.table_arena import MappedSpaces, MappedTables, signed64
from unwind.walk import (
    FRAME_CARRIED,
    FRAME_CFA,
    FRAME_EXACT,
    FRAME_FLAGS,
    FRAME_HAS_CFA,
    FRAME_KNOWN,
    FRAME_MAPPING,
    FRAME_PC,
    FRAME_SIGNAL,
    FRAME_WIDTH,
    MOST_REGISTERS,
    NO_PREVIOUS_CFA,
    SCRATCH_WIDTH,
    STATE_CARRIED,
    STATE_DETAIL,
    STATE_EXACT,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    STATE_SIGNATURE,
    STATE_WIDTH,
)

_MASK = (1 << 64) - 1
_CHUNK_FRAMES = 512
_READ_AHEAD = 4096
_READ_BEHIND = 512
_LONGEST_READ = 1 << 20
_WITHOUT_RULES = (StopReason.NO_ROW, StopReason.NO_TABLE, StopReason.NO_MAPPING)


@dataclass(slots=True)
class WalkedFrame:
    """One frame of a walk, before symbols."""

    pc: int
    """The pc as it was: interrupted, or a return address."""
    exact: bool
    """True when the pc was interrupted; else it is a return address, and the call is at pc - 1."""
    signal: bool
    """A signal frame: the kernel's or libc's trampoline below a handler."""
    cfa: int | None
    mapping: Mapping | None
    module: Module | None
    bias: int
    registers: Sequence[int]
    """Unsigned values in DWARF order, the program counter last; meaningful where `known` says so."""
    known: int
    carried: int
    """Bit r: register r's value is an inner frame's, and no rule tells whether a call changed it."""

    @property
    def lookup_address(self) -> int:
        """The file virtual address that symbols and rules are looked up with."""
        return self.pc - self.bias - (0 if self.exact or self.signal else 1)


@dataclass(slots=True)
class WalkedStack:
    """The frames of one sample, innermost first, and why there are no more."""

    frames: list[WalkedFrame]
    stop: StopReason
    detail: int
    """What the reason speaks of: an address, or a register number for UNKNOWN_REGISTER."""
    machine: int = EM_X86_64
    """The ELF machine number of the code."""


class StackWalker:
    """Walks samples. `max_depth` frames at the most a stack; a deeper one ends with TOO_DEEP."""

    def __init__(self, catalog: ModuleCatalog, max_depth: int) -> None:
        self._max_depth = max_depth
        self._spaces = MappedSpaces(catalog)
        self._walks: dict[int, Callable[..., tuple[int, int]]] = {}
        # The output of one call; it is read before the next one.
        self._frames = array("q", bytes(8 * FRAME_WIDTH * (_CHUNK_FRAMES + 1)))
        self._registers = array("q", bytes(8 * MOST_REGISTERS * (_CHUNK_FRAMES + 1)))
        self._unsigned_registers = memoryview(self._registers).cast("B").cast("Q")

    def walk(self, sample: Sample, space: AddressSpace) -> WalkedStack:
        """Walk the user stack of `sample`, whose process has the mappings of `space`."""
        if not sample.known:
            return WalkedStack([], StopReason.NO_REGISTERS, 0)
        tables = self._spaces.tables(space, sample.pid)
        run = _Run(self, tables, sample)
        reason, frames = run.to_the_end()
        return WalkedStack(frames, StopReason(reason), run.detail, sample.machine)

    def _walk_of(self, machine: int) -> Callable[..., tuple[int, int]]:
        found = self._walks.get(machine)
        if found is None:
            found = self._walks[machine] = _walk_that_remembers_rules(machine)
        return found


def _walk_that_remembers_rules(machine: int) -> Callable[..., tuple[int, int]]:
    """The plain form of a machine's walk, which looks up the rule of an address once: half of its time is lookups.

    An arena only grows, so what stands at a table's offset stays what it is.
    """
    known: dict[tuple[int, int], int] = {}

    def remembered_rule(arena: Any, table: int, pc: int) -> int:
        rule = known.get((table, pc))
        if rule is None:
            rule = known[table, pc] = find_rule(arena, table, pc)
        return rule

    walk: Any = walk_of(machine)
    return types.FunctionType(walk.__code__, {**walk.__globals__, "find_rule": remembered_rule}, walk.__name__)


def bias_at(pc: int, bias: int) -> int:
    """`bias`, which is signed, so that it takes `pc` to an address: modules are moved by more than 2^63."""
    return bias + (1 << 64) if pc - bias > _MASK else bias


class _Run:
    """One walk from its first call to its last, over every resumption."""

    def __init__(self, walker: StackWalker, tables: MappedTables, sample: Sample) -> None:
        self._walker = walker
        self._tables = tables
        self._sample = sample
        self._architecture = frame_architecture(sample.machine)
        self._state = array("q", bytes(8 * STATE_WIDTH))
        for register, value in enumerate(sample.registers):
            self._state[register] = signed64(value)
        self._state[STATE_KNOWN] = sample.known
        self._state[STATE_EXACT] = 0 if sample.called else 1
        self._state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
        self._state[STATE_ON_DEMAND] = 1 if sample.read_memory is not None else 0
        told = sample.signature_mask
        self._state[STATE_SIGNATURE] = signed64(self._architecture.signature_mask if told is None else told)
        self._content = bytearray()
        self._slices = array("q")
        for piece in sample.slices:
            self._add_slice(piece.address, piece.data, piece.cut)
        self.detail = 0

    def _add_slice(self, address: int, data: bytes, cut: bool) -> None:
        self._slices.extend((signed64(address), len(self._content), len(data), int(cut)))
        self._content += data

    def to_the_end(self) -> tuple[int, list[WalkedFrame]]:
        """Walk on through every missing piece of memory that the source can supply."""
        found: list[WalkedFrame] = []
        scratch = array("q", bytes(8 * SCRATCH_WIDTH))
        walk = self._walker._walk_of(self._sample.machine)
        while True:
            room = min(_CHUNK_FRAMES, self._walker._max_depth - len(found))
            frames, registers = self._walker._frames, self._walker._registers
            reason, count = walk(
                memoryview(self._walker._spaces.arena.content or b"\0"),
                memoryview(self._tables.values),
                0,
                len(self._tables.mappings),
                memoryview(self._content or b"\0"),
                memoryview(self._slices),
                0,
                len(self._slices) // SLICE_WIDTH,
                memoryview(self._state),
                memoryview(frames),
                0,
                room,
                memoryview(registers),
                memoryview(scratch),
            )
            self.detail = self._state[STATE_DETAIL] & _MASK
            new = self._read_frames(frames, self._walker._unsigned_registers, count)
            if reason == StopReason.TOO_DEEP and len(found) + count < self._walker._max_depth:
                found += new
                continue
            if reason in (StopReason.MEMORY_NOT_CAPTURED, StopReason.STACK_CUT) and self._supply():
                # The frame that lacked memory is walked again, and written again.
                found += new[:-1]
                continue
            if reason in _WITHOUT_RULES and self._architecture.interrupted is not None:
                # Without a mapping only a first frame is one.
                is_frame = reason != StopReason.NO_MAPPING or (len(found) + count == 1 and new[-1].mapping is None)
                frame = new.pop() if is_frame and new else self._frame_of_state()
                if self._step_over_signal(frame, self._architecture.interrupted):
                    found += [*new, frame]
                    continue
                new += [frame] if is_frame else []
            return reason, found + new

    def _frame_of_state(self) -> WalkedFrame:
        """The frame that the walk has come to, where it found no mapping at the byte before a return address."""
        registers = [value & _MASK for value in self._state[: self._architecture.register_count]]
        pc = registers[self._architecture.program_counter]
        place = next((each for each in self._tables.mappings if each.start <= pc < each.end), None)
        known, carried = self._state[STATE_KNOWN], self._state[STATE_CARRIED]
        return WalkedFrame(pc, False, False, None, place, None, 0, registers, known, carried)

    def _step_over_signal(self, frame: WalkedFrame, interrupted: Interrupted) -> bool:
        """Go on with what a signal interrupted, where `frame` is the code that returns from its handler.

        Only in an architecture whose code of that kind may be without call frame information.
        """
        stack_pointer = self._architecture.cfi.stack_pointer
        if not frame.known >> stack_pointer & 1:
            return False
        registers = interrupted(self._memory, frame.pc, frame.registers[stack_pointer])
        if registers is None:
            return False
        for register, value in enumerate(registers):
            self._state[register] = signed64(value)
        frame.signal, frame.cfa = True, registers[stack_pointer]
        self._state[STATE_KNOWN] = (1 << len(registers)) - 1
        self._state[STATE_CARRIED] = 0
        self._state[STATE_EXACT] = 1
        # The handler's stack may lie anywhere, and interrupted code may have taken no stack yet.
        self._state[STATE_PREVIOUS_CFA] = signed64(registers[stack_pointer]) - 1
        return True

    def _memory(self, address: int, size: int) -> bytes:
        """Memory of the sample, code included, as far as the source has it."""
        read = self._sample.read_memory
        data = read(address, size) if read is not None else b""
        if len(data) == size:
            return data
        for piece in self._sample.slices:
            if piece.address <= address and address + size <= piece.address + len(piece.data):
                return piece.data[address - piece.address :][:size]
        return self._file_bytes(address, size)

    def _file_bytes(self, address: int, size: int) -> bytes:
        for mapping, module in zip(self._tables.mappings, self._tables.modules, strict=True):
            if mapping.start <= address < mapping.end and module is not None and module.image is not None:
                with suppress(ElfError):
                    return module.image.read(address - module.bias(mapping), size)
        return b""

    def _supply(self) -> bool:
        """Read the memory that the walk lacked; False when the walk has to do without."""
        if self._state[STATE_ON_DEMAND] == 0 or self._sample.read_memory is None:
            return False
        if self._extend_last_slice(self._sample.read_memory):
            return True
        begin = self.detail - _READ_BEHIND
        data = self._sample.read_memory(begin, _READ_BEHIND + _READ_AHEAD)
        word = self._architecture.address_size
        if len(data) < _READ_BEHIND + word:
            begin = self.detail
            data = self._sample.read_memory(begin, word)
            if len(data) < word:
                # Not there at all: go on once more with what can be had, other registers being unknown.
                self._state[STATE_ON_DEMAND] = 0
                return True
        self._add_slice(begin, data, False)
        return True

    def _extend_last_slice(self, read: MemoryReader) -> bool:
        """Read on where the last slice ends, twice as much each time: deep stacks stay one slice, quick to search."""
        last = len(self._slices) - SLICE_WIDTH
        if last < 0:
            return False
        length = self._slices[last + 2]
        end = (self._slices[last] & _MASK) + length
        if not -8 < self.detail - end < _READ_BEHIND:
            return False
        data = read(end, min(max(length, _READ_AHEAD), _LONGEST_READ))
        if end + len(data) < self.detail + self._architecture.address_size:
            return False
        self._content += data
        self._slices[last + 2] += len(data)
        return True

    def _read_frames(self, frames: Any, registers: Any, count: int) -> list[WalkedFrame]:
        result = []
        register_count = self._architecture.register_count
        for index in range(count):
            at = index * FRAME_WIDTH
            flags = frames[at + FRAME_FLAGS]
            mapping = frames[at + FRAME_MAPPING]
            first = index * register_count
            pc = frames[at + FRAME_PC] & _MASK
            result.append(
                WalkedFrame(
                    pc=pc,
                    exact=bool(flags & FRAME_EXACT),
                    signal=bool(flags & FRAME_SIGNAL),
                    cfa=frames[at + FRAME_CFA] & _MASK if flags & FRAME_HAS_CFA else None,
                    mapping=self._tables.mappings[mapping] if mapping >= 0 else None,
                    module=self._tables.modules[mapping] if mapping >= 0 else None,
                    bias=bias_at(pc, self._tables.values[mapping * 4 + 2]) if mapping >= 0 else 0,
                    registers=registers[first : first + register_count].tolist(),
                    known=frames[at + FRAME_KNOWN],
                    carried=frames[at + FRAME_CARRIED],
                )
            )
        return result
