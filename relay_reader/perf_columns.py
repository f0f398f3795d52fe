"""The records of perf.data in time order, as columns: samples where they lie in the mapped file, nothing copied.

What `perf_data.PerfData.events` gives as objects comes here in chunks, in the same order and with the same faults:
rows of `perf_scan` for the samples, events of `relay_reader.capture` for all else, of which there is little. Records
that come by a pipe, or packed in others, are put side by side first, some at a time, and scanned there.

Memory is that of two chunks and of what perf has not yet put in order; pages of the file are given back.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import compiled
from relay_reader import perf_scan
from relay_reader.capture import Event
from relay_reader.perf_data import FileFault, Losses, PerfData, PerfDataError
from relay_reader.perf_record import RECORD_SAMPLE, SAMPLE_CALLCHAIN, EventLayout, RecordDecoder, RecordFault
from relay_reader.perf_record_stream import FINISHED_ROUND, FIRST_USER_RECORD, RECORD_HEADER, RecordStream
from relay_reader.perf_scan import ROW_AT, ROW_FAULT, ROW_KIND, ROW_TIME, ROW_WIDTH

Bytes = NDArray[np.uint8]
Int64s = NDArray[np.int64]

_CHUNK_ROWS = 1 << 15
_CHUNK_BYTES = 1 << 24
_LARGE_FILE = 16 * _CHUNK_BYTES
"""Of a file of more bytes a chunk is twice as large: what is done once a chunk counts, and the memory does not."""
_CHUNK_ROUNDS = 1 << 12
_MOST_WAITING = 1 << 20
"""Records that may wait for the end of a round; of more, the older half goes on."""
_FAULTS = {
    perf_scan.TRUNCATED: RecordFault.TRUNCATED,
    perf_scan.UNKNOWN_EVENT: RecordFault.UNKNOWN_EVENT,
    perf_scan.COMPAT_REGISTERS: RecordFault.COMPAT_REGISTERS,
    perf_scan.UNKNOWN_REGISTERS: RecordFault.UNKNOWN_REGISTERS,
    perf_scan.GUEST: RecordFault.GUEST,
    perf_scan.DEFERRED_CHAIN: RecordFault.DEFERRED_CHAIN,
}
_LEFT_TO_STREAM = (perf_scan.SCAN_PACKED, perf_scan.SCAN_BAD_SIZE, perf_scan.SCAN_CUT_SHORT)
"""Ends of a scan behind which `RecordStream` goes on: it unpacks, and finds where sound records begin again."""
_SIGN = 1 << 63


@dataclass(slots=True)
class PerfChunk:
    """Samples that follow each other in time, and what happened between them."""

    data: Bytes
    """What the samples lie in."""
    layouts: Int64s
    """LAYOUT_WIDTH values of `perf_scan` for each event that they are of."""
    samples: Int64s
    """(samples, ROW_WIDTH): rows of `perf_scan`."""
    events: list[tuple[int, Event]]
    """(number of samples of this chunk that come before it, event), in time order."""


def fits_columns(file: PerfData) -> bool:
    """Whether all stacks of a file are to be walked, as far as its events are known; of a pipe they come with the data.

    Other stacks the kernel has found itself (--call-graph fp, lbr). Of a folder several files are merged.
    """
    if file.is_folder:
        return False
    layouts = [event.layout for event in file.perf_events]
    found = any(each.has_call_stack or each.sample_type & SAMPLE_CALLCHAIN for each in layouts if not each.has_stack)
    return not found


class PerfColumns:
    """Reads one `PerfData` by chunks; it counts what could not be read, as it does for its `events`."""

    def __init__(self, file: PerfData) -> None:
        self._file = file
        self._decoder: RecordDecoder | None = None
        self._known_events = -1
        self._layouts = self._ids = np.zeros(0, dtype=np.int64)
        self._losses = Losses()
        self._order = _RoundColumns()
        self._control = np.zeros(perf_scan.CONTROL_WIDTH, dtype=np.int64)
        self._rounds, self._notes = (np.empty(_CHUNK_ROUNDS, dtype=np.int64) for _ in range(2))

    def chunks(self) -> Iterator[PerfChunk]:
        """All chunks, once only. Raises PerfDataError, also for a file that does not fit.

        What lies in the file of a chunk and of the one after it is kept mapped: the next one may be asked for while
        this one is worked on.
        """
        rest, last = 0, b""
        if not self._file.is_pipe:
            rest, last = yield from self._mapped_chunks()
        if self._file.is_pipe or rest:
            yield from self._streamed_chunks(self._file.record_stream(rest or None, last))
        left = list(self._losses.left_over())
        if left:
            nothing = np.zeros((0, ROW_WIDTH), dtype=np.int64)
            yield PerfChunk(np.zeros(0, dtype=np.uint8), self._layouts, nothing, [(0, event) for event in left])
        if self._decoder is not None:
            self._file.take_counts(self._decoder)
        if self._order.late:
            self._file.faults[FileFault.LATE_RECORD] += self._order.late

    def followed(self) -> Iterator[PerfChunk]:
        """`chunks`, with progress."""
        return self._file.followed(self.chunks(), lambda: int(self._control[perf_scan.CONTROL_AT]))

    # --- a file, scanned where it is mapped

    def _mapped_chunks(self) -> Generator[PerfChunk, None, tuple[int, bytes]]:
        """The chunks of a file; returns where the first record lies that is packed or damaged, and the kernel's before.

        0 and b"" without one.
        """
        content, begin, end = self._file.data_section()
        data = np.frombuffer(content, dtype=np.uint8)
        self._control[perf_scan.CONTROL_AT], self._control[perf_scan.CONTROL_END] = begin, end
        chunk_bytes = _CHUNK_BYTES if end - begin <= _LARGE_FILE else 2 * _CHUNK_BYTES
        given_back = begin - begin % mmap.PAGESIZE
        state, last = perf_scan.SCAN_MORE, b""
        while state == perf_scan.SCAN_MORE:
            unused = self._first_used()
            state, found = self._scan(data, chunk_bytes)
            for at in self._notes[: int(self._control[perf_scan.CONTROL_NOTES])].tolist():
                record = _record_at(content, at)
                self._file.apply_user_record(RECORD_HEADER.unpack_from(record)[0], record)
            if state == perf_scan.SCAN_CUT_SHORT and self._control[perf_scan.CONTROL_AT] == end:
                # What follows a record is longer than the file: there is nothing that a stream could go on with.
                self._file.faults[FileFault.DATA_CUT_SHORT] += 1
                state = perf_scan.SCAN_DONE
            ended = state not in (perf_scan.SCAN_MORE, *_LEFT_TO_STREAM)
            last = self._order.last_found(content, found) or last
            ordered = self._order.add(found, self._marks, ended)
            if len(ordered):
                yield self._chunk(data, ordered)
                # What the chunk before lies in is no longer needed.
                stop = unused - unused % mmap.PAGESIZE
                if stop > given_back:
                    content.madvise(mmap.MADV_DONTNEED, given_back, stop - given_back)
                    given_back = stop
        self._order.copy_waiting(data)
        return (int(self._control[perf_scan.CONTROL_AT]), last) if state in _LEFT_TO_STREAM else (0, b"")

    def _first_used(self) -> int:
        """Where the first record lies that is yet to be given out."""
        scanned = int(self._control[perf_scan.CONTROL_AT])
        waiting = self._order.waiting
        return min(scanned, int(waiting[:, ROW_AT].min())) if len(waiting) else scanned

    # --- records that come one by one

    def _streamed_chunks(self, stream: RecordStream) -> Iterator[PerfChunk]:
        """The chunks of records that are unpacked, or that come by a pipe."""
        buffer = bytearray(self._order.waiting_bytes)
        for record in stream:
            kind = RECORD_HEADER.unpack_from(record)[0]
            if kind < FIRST_USER_RECORD or kind == FINISHED_ROUND:
                buffer += record
                if len(buffer) >= len(self._order.waiting_bytes) + _CHUNK_BYTES:
                    yield from self._buffer_chunk(buffer, False)
                    buffer = bytearray(self._order.waiting_bytes)
            else:
                self._file.apply_user_record(kind, record)
        yield from self._buffer_chunk(buffer, True)
        self._file.unread = stream.unread

    def _buffer_chunk(self, buffer: bytearray, ended: bool) -> Iterator[PerfChunk]:
        """The chunks of the records in `buffer`, which begins with those that wait."""
        if not buffer:
            return
        data = np.frombuffer(buffer, dtype=np.uint8)
        self._control[perf_scan.CONTROL_AT], self._control[perf_scan.CONTROL_END] = 0, len(buffer)
        state = perf_scan.SCAN_MORE
        self._order.forget()
        while state == perf_scan.SCAN_MORE:
            state, found = self._scan(data, _CHUNK_BYTES)
            ordered = self._order.add(found, self._marks, ended and state != perf_scan.SCAN_MORE)
            if len(ordered):
                yield self._chunk(data, ordered)
        self._order.copy_waiting(data)

    # --- both

    def _scan(self, data: Bytes, size: int) -> tuple[int, int]:
        """Scan `size` bytes, behind the rows that wait: how that ended, and how many rows were found."""
        limit = int(self._control[perf_scan.CONTROL_AT]) + size
        self._learn_events()
        scan = compiled(perf_scan.scan_records)
        room = self._order.room()
        scan(data, self._layouts, self._ids, self._control, limit, room, self._rounds, self._notes)
        return int(self._control[perf_scan.CONTROL_STATE]), int(self._control[perf_scan.CONTROL_ROWS])

    @property
    def _marks(self) -> Int64s:
        return self._rounds[: int(self._control[perf_scan.CONTROL_ROUNDS])]

    def _learn_events(self) -> None:
        """Have the layouts of the events that are known by now."""
        if self._known_events != len(self._file.perf_events):
            if not fits_columns(self._file):
                raise PerfDataError(f"{self._file.path}: the kernel has found its stacks: they are not to be walked")
            decoder = self._decoder = self._file.new_decoder(self._decoder)
            self._known_events = len(self._file.perf_events)
            self._layouts, self._ids = _layout_arrays([event.layout for event in self._file.perf_events], decoder)
            self._control[perf_scan.CONTROL_SAMPLE_ID : perf_scan.CONTROL_TRAILER_ID + 1] = decoder.id_positions
            self._control[perf_scan.CONTROL_DEFAULT] = -1 if decoder.default is None else 0

    def _chunk(self, data: Bytes, rows: Int64s) -> PerfChunk:
        """The samples of `rows`, and the events of the other records; faults are counted."""
        decoder = self._decoder
        assert decoder is not None
        is_sample = rows[:, ROW_KIND] == RECORD_SAMPLE
        faults = rows[:, ROW_FAULT]
        kept = is_sample
        if faults.any():
            for value, fault in _FAULTS.items():
                count = int(np.count_nonzero(faults & value))
                if count:
                    decoder.faults[fault] += count
            kept = is_sample & (faults & perf_scan.NO_SAMPLE == 0)
        others = np.flatnonzero(~is_sample)
        events: list[tuple[int, Event]] = []
        if len(others):
            before = np.cumsum(kept)[others].tolist()
            for index, at in zip(before, rows[others, ROW_AT].tolist(), strict=True):
                record = _record_at(data.data, at)
                events += [(index, event) for event in self._file.decoded(decoder, (record,), self._losses)]
        return PerfChunk(data, self._layouts, rows if kept.all() else rows[kept], events)


class _RoundColumns:
    """Puts rows in order of time, as `perf_round.RoundOrder` does with records. `late` counts what it counts."""

    def __init__(self) -> None:
        self.late = 0
        self.waiting_bytes = b""
        """The records of the rows that wait, after `copy_waiting`."""
        self._rows: Int64s = np.empty((0, ROW_WIDTH), dtype=np.int64)
        self._count = 0
        self._seen = 0
        # Times are unsigned: the newest seen, that up to which all was there when the last round ended, the last given.
        self._newest = self._complete = self._given = np.uint64(0)

    @property
    def waiting(self) -> Int64s:
        """The rows that wait for their turn, in the order of the file."""
        return self._rows[: self._count]

    def room(self) -> Int64s:
        """Where the next rows go, behind those that wait."""
        if len(self._rows) < self._count + _CHUNK_ROWS:
            grown = np.empty((2 * self._count + _CHUNK_ROWS, ROW_WIDTH), dtype=np.int64)
            grown[: self._count] = self.waiting
            self._rows = grown
        return self._rows[self._count : self._count + _CHUNK_ROWS].reshape(-1)

    def last_found(self, content: mmap.mmap, found: int) -> bytes:
        """The last record of the rows that were `found` in the room, before they are added; b"" without any."""
        return _record_at(content, int(self._rows[self._count + found - 1, ROW_AT])) if found else b""

    def add(self, found: int, marks: Int64s, ended: bool) -> Int64s:
        """Take the rows that were `found` in the room; gives those whose turn has come, in order.

        At the end of a round (`marks`: how many of the found rows come before it) everything up to the newest time of
        the round before is there. So each row goes on at the first such end behind it whose time is not before its own.
        """
        marks = marks + self._count
        self._count += found
        rows = self.waiting
        if not len(marks) and not ended and len(rows) <= _MOST_WAITING:
            return rows[:0]
        times = rows[:, ROW_TIME].copy().view(np.uint64)
        if len(times) and times[0] >= max(self._given, np.uint64(1)) and (times[1:] >= times[:-1]).all():
            return self._add_sorted(times, marks, ended)
        newest = np.maximum.accumulate(np.concatenate(([self._newest], times[self._seen :])))
        limits = np.concatenate(([self._complete], newest[marks - self._seen]))
        arrival = np.searchsorted(marks, np.arange(len(rows)), side="right")
        turns = np.maximum(arrival, np.searchsorted(limits[:-1], times, side="left"))
        self._newest, self._complete = newest[-1], limits[-1]
        stays = np.zeros(len(rows), dtype=bool) if ended else turns >= len(marks)
        if np.count_nonzero(stays) > _MOST_WAITING:
            stays &= times > np.partition(times[stays], _MOST_WAITING // 2)[_MOST_WAITING // 2]
        chosen = np.flatnonzero(~stays)
        chosen = chosen[np.argsort(times[chosen], kind="stable")]
        in_turn = turns[chosen]
        if (in_turn[1:] < in_turn[:-1]).any():
            chosen = chosen[np.argsort(in_turn, kind="stable")]
        self._count_late(times[chosen])
        ordered: Int64s = rows[chosen]
        left = rows[stays]
        self._rows[: len(left)] = left
        self._count = self._seen = len(left)
        return ordered

    def _add_sorted(self, times: NDArray[np.uint64], marks: Int64s, ended: bool) -> Int64s:
        """`add` for rows that lie in order of time already, as those of one processor do: the first of them go on."""
        count = going = len(times)
        # At the ends of rounds: the newest of the rows before.
        limits = [
            self._complete,
            *(max(self._newest, times[mark - 1]) if mark else self._newest for mark in marks[-2:]),
        ]
        if not ended:
            limit = limits[-2] if len(marks) else self._complete
            in_time = int(np.searchsorted(times, limit, side="right"))
            going = min(int(marks[-1]), in_time) if len(marks) else 0
            if count - going > _MOST_WAITING:
                going = int(np.searchsorted(times, times[going:][_MOST_WAITING // 2], side="right"))
        self._newest, self._complete = max(self._newest, times[-1]), limits[-1]
        if going:
            self._given = times[going - 1]
        ordered: Int64s = self._rows[:going].copy()
        self._rows[: count - going] = self._rows[going:count]
        self._count = self._seen = count - going
        return ordered

    def _count_late(self, times: NDArray[np.uint64]) -> None:
        times = times[times != 0]
        if len(times):
            reached = np.maximum.accumulate(np.concatenate(([self._given], times)))
            self.late += int(np.count_nonzero(times < reached[:-1]))
            self._given = reached[-1]

    def forget(self) -> None:
        """The rows that wait are scanned anew."""
        self._count = self._seen = 0

    def copy_waiting(self, data: Bytes) -> None:
        """Keep the records of the rows that wait, which lie in `data`."""
        self.waiting_bytes = b"".join(_record_at(data.data, at) for at in self.waiting[:, ROW_AT].tolist())


def _record_at(content: mmap.mmap | memoryview, at: int) -> bytes:
    size = RECORD_HEADER.unpack_from(content, at)[2]
    return bytes(content[at : at + size])


def _layout_arrays(layouts: list[EventLayout], decoder: RecordDecoder) -> tuple[Int64s, Int64s]:
    """The layouts of the events of a file as `perf_scan` wants them; and the ids, sorted, then their events."""
    number = {id(layout): index for index, layout in enumerate(layouts)}
    values = [value for layout in layouts for value in _layout_values(layout)]
    ids = sorted((key - (1 << 64) if key & _SIGN else key, number[id(each)]) for key, each in decoder.layouts.items())
    columns = [key for key, _ in ids] + [index for _, index in ids]
    return np.array(values, dtype=np.int64), np.array(columns, dtype=np.int64)


def _layout_values(layout: EventLayout) -> list[int]:
    values = [0] * perf_scan.LAYOUT_WIDTH
    head = layout.head_offsets
    values[perf_scan.LAYOUT_TYPE] = layout.sample_type
    values[perf_scan.LAYOUT_HEAD] = layout.head_size
    values[perf_scan.LAYOUT_IP] = head.get("ip", -1)
    values[perf_scan.LAYOUT_TASK] = head.get("pid", -1)
    values[perf_scan.LAYOUT_TIME] = head.get("time", -1)
    values[perf_scan.LAYOUT_CPU] = head.get("cpu", -1)
    values[perf_scan.LAYOUT_READ_FIXED], values[perf_scan.LAYOUT_READ_EACH] = layout.read_sizes
    values[perf_scan.LAYOUT_BRANCH_HEAD], values[perf_scan.LAYOUT_BRANCH_EACH] = layout.branch_sizes
    values[perf_scan.LAYOUT_REGISTERS] = layout.registers.size // 8 if layout.has_registers else -1
    values[perf_scan.LAYOUT_KNOWN] = layout.known
    values[perf_scan.LAYOUT_PERIOD] = head.get("period", -1) if layout.period_index >= 0 else -1
    values[perf_scan.LAYOUT_WEIGHT] = layout.weight
    values[perf_scan.LAYOUT_TRAILER_TIME] = layout.trailer_time
    places = layout.register_places if layout.has_registers else [-1] * 16 + [0]
    values[perf_scan.LAYOUT_PLACES : perf_scan.LAYOUT_PLACES + len(places)] = places
    return values
