"""Walking many samples one at a time, as they come: in machine code, and a frame that was seen before is not made anew.

Gives what `unwind.stack_walker` gives of samples whose stacks were copied, without the values of registers, which only
arguments need. NumPy is imported with the first `QuickWalker`.
"""

from __future__ import annotations

from typing import Any

from cfi_tables.compiled_cache import compiled_cache_directory
from cfi_tables.hot_loop import compiled
from cfi_tables.layout import StopReason
from relay_reader.capture import EM_X86_64, Sample
from unwind.address_space import AddressSpace
from unwind.memory import SLICE_WIDTH
from unwind.module import ModuleCatalog
from unwind.stack_walker import WalkedFrame, WalkedStack, bias_at
from unwind.table_arena import MappedSpaces, MappedTables, signed64
from unwind.trace_builder import ArgumentFrames, TraceBuilder
from unwind.walk import (
    FRAME_EXACT,
    FRAME_FLAGS,
    FRAME_MAPPING,
    FRAME_PC,
    FRAME_SIGNAL,
    FRAME_WIDTH,
    MAPPING_BIAS,
    MAPPING_WIDTH,
    SCRATCH_WIDTH,
    STATE_WIDTH,
    walk_batch,
)

_MASK = (1 << 64) - 1
_CAPACITY = 4096
"""Frames; deeper stacks are left to the other walk."""
_SPACES_KEPT = 256
"""Processes whose frames are kept at a time."""


class QuickTraceBuilder(TraceBuilder):
    """A TraceBuilder without arguments for samples that come fast: from `hasten` on walks are quick."""

    def __init__(self, max_depth: int) -> None:
        super().__init__(max_depth, ArgumentFrames.NONE)
        self._quick: QuickWalker | None = None

    def hasten(self) -> None:
        """Walk in machine code from now on. Where none is kept from before, making it takes seconds.

        May be called by another thread than the one that builds traces.
        """
        self._quick = QuickWalker(self.catalog, self._max_depth)

    def _walk(self, sample: Sample) -> WalkedStack:
        if self._quick is not None and _is_plain(sample):
            found = self._quick.walk(sample, self.spaces.of(sample.pid))
            if found is not None:
                return found
        return super()._walk(sample)


def is_made() -> bool:
    """Whether the machine code is kept from before."""
    loop: Any = compiled(walk_batch)
    return bool(loop.is_kept)


def make() -> bool:
    """Make the machine code, for all processes; False where it cannot be kept for them."""
    if compiled_cache_directory() is None:
        return False
    QuickWalker(ModuleCatalog(), 1)
    return True


def _is_plain(sample: Sample) -> bool:
    """Whether the sample is all that there is to walk, on the usual architecture."""
    return bool(
        sample.known
        and sample.slices
        and sample.machine == EM_X86_64
        and sample.read_memory is None
        and sample.user_stack is None
        and not sample.called
        and not sample.guest
    )


class QuickWalker:
    """Walks samples. `max_depth` frames at the most a stack. Loads the machine code, or makes it."""

    def __init__(self, catalog: ModuleCatalog, max_depth: int) -> None:
        import numpy as np

        self._np = np
        self._max_depth = max_depth
        self._mapped = MappedSpaces(catalog)
        self._run: Any = compiled(walk_batch)
        self._frames = np.zeros(_CAPACITY * FRAME_WIDTH, dtype=np.int64)
        self._state, self._scratch = (np.zeros(size, dtype=np.int64) for size in (STATE_WIDTH, SCRATCH_WIDTH))
        self._results = tuple(np.zeros(1, dtype=np.int64) for _ in range(3))
        self._spaces: dict[int, _QuickSpace] = {}
        """By pid."""
        self._arena: tuple[bytearray, Any] = bytearray(), None
        nothing = np.zeros(0, dtype=np.int64)
        self._call(b"\0", nothing, b"\0", nothing, nothing, nothing, 0)

    def walk(self, sample: Sample, space: AddressSpace) -> WalkedStack | None:
        """Walk the user stack of `sample`, whose process has the mappings of `space`; None where it is too deep."""
        np = self._np
        tables = self._mapped.tables(space, sample.pid)
        kept = self._space(tables, sample.pid)
        content = sample.slices[0].data if len(sample.slices) == 1 else b"".join(each.data for each in sample.slices)
        slices: list[int] = []
        at = 0
        for piece in sample.slices:
            slices += (signed64(piece.address), at, len(piece.data), int(piece.cut))
            at += len(piece.data)
        registers = np.array(sample.registers, dtype=np.uint64).view(np.int64)
        known = np.array((sample.known,), dtype=np.int64)
        if not self._call(
            *(self._arena_of_tables(), kept.values, content or b"\0"),
            np.array(slices, dtype=np.int64),
            registers,
            known,
            1,
        ):
            return None
        end, reason, detail = (int(each[0]) for each in self._results)
        rows = self._frames[: end * FRAME_WIDTH].reshape(-1, FRAME_WIDTH)
        frames = [kept.frame(pc, flags, mapping) for pc, flags, mapping in rows[:, _COLUMNS].tolist()]
        return WalkedStack(frames, StopReason(reason), detail & _MASK, sample.machine)

    def _call(
        self, arena: Any, mappings: Any, content: bytes, slices: Any, registers: Any, known: Any, count: int
    ) -> int:
        """Walk `count` samples, 0 or 1; how many were walked."""
        np = self._np
        mapping_range = np.array((0, len(mappings) // MAPPING_WIDTH), dtype=np.int64)
        slice_range = np.array((0, len(slices) // SLICE_WIDTH), dtype=np.int64)
        walked: int = self._run(
            np.frombuffer(arena, dtype=np.uint8) if isinstance(arena, bytes) else arena, mappings, mapping_range,
            np.frombuffer(content, dtype=np.uint8), slices, slice_range, registers, known, count,
            self._frames, _CAPACITY, self._max_depth, *self._results, self._state, self._scratch,
        )  # fmt: skip
        return walked

    def _arena_of_tables(self) -> Any:
        """The tables as an array, made anew when there are more of them."""
        content = self._mapped.arena.content
        if self._arena[0] is not content or self._arena[1] is None:
            self._arena = content, self._np.frombuffer(content or b"\0", dtype=self._np.uint8)
        return self._arena[1]

    def _space(self, tables: MappedTables, pid: int) -> _QuickSpace:
        found = self._spaces.get(pid)
        if found is None or found.tables is not tables:
            if len(self._spaces) >= _SPACES_KEPT:
                del self._spaces[next(iter(self._spaces))]
            found = self._spaces[pid] = _QuickSpace(tables, self._np.array(tables.values, dtype=self._np.int64))
        return found


_COLUMNS = [FRAME_PC, FRAME_FLAGS, FRAME_MAPPING]


class _QuickSpace:
    """One state of an address space, with the frames that were seen in it."""

    def __init__(self, tables: MappedTables, values: Any) -> None:
        self.tables = tables
        self.values = values
        self._frames: dict[tuple[int, int], WalkedFrame] = {}

    def frame(self, pc: int, flags: int, mapping: int) -> WalkedFrame:
        """The frame there; `pc` is an int64 bit pattern."""
        found = self._frames.get((pc, flags))
        if found is None:
            found = self._frames[pc, flags] = self._made(pc & _MASK, flags, mapping)
        return found

    def _made(self, pc: int, flags: int, mapping: int) -> WalkedFrame:
        tables = self.tables
        return WalkedFrame(
            pc=pc,
            exact=bool(flags & FRAME_EXACT),
            signal=bool(flags & FRAME_SIGNAL),
            cfa=None,
            mapping=tables.mappings[mapping] if mapping >= 0 else None,
            module=tables.modules[mapping] if mapping >= 0 else None,
            bias=bias_at(pc, tables.values[mapping * MAPPING_WIDTH + MAPPING_BIAS]) if mapping >= 0 else 0,
            registers=(),
            known=0,
            carried=0,
        )
