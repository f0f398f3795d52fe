"""The records of a perf.data file in time order, as columns: samples where they lie in the mapped file, nothing copied.

What `perf_data.PerfData.events` gives as objects comes here in chunks, in the same order and with the same faults:
rows of `perf_scan` for the samples, events of `relay_reader.capture` for all else, of which there is little. Memory is
that of a chunk and of what perf has not yet put in order; pages of the file are given back once they were read.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfi_tables.hot_loop import compiled
from relay_reader import perf_scan
from relay_reader.capture import Event
from relay_reader.perf_data import FileFault, PerfData
from relay_reader.perf_record import RECORD_SAMPLE, EventLayout, RecordDecoder, RecordFault
from relay_reader.perf_scan import ROW_AT, ROW_FAULT, ROW_KIND, ROW_TIME, ROW_WIDTH

Int64s = NDArray[np.int64]

_CHUNK_ROWS = 1 << 15
_CHUNK_BYTES = 32 << 20
_CHUNK_ROUNDS = 1 << 12
_FAULTS = {
    perf_scan.TRUNCATED: RecordFault.TRUNCATED,
    perf_scan.UNKNOWN_EVENT: RecordFault.UNKNOWN_EVENT,
    perf_scan.COMPAT_REGISTERS: RecordFault.COMPAT_REGISTERS,
}
_ENDS = {
    perf_scan.SCAN_CUT_SHORT: FileFault.DATA_CUT_SHORT,
    perf_scan.SCAN_BAD_SIZE: FileFault.BAD_RECORD_SIZE,
}
_SIGN = 1 << 63


@dataclass(slots=True)
class PerfChunk:
    """Samples that follow each other in time, and what happened between them."""

    samples: Int64s
    """(samples, ROW_WIDTH): rows of `perf_scan`, whose positions are those in the file's bytes."""
    events: list[tuple[int, Event]]
    """(number of samples of this chunk that come before it, event), in time order."""


class PerfColumns:
    """Reads one `PerfData` by chunks; its `faults` count what could not be read, as they do for its `events`."""

    def __init__(self, file: PerfData) -> None:
        self._file = file
        self._bytes, begin, end = file.data_section()
        self.data: NDArray[np.uint8] = np.frombuffer(self._bytes, dtype=np.uint8)
        """The bytes of the whole file."""
        self._decoder = file.decoder()
        self.layouts, self.ids = _layout_arrays(self._decoder)
        """int64, LAYOUT_WIDTH an event; sorted ids, then their events."""
        self._control = np.zeros(perf_scan.CONTROL_WIDTH, dtype=np.int64)
        self._control[perf_scan.CONTROL_AT] = begin
        self._control[perf_scan.CONTROL_END] = end
        self._control[perf_scan.CONTROL_SAMPLE_ID : perf_scan.CONTROL_TRAILER_ID + 1] = self._decoder.id_positions
        self._control[perf_scan.CONTROL_DEFAULT] = -1 if self._decoder.default is None else 0
        self._pending: Int64s = np.zeros((0, ROW_WIDTH), dtype=np.int64)
        # Times as unsigned values: the newest seen, and up to which all was complete when the last round began.
        self._newest = np.uint64(0)
        self._complete = np.uint64(0)
        self._given_back = begin - begin % mmap.PAGESIZE

    def chunks(self) -> Iterator[PerfChunk]:
        """All chunks. Raises PerfDataError where `PerfData.events` does.

        What lies in the file of a chunk and of the one after it is kept mapped: the next one may be asked for while
        this one is worked on.
        """
        rounds = np.empty(_CHUNK_ROUNDS, dtype=np.int64)
        ended = False
        while not ended:
            unused = self._first_used()
            ended, rows = self._scan(rounds)
            marks = rounds[: int(self._control[perf_scan.CONTROL_ROUNDS])]
            ordered = self._in_order(rows, marks, ended)
            if len(ordered):
                yield self._chunk(ordered)
                self._give_back(unused)
        self._file.faults.update(self._decoder.faults)

    def _scan(self, rounds: Int64s) -> tuple[bool, Int64s]:
        """Scan on; whether there are no more, and the rows that wait with those that were found behind them."""
        waiting = self._pending.size
        raw = np.empty(waiting + _CHUNK_ROWS * ROW_WIDTH, dtype=np.int64)
        raw[:waiting] = self._pending.reshape(-1)
        limit = int(self._control[perf_scan.CONTROL_AT]) + _CHUNK_BYTES
        scan = compiled(perf_scan.scan_records)
        scan(self.data, self.layouts, self.ids, self._control, limit, raw[waiting:], rounds)
        state = int(self._control[perf_scan.CONTROL_STATE])
        if state == perf_scan.SCAN_FOREIGN:
            raise self._file.compressed()
        if state in _ENDS:
            self._file.faults[_ENDS[state]] += 1
        count = waiting + int(self._control[perf_scan.CONTROL_ROWS]) * ROW_WIDTH
        return state != perf_scan.SCAN_MORE, raw[:count].reshape(-1, ROW_WIDTH)

    def _in_order(self, rows: Int64s, marks: Int64s, ended: bool) -> Int64s:
        """Those of the rows that are complete, in the order of `PerfData.events`; the others wait.

        At the end of a round (`marks`: the number of `rows` before it) everything up to the newest time of the round
        before is complete. So each row goes out at the first such end behind it whose time is not before its own.
        """
        waiting = len(self._pending)
        times = rows[:, ROW_TIME].copy().view(np.uint64)
        newest = np.maximum.accumulate(np.concatenate(([self._newest], times[waiting:])))
        limits = np.concatenate(([self._complete], newest[marks]))
        arrival = np.searchsorted(marks + waiting, np.arange(len(rows)), side="right")
        turn = np.maximum(arrival, np.searchsorted(limits[:-1], times, side="left"))
        self._newest, self._complete = newest[-1], limits[-1]
        chosen = np.flatnonzero(turn < len(marks)) if not ended else np.arange(len(rows))
        self._pending = rows[turn >= len(marks)] if not ended else rows[:0]
        chosen = chosen[np.argsort(times[chosen], kind="stable")]
        turns = turn[chosen]
        if len(turns) and (turns[1:] < turns[:-1]).any():
            chosen = chosen[np.argsort(turns, kind="stable")]
        ordered: Int64s = rows[chosen]
        return ordered

    def _chunk(self, rows: Int64s) -> PerfChunk:
        """The sound samples of `rows`, and the events of the other records; faults are counted."""
        kinds, faults = rows[:, ROW_KIND], rows[:, ROW_FAULT]
        is_sample = kinds == RECORD_SAMPLE
        kept = is_sample & (faults != perf_scan.TRUNCATED) & (faults != perf_scan.UNKNOWN_EVENT)
        for value, fault in _FAULTS.items():
            count = int(np.count_nonzero(faults == value))
            if count:
                self._decoder.faults[fault] += count
        others = np.flatnonzero(~is_sample)
        before = np.cumsum(kept)[others] if len(others) else others
        events: list[tuple[int, Event]] = []
        for index, at in zip(before.tolist(), rows[others, ROW_AT].tolist(), strict=True):
            size = int.from_bytes(self._bytes[at + 6 : at + 8], "little")
            event = self._decoder.decode(self._bytes[at : at + size])
            if event is not None:
                events.append((index, event))
        return PerfChunk(rows if len(kept) == int(kept.sum()) else rows[kept], events)

    def _first_used(self) -> int:
        """Where the first record lies that is yet to be given out."""
        scanned = int(self._control[perf_scan.CONTROL_AT])
        return min(scanned, int(self._pending[:, ROW_AT].min())) if len(self._pending) else scanned

    def _give_back(self, end: int) -> None:
        """Unmap the pages before `end`; should anything there be read again, they come again."""
        begin = self._given_back
        end -= end % mmap.PAGESIZE
        if end > begin:
            self._bytes.madvise(mmap.MADV_DONTNEED, begin, end - begin)
            self._given_back = end


def _layout_arrays(decoder: RecordDecoder) -> tuple[Int64s, Int64s]:
    """The layouts of a decoder's events as `perf_scan` wants them, that for unknown ids first; and the ids."""
    layouts: list[EventLayout] = [decoder.first]
    number = {id(decoder.first): 0}
    ids: list[tuple[int, int]] = []
    for key, layout in decoder.layouts.items():
        if id(layout) not in number:
            number[id(layout)] = len(layouts)
            layouts.append(layout)
        ids.append((key - (1 << 64) if key & _SIGN else key, number[id(layout)]))
    values = array("q")
    for layout in layouts:
        values.extend(_layout_values(layout))
    ids.sort()
    columns = [key for key, _ in ids] + [index for _, index in ids]
    return np.frombuffer(values, dtype=np.int64), np.array(columns, dtype=np.int64)


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
    values[perf_scan.LAYOUT_TRAILER_TIME] = layout.trailer_time
    places = layout.register_places if layout.has_registers else [-1] * 16 + [0]
    values[perf_scan.LAYOUT_PLACES : perf_scan.LAYOUT_PLACES + len(places)] = places
    return values
