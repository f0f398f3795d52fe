"""Walking the samples of a capture one at a time: the arrays around `unwind.walk`, and its results as frames.

Samples come with their process's address space; tables come from modules and are laid side by side in one arena.
Always in the plain form: one walk costs less than what becomes of its frames, and needs no numba. Whole captures are
walked by `unwind.batch_walk`.
"""

from __future__ import annotations

import types
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cfi_tables.layout import StopReason
from cfi_tables.lookup import find_rule
from relay_reader.capture import Mapping, MemoryReader, Sample
from unwind.address_space import AddressSpace
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
    NO_PREVIOUS_CFA,
    REGISTER_COUNT,
    SCRATCH_WIDTH,
    STATE_DETAIL,
    STATE_EXACT,
    STATE_KNOWN,
    STATE_ON_DEMAND,
    STATE_PREVIOUS_CFA,
    STATE_WIDTH,
    walk,
)

_MASK = (1 << 64) - 1
_CHUNK_FRAMES = 512
_READ_AHEAD = 4096
_READ_BEHIND = 512
_LONGEST_READ = 1 << 20


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
    """REGISTER_COUNT unsigned values in DWARF order; meaningful where `known` says so."""
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


class StackWalker:
    """Walks samples. `max_depth` frames at the most a stack; a deeper one ends with TOO_DEEP."""

    def __init__(self, catalog: ModuleCatalog, max_depth: int) -> None:
        self._max_depth = max_depth
        self._spaces = MappedSpaces(catalog)
        self._walk: Callable[..., tuple[int, int]] = _walk_that_remembers_rules()
        # The output of one call; it is read before the next one.
        self._frames = array("q", bytes(8 * FRAME_WIDTH * (_CHUNK_FRAMES + 1)))
        self._registers = array("q", bytes(8 * REGISTER_COUNT * (_CHUNK_FRAMES + 1)))
        self._unsigned_registers = memoryview(self._registers).cast("B").cast("Q")

    def walk(self, sample: Sample, space: AddressSpace) -> WalkedStack:
        """Walk the user stack of `sample`, whose process has the mappings of `space`."""
        if not sample.known:
            return WalkedStack([], StopReason.NO_REGISTERS, 0)
        tables = self._spaces.tables(space, sample.pid)
        run = _Run(self, tables, sample)
        reason, frames = run.to_the_end()
        return WalkedStack(frames, StopReason(reason), run.detail)


def _walk_that_remembers_rules() -> Callable[..., tuple[int, int]]:
    """The plain form of `walk`, in which the rule of an address is looked up once: half of its time is lookups.

    An arena only grows, so what stands at a table's offset stays what it is.
    """
    known: dict[tuple[int, int], int] = {}

    def remembered_rule(arena: Any, table: int, pc: int) -> int:
        rule = known.get((table, pc))
        if rule is None:
            rule = known[table, pc] = find_rule(arena, table, pc)
        return rule

    return types.FunctionType(walk.__code__, {**walk.__globals__, "find_rule": remembered_rule}, walk.__name__)


def _bias_at(pc: int, bias: int) -> int:
    """`bias`, which is signed, so that it takes `pc` to an address: modules are moved by more than 2^63."""
    return bias + (1 << 64) if pc - bias > _MASK else bias


class _Run:
    """One walk from its first call to its last, over every resumption."""

    def __init__(self, walker: StackWalker, tables: MappedTables, sample: Sample) -> None:
        self._walker = walker
        self._tables = tables
        self._sample = sample
        self._state = array("q", bytes(8 * STATE_WIDTH))
        for register, value in enumerate(sample.registers):
            self._state[register] = signed64(value)
        self._state[STATE_KNOWN] = sample.known
        self._state[STATE_EXACT] = 0 if sample.called else 1
        self._state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
        self._state[STATE_ON_DEMAND] = 1 if sample.read_memory is not None else 0
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
        while True:
            room = min(_CHUNK_FRAMES, self._walker._max_depth - len(found))
            frames, registers = self._walker._frames, self._walker._registers
            reason, count = self._walker._walk(
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
            return reason, found + new

    def _supply(self) -> bool:
        """Read the memory that the walk lacked; False when the walk has to do without."""
        if self._state[STATE_ON_DEMAND] == 0 or self._sample.read_memory is None:
            return False
        if self._extend_last_slice(self._sample.read_memory):
            return True
        begin = self.detail - _READ_BEHIND
        data = self._sample.read_memory(begin, _READ_BEHIND + _READ_AHEAD)
        if len(data) < _READ_BEHIND + 8:
            begin = self.detail
            data = self._sample.read_memory(begin, 8)
            if len(data) < 8:
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
        if end + len(data) < self.detail + 8:
            return False
        self._content += data
        self._slices[last + 2] += len(data)
        return True

    def _read_frames(self, frames: Any, registers: Any, count: int) -> list[WalkedFrame]:
        result = []
        for index in range(count):
            at = index * FRAME_WIDTH
            flags = frames[at + FRAME_FLAGS]
            mapping = frames[at + FRAME_MAPPING]
            first = index * REGISTER_COUNT
            pc = frames[at + FRAME_PC] & _MASK
            result.append(
                WalkedFrame(
                    pc=pc,
                    exact=bool(flags & FRAME_EXACT),
                    signal=bool(flags & FRAME_SIGNAL),
                    cfa=frames[at + FRAME_CFA] & _MASK if flags & FRAME_HAS_CFA else None,
                    mapping=self._tables.mappings[mapping] if mapping >= 0 else None,
                    module=self._tables.modules[mapping] if mapping >= 0 else None,
                    bias=_bias_at(pc, self._tables.values[mapping * 4 + 2]) if mapping >= 0 else 0,
                    registers=registers[first : first + REGISTER_COUNT].tolist(),
                    known=frames[at + FRAME_KNOWN],
                    carried=frames[at + FRAME_CARRIED],
                )
            )
        return result
