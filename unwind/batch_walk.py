"""Walking the samples of a whole capture in bulk: thousands at a time, in machine code, into columns.

Takes the events of a source that copied all it could (files); gives `WalkedBatch`es, whose results are those of
`unwind.stack_walker`, frame for frame. No Python statement runs a frame, and few run a sample.

Imports NumPy, and numba at the first walk: only bulk work should import this module.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cfi_tables.hot_loop import compiled
from relay_reader.capture import X86_64_REGISTER_COUNT, Event, Sample
from unwind.address_space import AddressSpaces
from unwind.memory import SLICE_WIDTH
from unwind.module import Module, ModuleCatalog
from unwind.table_arena import MappedSpaces, MappedTables, signed64
from unwind.walk import (
    FRAME_EXACT,
    FRAME_FLAGS,
    FRAME_MAPPING,
    FRAME_PC,
    FRAME_SIGNAL,
    FRAME_WIDTH,
    MAPPING_BIAS,
    MAPPING_WIDTH,
    REGISTER_COUNT,
    SCRATCH_WIDTH,
    STATE_WIDTH,
    walk_batch,
)

Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_BATCH_SAMPLES = 4096
_BATCH_BYTES = 64 << 20
_CAPACITY = 1 << 17

assert REGISTER_COUNT == X86_64_REGISTER_COUNT


@dataclass(slots=True)
class WalkedBatch:
    """Samples in the order of their capture, and their frames: sample i has `frames_of(i)`, innermost first."""

    samples: list[Sample]
    frame_ends: Int64s
    """For each sample the index after its last frame; its first is where the sample before it ends."""
    reasons: Int64s
    """For each sample a StopReason's value."""
    details: Int64s
    """For each sample what the reason speaks of, as a 64-bit pattern; see `WalkedStack.detail`."""
    frames: Int64s
    """(frames, FRAME_WIDTH): the columns of `unwind.walk`, FRAME_MAPPING being an index into `mapping_values`."""
    mapping_values: Int64s
    """(mappings, MAPPING_WIDTH): the mappings of all address spaces of the batch."""
    mapping_modules: Int64s
    """For each of these its module's index in `modules`, -1 for memory that is no file's."""
    modules: list[Module]
    """Shared by all batches of a walker, and growing."""

    def frames_of(self, sample: int) -> slice:
        """The rows of `frames` that are the stack of the sample with this index."""
        return slice(int(self.frame_ends[sample - 1]) if sample else 0, int(self.frame_ends[sample]))

    @property
    def frame_modules(self) -> Int64s:
        """For each frame its module's index in `modules`, -1 without one."""
        mapping = self.frames[:, FRAME_MAPPING]
        # Frames without a mapping carry -1, which reads the element put at the end for them.
        return np.append(self.mapping_modules, -1)[mapping]

    @property
    def lookup_addresses(self) -> Int64s:
        """For each frame the file virtual address for symbols; as `WalkedFrame.lookup_address`, a 64-bit pattern."""
        biases = np.append(self.mapping_values[:, MAPPING_BIAS], 0)
        flags = self.frames[:, FRAME_FLAGS]
        returned = (flags & (FRAME_EXACT | FRAME_SIGNAL)) == 0
        addresses: Int64s = self.frames[:, FRAME_PC] - biases[self.frames[:, FRAME_MAPPING]] - returned
        return addresses


class _Arrays:
    """The flat arrays of one batch while samples come in."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.registers = array("Q")
        self.known = array("q")
        self.content: list[bytes] = []
        self.size = 0
        self.slices = array("q")
        self.slice_ranges = array("q")
        self.mapping_ranges = array("q")
        self.tables: list[MappedTables] = []
        self._ranges: dict[int, tuple[int, int]] = {}
        self._mapping_count = 0

    def add(self, sample: Sample, tables: MappedTables) -> None:
        self.samples.append(sample)
        self.registers.extend(sample.registers or _NO_REGISTERS)
        self.known.append(sample.known)
        first = len(self.slices) // SLICE_WIDTH
        for piece in sample.slices:
            self.slices.extend((signed64(piece.address), self.size, len(piece.data), piece.cut))
            self.content.append(piece.data)
            self.size += len(piece.data)
        self.slice_ranges.extend((first, len(self.slices) // SLICE_WIDTH))
        found = self._ranges.get(id(tables))
        if found is None:
            # The list keeps the tables alive, so that the key stays theirs.
            self.tables.append(tables)
            begin = self._mapping_count
            self._mapping_count += len(tables.mappings)
            found = self._ranges[id(tables)] = (begin, self._mapping_count)
        self.mapping_ranges.extend(found)

    @property
    def full(self) -> bool:
        return len(self.samples) >= _BATCH_SAMPLES or self.size >= _BATCH_BYTES


_NO_REGISTERS = (0,) * X86_64_REGISTER_COUNT


class BatchWalker:
    """Walks captures in bulk. `max_depth` frames at the most a stack; `capacity` frames to begin the output with."""

    def __init__(self, catalog: ModuleCatalog, max_depth: int, capacity: int = _CAPACITY) -> None:
        self.spaces = AddressSpaces()
        self.modules: list[Module] = []
        """Every module seen, in the order of the indices that batches use."""
        self._mapped = MappedSpaces(catalog)
        self._max_depth = max_depth
        self._capacity = capacity
        self._module_index: dict[int, int] = {}

    def walk(self, events: Iterable[Event]) -> Iterator[WalkedBatch]:
        """Walk every sample of `events`, which are in time order."""
        arrays = _Arrays()
        for event in events:
            if not isinstance(event, Sample):
                self.spaces.apply(event)
                continue
            arrays.add(event, self._mapped.tables(self.spaces.of(event.pid), event.pid))
            if arrays.full:
                yield self._walk(arrays)
                arrays = _Arrays()
        if arrays.samples:
            yield self._walk(arrays)

    def _walk(self, arrays: _Arrays) -> WalkedBatch:
        count = len(arrays.samples)
        values = array("q")
        for tables in arrays.tables:
            values.extend(tables.values)
        mappings = _int64s(values)
        inputs = (
            np.frombuffer(self._mapped.arena.content or b"\0", dtype=np.uint8),
            mappings,
            np.frombuffer(b"".join(arrays.content) or b"\0", dtype=np.uint8),
            _int64s(arrays.slices),
        )
        columns = (
            _int64s(arrays.mapping_ranges),
            _int64s(arrays.slice_ranges),
            _int64s(arrays.registers),
            _int64s(arrays.known),
        )
        ends, reasons, details, frames = self._run(count, inputs, columns)
        modules = [self._index_of(module) for tables in arrays.tables for module in tables.modules]
        return WalkedBatch(
            arrays.samples,
            ends,
            reasons,
            details,
            frames,
            mappings.reshape(-1, MAPPING_WIDTH),
            np.array(modules, dtype=np.int64),
            self.modules,
        )

    def _run(
        self,
        count: int,
        inputs: tuple[Bytes, Int64s, Bytes, Int64s],
        columns: tuple[Int64s, Int64s, Int64s, Int64s],
    ) -> tuple[Int64s, Int64s, Int64s, Int64s]:
        """Ends, reasons, details and frames of `count` samples, over as many calls as the output array needs."""
        arena, mappings, content, slices = inputs
        mapping_ranges, slice_ranges, registers, known = columns
        ends, reasons, details = (np.zeros(count, dtype=np.int64) for _ in range(3))
        state = np.zeros(STATE_WIDTH, dtype=np.int64)
        scratch = np.zeros(SCRATCH_WIDTH, dtype=np.int64)
        found: list[Int64s] = []
        fast = compiled(walk_batch)
        done = total = 0
        while done < count:
            frames = np.zeros(self._capacity * FRAME_WIDTH, dtype=np.int64)
            walked = fast(
                arena, mappings, mapping_ranges[2 * done :],
                content, slices, slice_ranges[2 * done :],
                registers[REGISTER_COUNT * done :], known[done:], count - done,
                frames, self._capacity, self._max_depth,
                ends[done:], reasons[done:], details[done:],
                state, scratch,
            )  # fmt: skip
            if walked == 0:
                # One stack alone is deeper than the output array.
                self._capacity *= 2
                continue
            used = int(ends[done + walked - 1])
            ends[done : done + walked] += total
            found.append(frames.reshape(-1, FRAME_WIDTH)[:used])
            total += used
            done += walked
        return ends, reasons, details, np.concatenate(found)

    def _index_of(self, module: Module | None) -> int:
        if module is None:
            return -1
        index = self._module_index.get(id(module))
        if index is None:
            index = self._module_index[id(module)] = len(self.modules)
            self.modules.append(module)
        return index


def _int64s(values: array[int]) -> Int64s:
    return np.frombuffer(values, dtype=np.int64) if len(values) else np.zeros(0, dtype=np.int64)
