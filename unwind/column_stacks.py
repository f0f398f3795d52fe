"""Stacks of a whole perf.data file as columns: what `batch_walk` gives, with no object for a sample or a frame.

Chunks of `relay_reader.perf_columns` come in; what their other events say of address spaces holds for the samples
behind them. Each processor walks a part of a chunk. A frame is the number of a place, and all that is known of a frame
is known of its place (`place_table`), so that names are asked for once a place.

Imports NumPy, and no numba where the compiled code is kept: only bulk work should import this module.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cfi_tables.distinct_values import distinct_values
from cfi_tables.hot_loop import compiled
from cfi_tables.worker_threads import run_parts, worker_count
from relay_reader.capture import Event, Mapping
from relay_reader.perf_columns import PerfChunk, PerfColumns
from relay_reader.perf_data import PerfDataError
from relay_reader.perf_scan import (
    ROW_CHAIN_COUNT,
    ROW_CPU,
    ROW_EVENT,
    ROW_FAULT,
    ROW_KERNEL_PC,
    ROW_TASK,
    ROW_TIME,
    ROW_WEIGHT,
    kernel_chains,
)
from unwind import column_walk, place_table
from unwind.address_space import AddressSpaces
from unwind.module import Module, ModuleCatalog
from unwind.outer_frames import KEPT_WIDTH
from unwind.place_table import PLACE_WIDTH
from unwind.table_arena import MappedSpaces, MappedTables

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

_PID = 0xFFFFFFFF
_FEW_SAMPLES = 256
"""Fewer samples are no piece of work for another thread."""
_MANY_SAMPLES = 2048
"""Of more samples a thread gets two pieces, so that the threads end at about the same time."""
_FIRST_PLACES = 1 << 12
_FRAMES_A_SAMPLE = 24
_MOST_PLACES = 1 << 20
"""Of a worker; then it begins anew, so that memory stays bounded where processes come and go."""


class Places:
    """The distinct places of the walks of one worker: rows of `place_table`, and where they are found."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: Int64s = np.empty(_FIRST_PLACES * PLACE_WIDTH, dtype=np.int64)
        self.slots: Int32s = np.zeros(4 * _FIRST_PLACES, dtype=np.int32)

    def grow(self) -> None:
        """Have room for twice as many. The numbers of places stay."""
        self.rows = np.concatenate((self.rows, np.empty(len(self.rows), dtype=np.int64)))
        self.slots = np.zeros(2 * len(self.slots), dtype=np.int32)
        compiled(place_table.refill_slots)(self.rows, self.count, self.slots)

    def column(self, column: int) -> Int64s:
        """The values of one of the columns of `place_table`, by the number of the place."""
        values: Int64s = self.rows[: self.count * PLACE_WIDTH].reshape(-1, PLACE_WIDTH)[:, column]
        return values


@dataclass(slots=True)
class StackColumns:
    """Samples that follow each other in time, and their stacks: that of sample i is `frames_of(i)`, innermost first."""

    times: Int64s
    """Nanoseconds."""
    tasks: Int64s
    """The process below the thread, 32 bits each."""
    cpus: Int64s
    """-1: not told."""
    sources: Int64s
    """Index of the event of the file that each sample is of."""
    weights: Int64s
    """Events that each sample stands for."""
    faults: Int64s
    """What was wrong with each: bits of `relay_reader.perf_scan`, 0 for nothing."""
    frame_ends: Int64s
    """For each sample the index after its last frame; its first is where the sample before it ends."""
    reasons: Int32s
    """For each sample a StopReason's value,"""
    details: Int64s
    """and what that speaks of, as a 64-bit pattern; see `WalkedStack.detail`."""
    frames: Int32s
    """For each frame the number of its place in `places`."""
    places: Places
    """Shared by several of these, and growing."""
    modules: list[Module]
    """What PLACE_MODULE counts in: shared by all of a walker, and growing."""
    kernel_ends: Int64s
    """For each sample the index after its last address of the kernel's,"""
    kernel_addresses: Int64s
    """which are 64-bit patterns, innermost first."""
    sets: Int64s
    """For each sample the number of the mappings that its process had, see `ColumnWalker.mapping_at`."""
    events: list[tuple[int, Event]]
    """What happened besides: (number of samples of these that come before it, event). `ColumnWalker.spaces` has been
    told of them all."""

    def frames_of(self, sample: int) -> slice:
        """The part of `frames` that is the stack of the sample with this index."""
        return slice(int(self.frame_ends[sample - 1]) if sample else 0, int(self.frame_ends[sample]))

    def column(self, column: int) -> Int64s:
        """For each frame a column of `place_table`: PLACE_PC, PLACE_MODULE, PLACE_LOOKUP or PLACE_FLAGS."""
        values: Int64s = self.places.column(column)[self.frames]
        return values


class _MappingSets:
    """Every distinct state of an address space that had samples, as one array of mappings for the walk."""

    def __init__(self, catalog: ModuleCatalog) -> None:
        self.mapped = MappedSpaces(catalog)
        self.modules: list[Module] = []
        self.mappings: list[list[Mapping]] = []
        """Of each set."""
        self._numbers: dict[bytes, int] = {}
        self._by_tables: dict[int, tuple[MappedTables, int]] = {}
        self._module_numbers: dict[int, int] = {}
        self._values, self._modules_of, self._ends = array("q"), array("q"), array("q")
        self.arrays: tuple[Int64s, Int64s, Int64s] = (np.zeros(0, dtype=np.int64),) * 3
        """The mappings, their modules, and where each set ends; made by `update`."""

    def number_of(self, tables: MappedTables, pid: int) -> int:
        """The number of the set of these mappings, which process `pid` has now."""
        known = self._by_tables.get(pid)
        if known is not None and known[0] is tables:
            return known[1]
        modules = array("q", map(self._module_number, tables.modules))
        # What is no file's memory has a name all the same.
        named = (each.path for each, module in zip(tables.mappings, modules, strict=True) if module < 0)
        key = tables.values.tobytes() + modules.tobytes() + "\0".join(named).encode("utf-8", "surrogateescape")
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._ends)
            self._values += tables.values
            self._modules_of += modules
            self._ends.append(len(self._modules_of))
            self.mappings.append(tables.mappings)
        self._by_tables[pid] = tables, number
        return number

    def update(self) -> None:
        """Make the arrays of what is known now."""
        if len(self.arrays[2]) != len(self._ends):
            values, modules, ends = (
                np.array(each, dtype=np.int64) for each in (self._values, self._modules_of, self._ends)
            )
            self.arrays = values, modules, ends

    def _module_number(self, module: Module | None) -> int:
        if module is None:
            return -1
        number = self._module_numbers.get(id(module))
        if number is None:
            number = self._module_numbers[id(module)] = len(self.modules)
            self.modules.append(module)
        return number


_Walked: TypeAlias = tuple[Int64s, Int32s, Int64s, Int32s, Places]
"""Ends, reasons, details and frames of samples, and the places that the frames count in."""


class _Worker:
    """What one thread walks with; kept from chunk to chunk."""

    def __init__(self, max_depth: int) -> None:
        self.places = Places()
        self._control = np.zeros(column_walk.WALK_CONTROL_WIDTH, dtype=np.int64)
        self._control[column_walk.WALK_DEPTH] = max_depth
        self._frames: Int32s = np.empty(0, dtype=np.int32)
        self._kept = np.zeros(KEPT_WIDTH, dtype=np.int64)
        self._scratch = np.zeros(column_walk.WALK_SCRATCH_WIDTH, dtype=np.int64)

    def walk(
        self,
        data: NDArray[np.uint8],
        layouts: Int64s,
        arena: NDArray[np.uint8],
        rows: Int64s,
        sets: Int64s,
        mappings: tuple[Int64s, Int64s, Int64s],
    ) -> _Walked:
        """Walk the samples in `rows`."""
        count = len(rows)
        if self.places.count > _MOST_PLACES:
            self.places = Places()
            self._kept = np.zeros(KEPT_WIDTH, dtype=np.int64)
        places, control = self.places, self._control
        ends, details = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        reasons = np.empty(count, dtype=np.int32)
        if len(self._frames) < _FRAMES_A_SAMPLE * (count + 1):
            self._frames = np.empty(_FRAMES_A_SAMPLE * (count + 1), dtype=np.int32)
        control[column_walk.WALK_SAMPLE], control[column_walk.WALK_LAST] = 0, count
        control[column_walk.WALK_FRAMES], control[column_walk.WALK_PLACES] = 0, places.count
        while True:
            compiled(column_walk.walk_rows)(
                data, layouts, rows.reshape(-1), sets, arena, *mappings,
                places.slots, places.rows, control, self._frames, ends, reasons, details,
                self._kept, self._scratch,
            )  # fmt: skip
            places.count = int(control[column_walk.WALK_PLACES])
            status = int(control[column_walk.WALK_STATUS])
            if status == column_walk.PLACES_FULL:
                places.grow()
            elif status == column_walk.FRAMES_FULL:
                self._frames = np.concatenate((self._frames, np.empty(len(self._frames), dtype=np.int32)))
            else:
                break
        used = int(control[column_walk.WALK_FRAMES])
        return ends, reasons, details, self._frames[:used].copy(), places


class ColumnWalker:
    """Walks the samples of a perf.data file. `max_depth` frames at the most a stack."""

    def __init__(self, catalog: ModuleCatalog, max_depth: int, threads: int | None = None) -> None:
        self.spaces = AddressSpaces()
        self._sets = _MappingSets(catalog)
        self._max_depth = max_depth
        self._threads = threads or worker_count()
        self._idle: list[_Worker] = []

    @property
    def modules(self) -> list[Module]:
        """Every module that had samples' mappings, in the order of the numbers that places use."""
        return self._sets.modules

    def walk(self, columns: PerfColumns) -> Iterator[StackColumns]:
        """Walk every sample of a file, in time order. Raises PerfDataError."""
        chunks = columns.followed()
        chunk = next(chunks, None)
        while chunk is not None:
            sets = self._sets_of(chunk)
            self._sets.update()
            pieces = self._pieces(chunk)
            tasks: list[Callable[[], Any]] = [partial(_next_chunk, chunks)]
            tasks += [partial(self._walk_piece, chunk, chunk.samples[each], sets[each]) for each in pieces]
            following, *walked = run_parts(tasks, len(tasks) > 2)
            yield from self._stacks(chunk, sets, pieces, walked)
            if isinstance(following, PerfDataError):
                raise following
            chunk = following

    def _sets_of(self, chunk: PerfChunk) -> Int64s:
        """For each sample of the chunk the number of its set of mappings; the spaces are as behind the chunk then."""
        pids = chunk.samples[:, ROW_TASK] & _PID
        found = np.empty(len(pids), dtype=np.int64)
        begin = 0
        for before, event in chunk.events:
            if before > begin:
                self._fill_sets(pids[begin:before], found[begin:before])
                begin = before
            self.spaces.apply(event)
        if len(pids) > begin:
            self._fill_sets(pids[begin:], found[begin:])
        return found

    def _fill_sets(self, pids: Int64s, found: Int64s) -> None:
        first = int(pids[0])
        distinct = [first] if (pids == first).all() else distinct_values(pids).tolist()
        for pid in distinct:
            number = self._sets.number_of(self._sets.mapped.tables(self.spaces.of(pid), pid), pid)
            if len(distinct) == 1:
                found[:] = number
            else:
                found[pids == pid] = number

    def _pieces(self, chunk: PerfChunk) -> list[slice]:
        """Parts of a chunk, one for each thread, of which one also scans the next chunk."""
        count = len(chunk.samples)
        parts = min(self._threads, count // _FEW_SAMPLES)
        if self._threads > 1 and count > 2 * self._threads * _MANY_SAMPLES:
            parts *= 2
        cuts = [count * part // max(parts, 1) for part in range(max(parts, 1) + 1)]
        return [slice(*pair) for pair in pairwise(cuts)]

    def _walk_piece(self, chunk: PerfChunk, rows: Int64s, sets: Int64s) -> tuple[_Walked, tuple[Int64s, Int64s]]:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._max_depth)
        arena = np.frombuffer(self._sets.mapped.arena.content or b"\0", dtype=np.uint8)
        walked = worker.walk(chunk.data, chunk.layouts, arena, rows, sets, self._sets.arrays)
        self._idle.append(worker)
        return walked, _kernel_columns(chunk, rows)

    def mapping_at(self, number: int, address: int) -> Mapping | None:
        """The mapping of the set `number` that holds an address; None where nothing is mapped."""
        mappings = self._sets.mappings[number]
        index = bisect_right(mappings, address, key=attrgetter("start")) - 1
        return mappings[index] if index >= 0 and address < mappings[index].end else None

    def is_empty(self, number: int) -> bool:
        """Whether no mapping is in the set `number`, as of threads of the kernel itself."""
        return not self._sets.mappings[number]

    def _stacks(
        self,
        chunk: PerfChunk,
        sets: Int64s,
        pieces: list[slice],
        walked: list[tuple[_Walked, tuple[Int64s, Int64s]]],
    ) -> Iterator[StackColumns]:
        events, at = chunk.events, 0
        for (found, kernel), piece in zip(walked, pieces, strict=True):
            rows = chunk.samples[piece]
            is_last = piece.stop == len(chunk.samples)
            begin = at
            while at < len(events) and (is_last or events[at][0] < piece.stop):
                at += 1
            told = [(before - piece.start, event) for before, event in events[begin:at]]
            yield StackColumns(
                rows[:, ROW_TIME].copy(),
                rows[:, ROW_TASK].copy(),
                rows[:, ROW_CPU].copy(),
                rows[:, ROW_EVENT].copy(),
                rows[:, ROW_WEIGHT].copy(),
                rows[:, ROW_FAULT].copy(),
                *found,
                self._sets.modules,
                *kernel,
                sets[piece],
                told,
            )


def _next_chunk(chunks: Iterator[PerfChunk]) -> PerfChunk | PerfDataError | None:
    """The next chunk, None at the end; or why there are no more, which is told after what came before."""
    try:
        return next(chunks, None)
    except PerfDataError as error:
        return error


def _kernel_columns(chunk: PerfChunk, rows: Int64s) -> tuple[Int64s, Int64s]:
    ends = np.zeros(len(rows), dtype=np.int64)
    counts = rows[:, ROW_CHAIN_COUNT]
    if not counts.any() and not rows[:, ROW_KERNEL_PC].any():
        return ends, ends[:0]
    addresses = np.empty(int(counts.sum()) + len(rows), dtype=np.int64)
    used = compiled(kernel_chains)(chunk.data, rows.reshape(-1), ends, addresses)
    return ends, addresses[:used].copy()
