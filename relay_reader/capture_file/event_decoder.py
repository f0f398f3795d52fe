"""The parts of a chunk to events. Everything is checked before the first event goes out: a chunk is whole or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_reader.capture import (
    EM_X86_64,
    X86_64_REGISTER_COUNT,
    ChainSource,
    Event,
    KernelCodeNamed,
    KernelSectionPlaced,
    KernelStack,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    Sample,
    StackSlice,
    ThreadExited,
    ThreadNamed,
    ToldChain,
    UserStack,
)
from relay_reader.capture import Mapping as MemoryMapping
from relay_reader.capture_file.chunk import ChunkError
from relay_reader.capture_file.row_layout import (
    CALLED,
    HAS_KERNEL_STACK,
    HAS_OWN_MAPPINGS,
    HAS_SIGNATURE_MASK,
    HAS_USER_STACK,
    HAS_VECTORS,
    IS_GUEST,
    ROWS,
    TOLD_BY_FRAME_POINTERS,
    TOLD_BY_LAST_BRANCHES,
    TOLD_CUT,
    LayoutError,
    Part,
    rows_of,
)

_TEXT_FIELDS = ("path", "comm", "build_id", "name")
_ROWS_AT_ONCE = 4096
_EVENT_PARTS = tuple(part for part in Part if Part.MAPPING_ADDED <= part <= Part.KERNEL_CODE)


class DecodedChunk:
    """The events of one chunk: `parts` by number, rows as `layouts` say. Raises ChunkError."""

    def __init__(self, parts: Mapping[int, bytes], layouts: dict[Part, np.dtype[Any]]) -> None:
        try:
            self.rows: dict[Part, NDArray[Any]] = {part: rows_of(parts.get(part, b""), part, layouts) for part in ROWS}
        except LayoutError as error:
            raise ChunkError(str(error)) from None
        self.memory = parts.get(Part.MEMORY, b"")
        self._text_bytes = parts.get(Part.TEXTS, b"")
        order = self.rows[Part.ORDER]["part"]
        sources = self.rows[Part.SOURCES]["source"]
        self._sources = sources if len(sources) else np.zeros(len(order), dtype=np.uint16)
        self._check_order(order)
        self._check_texts()
        self._check_counts()
        self._texts = self._read_texts()
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def _check_order(self, order: NDArray[Any]) -> None:
        counts = np.bincount(order, minlength=max(_EVENT_PARTS) + 1) if len(order) else np.zeros(64, dtype=np.int64)
        told = sum(int(counts[part]) for part in _EVENT_PARTS)
        if told != len(order) or len(self._sources) != len(order):
            raise ChunkError("it names events of no kind")
        if any(int(counts[part]) != len(self.rows[part]) for part in _EVENT_PARTS):
            raise ChunkError("its rows are not those of its events")

    def _check_texts(self) -> None:
        ends = self.rows[Part.TEXT_ENDS]["end"].astype(np.int64)
        if np.any(np.diff(ends, prepend=0) < 0) or (int(ends[-1]) if len(ends) else 0) != len(self._text_bytes):
            raise ChunkError("its texts do not fill their part")
        for part in _EVENT_PARTS:
            rows = self.rows[part]
            for name in _TEXT_FIELDS:
                if name in (rows.dtype.names or ()) and len(rows) and int(rows[name].max()) > len(ends):
                    raise ChunkError("it names a text that it does not hold")

    def _check_counts(self) -> None:
        samples, kernel, user = (self.rows[part] for part in (Part.SAMPLE, Part.KERNEL_STACKS, Part.USER_STACKS))

        for rows in (samples, kernel, user):
            whole = rows["register_count"] == X86_64_REGISTER_COUNT
            none = (rows["register_count"] == 0) & (rows["known"] == 0)
            if not np.all((whole | none) & (rows["known"] >> X86_64_REGISTER_COUNT == 0)):
                raise ChunkError("its registers are not those of x86-64")

        def total(*columns: NDArray[Any]) -> int:
            return sum(int(column.sum(dtype=np.uint64)) for column in columns)

        expected = {
            Part.PLACES: total(samples["place_count"]),
            Part.REGISTERS: total(samples["register_count"], kernel["register_count"], user["register_count"]),
            Part.ADDRESSES: total(
                samples["chain_count"], samples["told_count"], kernel["oracle_count"], user["chain_count"]
            ),
            Part.SLICES: total(samples["slice_count"], kernel["slice_count"]),
            Part.VECTORS: total(samples["vector_count"]),
            Part.KERNEL_STACKS: int(np.count_nonzero(samples["flags"] & HAS_KERNEL_STACK)),
            Part.USER_STACKS: int(np.count_nonzero(samples["flags"] & HAS_USER_STACK)),
        }
        has_told = samples["flags"] & (TOLD_BY_FRAME_POINTERS | TOLD_BY_LAST_BRANCHES) != 0
        has_vectors = samples["flags"] & HAS_VECTORS != 0
        if np.any(samples["told_count"][~has_told]) or np.any(samples["vector_count"][~has_vectors]):
            raise ChunkError("its samples have what they do not tell of")
        if any(count != len(self.rows[part]) for part, count in expected.items()):
            raise ChunkError("its samples do not fill its parts")
        if total(self.rows[Part.SLICES]["size"]) != len(self.memory):
            raise ChunkError("its slices do not fill its memory")

    def _read_texts(self) -> list[bytes | None]:
        texts: list[bytes | None] = [None]
        begin = 0
        for end in self.rows[Part.TEXT_ENDS]["end"].tolist():
            texts.append(self._text_bytes[begin:end])
            begin = end
        return texts

    def events(self) -> Iterator[tuple[int, Event]]:
        """Every event with the number of its source, in the order in which they were written."""
        text = [(each or b"").decode("utf-8", "surrogateescape") for each in self._texts]
        readers: dict[int, Iterator[Event]] = {
            Part.MAPPING_ADDED: self._mappings(text),
            Part.PROCESS_FORKED: (
                ProcessForked(time, pid, parent, tid, parent_tid, not flags & HAS_OWN_MAPPINGS)
                for time, pid, parent, tid, parent_tid, flags in self._tuples(Part.PROCESS_FORKED)
            ),
            Part.KERNEL_CODE: (
                KernelCodeNamed(time, address, size, text[name], bool(gone))
                for time, address, size, name, gone in self._tuples(Part.KERNEL_CODE)
            ),
            Part.PROCESS_EXECED: (
                ProcessExeced(time, pid, text[comm]) for time, pid, comm in self._tuples(Part.PROCESS_EXECED)
            ),
            Part.THREAD_NAMED: (
                ThreadNamed(time, pid, tid, text[comm]) for time, pid, tid, comm in self._tuples(Part.THREAD_NAMED)
            ),
            Part.THREAD_EXITED: (ThreadExited(*row) for row in self._tuples(Part.THREAD_EXITED)),
            Part.RECORDS_LOST: (RecordsLost(*row) for row in self._tuples(Part.RECORDS_LOST)),
            Part.KERNEL_SECTION: (KernelSectionPlaced(*row) for row in self._tuples(Part.KERNEL_SECTION)),
            Part.SAMPLE: self._samples(),
        }
        for at in range(0, len(self._order), _ROWS_AT_ONCE):
            some = slice(at, at + _ROWS_AT_ONCE)
            for part, source in zip(self._order[some].tolist(), self._sources[some].tolist(), strict=True):
                yield source, next(readers[part])

    def _tuples(self, part: Part) -> Iterator[Any]:
        return _tuples(self.rows[part])

    def _mappings(self, text: list[str]) -> Iterator[Event]:
        for time, pid, start, end, offset, path, build_id in self._tuples(Part.MAPPING_ADDED):
            mapping = MemoryMapping(start, end, offset, text[path], self._texts[build_id])
            yield MappingAdded(time, pid, mapping)

    def _samples(self) -> Iterator[Sample]:
        numbers = _Numbers(self)
        for row in self._tuples(Part.SAMPLE):
            time, cpu, pid, tid, known, weight, signal, places, registers, slices, chain, told, vectors, *rest = row
            flags, machine, signature_mask = rest
            sample = Sample(
                time,
                cpu,
                pid,
                tid,
                numbers.places(places),
                numbers.registers(registers),
                known,
                numbers.slices(slices),
                numbers.addresses(chain),
                weight=weight,
                called=bool(flags & CALLED),
                signal=signal,
                guest=bool(flags & IS_GUEST),
                machine=machine or EM_X86_64,  # older files do not tell
                signature_mask=signature_mask if flags & HAS_SIGNATURE_MASK else None,
            )
            if flags & (TOLD_BY_FRAME_POINTERS | TOLD_BY_LAST_BRANCHES):
                by_pointers = flags & TOLD_BY_FRAME_POINTERS
                chain_source = ChainSource.FRAME_POINTERS if by_pointers else ChainSource.LAST_BRANCHES
                sample.told_chain = ToldChain(chain_source, numbers.addresses(told), bool(flags & TOLD_CUT))
            if flags & HAS_KERNEL_STACK:
                sample.kernel_stack = numbers.kernel_stack()
            if flags & HAS_USER_STACK:
                sample.user_stack = numbers.user_stack()
            if flags & HAS_VECTORS:
                sample.read_vector_registers = partial(dict, numbers.vectors(vectors))
            yield sample


def _tuples(rows: NDArray[Any]) -> Iterator[Any]:
    """Each row as a tuple of Python's numbers, which are made some at a time."""
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        yield from rows[at : at + _ROWS_AT_ONCE].tolist()


class _Numbers:
    """What samples have of no fixed length, taken from the front."""

    def __init__(self, chunk: DecodedChunk) -> None:
        rows = chunk.rows
        # Numbers become Python's own when they are asked for: as objects they take several times the room.
        self._places = np.ascontiguousarray(rows[Part.PLACES]["place"]).data
        self._registers = np.ascontiguousarray(rows[Part.REGISTERS]["value"]).data
        self._addresses = np.ascontiguousarray(rows[Part.ADDRESSES]["address"]).data
        self._slices = _tuples(rows[Part.SLICES])
        self._memory = chunk.memory
        self._kernel_stacks = _tuples(rows[Part.KERNEL_STACKS])
        self._user_stacks = _tuples(rows[Part.USER_STACKS])
        self._vectors = _tuples(rows[Part.VECTORS])
        self._place = self._register = self._address = self._memory_at = 0

    def places(self, count: int) -> tuple[int, ...]:
        begin, self._place = self._place, self._place + count
        return tuple(self._places[begin : self._place].tolist())

    def registers(self, count: int) -> tuple[int, ...]:
        begin, self._register = self._register, self._register + count
        return tuple(self._registers[begin : self._register].tolist())

    def addresses(self, count: int) -> tuple[int, ...]:
        begin, self._address = self._address, self._address + count
        return tuple(self._addresses[begin : self._address].tolist())

    def slices(self, count: int) -> list[StackSlice]:
        found = []
        for _ in range(count):
            address, size, cut = next(self._slices)
            begin, self._memory_at = self._memory_at, self._memory_at + size
            found.append(StackSlice(address, self._memory[begin : begin + size], bool(cut)))
        return found

    def kernel_stack(self) -> KernelStack:
        known, slide, detail, stop, flags, registers, slices, oracle = next(self._kernel_stacks)
        return KernelStack(
            self.registers(registers),
            known,
            self.slices(slices),
            slide,
            stop,
            detail,
            flags,
            self.addresses(oracle),
        )

    def user_stack(self) -> UserStack:
        known, detail, start_stack, generation, stop, flags, registers, chain = next(self._user_stacks)
        return UserStack(
            *(self.registers(registers), known, self.addresses(chain)),
            *(stop, detail, generation, start_stack, flags),
        )

    def vectors(self, count: int) -> dict[int, bytes]:
        found = {}
        for _ in range(count):
            low, high, register = next(self._vectors)
            found[register] = low.to_bytes(8, "little") + high.to_bytes(8, "little")
        return found
