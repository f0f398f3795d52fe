"""Reading of perf.data into the Capture model: files, and what `perf record -o -` writes into a pipe.

Owns the container (tools/perf/Documentation/perf.data-file-format.txt in the Linux tree): the header, the events'
attributes with their ids, and where the records and the feature sections lie. Records are cut out by
`relay_reader.perf_record_stream`, put in order by `relay_reader.perf_round`, and decoded by `relay_reader.perf_record`;
the events of `relay_reader.capture` go out in time order.

Times are those of the clock that perf used: `perf record -k CLOCK_MONOTONIC` for CLOCK_MONOTONIC, else perf's own.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from os import PathLike
from typing import BinaryIO, TypeVar

from cfi_tables.progress import followed
from relay_reader.capture import Event, MappingAdded, RecordsLost
from relay_reader.capture_kind import PERF_DATA_MAGIC, PERF_DATA_OTHER_MAGICS
from relay_reader.mapping_build_id import with_build_id
from relay_reader.perf_attr import ATTR_MINIMUM, PerfEvent, read_attr
from relay_reader.perf_feature import FeatureError, PerfFeatures, feature_bits
from relay_reader.perf_record import EventLayout, RecordDecoder, RecordFault
from relay_reader.perf_record_stream import (
    EVENT_UPDATE,
    FINISHED_ROUND,
    FIRST_USER_RECORD,
    HEADER_ATTR,
    HEADER_BUILD_ID,
    HEADER_FEATURE,
    RECORD_HEADER,
    USER_RECORDS,
    FileFault,
    RecordStream,
)
from relay_reader.perf_round import RoundOrder
from relay_reader.perf_side_band import RECORD_LOST, RECORD_LOST_SAMPLES

__all__ = ["FileFault", "PerfData", "PerfDataError", "read_perf_data"]

_SECTION = struct.Struct("<QQ")
_HEADER = struct.Struct("<8sQQ" + "QQ" * 3 + "32s")
_PIPE_HEADER = struct.Struct("<8sQ")
_LARGEST_SECTION = 1 << 28
_EVENT_UPDATE = struct.Struct("<QQ")
_UPDATE_OF_NAME = 2
_Item = TypeVar("_Item")
_STANDARD_INPUT = "-"
_OUR_MACHINES = ("", "x86_64", "i686", "i386")


class PerfDataError(Exception):
    """The file cannot be read; the text says why, and what to do instead."""


class PerfData:
    """One open perf.data; `path` is "-" for what comes in on standard input.

    `faults` counts what could not be read, `passed_over` and `unknown_kinds` what was not used, after or during
    `events`. Raises PerfDataError for a file that is not readable at all, OSError when it cannot be opened.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = str(path)
        self.faults: Counter[RecordFault | FileFault] = Counter()
        self.passed_over: Counter[str] = Counter()
        """Records that are known and tell nothing about stacks, by their names."""
        self.unknown_kinds: Counter[int] = Counter()
        """Records of types that are not known."""
        self.unread = 0
        """Bytes at the end of the data that were not read, where `faults` says why."""
        self.features = PerfFeatures()
        self.perf_events: list[PerfEvent] = []
        """The events; a sample's `places` are indices in this."""
        self.layouts: dict[int, EventLayout] = {}
        """The layout of each event by id."""
        self._default: EventLayout | None = None
        self._only: EventLayout | None = None
        self._mapped: mmap.mmap | None = None
        if self.path == _STANDARD_INPUT and sys.stdin is None:  # closed by the caller (`<&-`)
            raise PerfDataError("standard input is closed: pipe what perf records into it, or name its file")
        self._file: BinaryIO = sys.stdin.buffer if self.path == _STANDARD_INPUT else open(path, "rb")  # noqa: SIM115
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        begin = self._file.read(_PIPE_HEADER.size)
        if len(begin) < _PIPE_HEADER.size:
            raise PerfDataError(f"{self.path}: too small for a perf.data file: record it again")
        magic, header_size = _PIPE_HEADER.unpack(begin)
        if magic in PERF_DATA_OTHER_MAGICS:
            raise PerfDataError(
                f"{self.path}: recorded {PERF_DATA_OTHER_MAGICS[magic]}: read it there with `perf script`"
            )
        if magic != PERF_DATA_MAGIC:
            raise PerfDataError(f"{self.path}: not a perf.data file (it begins with {magic!r})")
        self.is_pipe = header_size == _PIPE_HEADER.size
        self._data_size: int | None = None
        if not self.is_pipe:
            self._read_header(begin)

    # --- the header of a file

    def _read_header(self, begin: bytes) -> None:
        if not self._file.seekable():
            # What stands at the end of a file is needed at its beginning.
            import shutil
            import tempfile

            kept = tempfile.TemporaryFile(prefix="ptap-perf-")  # noqa: SIM115
            kept.write(begin)
            shutil.copyfileobj(self._file, kept)
            self._file = kept
        self._size = self._file.seek(0, 2)
        header = self._at(0, _HEADER.size)
        if len(header) < _HEADER.size:
            raise PerfDataError(f"{self.path}: ends inside its header: record it again")
        _, _, attr_size, attr_at, attr_bytes, data_at, data_bytes, _, _, features = _HEADER.unpack(header)
        self._read_attrs(attr_at, attr_bytes, attr_size)
        # perf fills in the size at its end; a killed perf leaves 0, and the data goes on to the end of the file.
        end = data_at + data_bytes if data_bytes else self._size
        if data_bytes and end <= self._size:
            self._read_features(end, features)
        if end > self._size or data_at > self._size:
            self.faults[FileFault.DATA_CUT_SHORT] += 1
        self._check_machine()
        self._data_at = min(data_at, self._size)
        self._data_size = max(min(end, self._size) - self._data_at, 0)
        self._file.seek(self._data_at)

    def _at(self, position: int, count: int) -> bytes:
        """Up to `count` bytes at `position` of a file; fewer where it ends."""
        if position >= self._size:
            return b""
        self._file.seek(position)
        return self._file.read(min(count, self._size - position))

    def _read_attrs(self, at: int, size: int, entry_size: int) -> None:
        if entry_size < ATTR_MINIMUM + _SECTION.size or at + size > self._size or size < entry_size:
            raise PerfDataError(f"{self.path}: the section of event attributes is damaged: record it again")
        content = self._at(at, size)
        for entry in range(0, size - entry_size + 1, entry_size):
            ids_at, ids_size = _SECTION.unpack_from(content, entry + entry_size - _SECTION.size)
            if ids_at + ids_size > self._size:
                raise PerfDataError(f"{self.path}: the ids of an event lie outside of the file: record it again")
            ids = self._at(ids_at, ids_size // 8 * 8)
            self._add_event(content[entry : entry + entry_size - _SECTION.size], ids)

    def _read_features(self, at: int, bitmap: bytes) -> None:
        bits = feature_bits(bitmap)
        table = self._at(at, len(bits) * _SECTION.size)
        for number, bit in enumerate(bits):
            try:
                start, size = _SECTION.unpack_from(table, number * _SECTION.size)
                if start + size > self._size or size > _LARGEST_SECTION:
                    raise FeatureError("it lies outside of the file")
                self.features.read(bit, self._at(start, size))
            except (struct.error, FeatureError):
                self.faults[FileFault.FEATURE_DAMAGED] += 1
        self._name_events()

    def data_section(self) -> tuple[mmap.mmap, int, int]:
        """(the whole file, where its records begin, where they end), of a file whose records are not packed.

        Raises PerfDataError for what came in by a pipe.
        """
        if self.is_pipe or self._data_size is None:
            raise PerfDataError(f"{self.path}: written in pipe mode: its records come one by one")
        if self._mapped is None:
            self._mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped, self._data_at, self._data_at + self._data_size

    # --- events and what is known of the machine

    def _add_event(self, attr: bytes, ids: bytes) -> None:
        numbers = tuple(number for (number,) in struct.iter_unpack("<Q", ids))
        event = read_attr(attr, numbers, len(self.perf_events))
        self.perf_events.append(event)
        self.layouts.update(dict.fromkeys(numbers, event.layout))
        first = self.perf_events[0].layout
        self._default = first
        # With several events, a record of an unknown id cannot be read for sure.
        self._only = first if len(self.perf_events) == 1 else None
        if event.layout.id_positions != first.id_positions or (
            first.id_positions[0] < 0 and event.layout.sample_type != first.sample_type
        ):
            raise PerfDataError(
                f"{self.path}: its events keep their ids at different places, so that nothing tells them apart: "
                "record them with `perf record --sample-identifier`"
            )

    def _name_events(self) -> None:
        order = self.features.event_order
        for number, event in enumerate(self.perf_events):
            names = {self.features.event_names[each] for each in event.ids if each in self.features.event_names}
            if len(names) == 1:
                event.name = names.pop()
            elif len(order) == len(self.perf_events):
                event.name = order[number]

    def _check_machine(self) -> None:
        if self.features.architecture not in _OUR_MACHINES:
            raise PerfDataError(
                f"{self.path}: recorded on {self.features.architecture}, and stacks of perf.data are walked for x86-64 "
                "only: read it there with `perf script`"
            )

    # --- records

    def events(self) -> Iterator[Event]:
        """All events in time order; once only, as a pipe is read once. Raises PerfDataError."""
        stream = self.record_stream()
        order = RoundOrder()
        decoder: RecordDecoder | None = None
        known = -1
        losses = Losses()
        for record in stream:
            kind = RECORD_HEADER.unpack_from(record)[0]
            if kind == FINISHED_ROUND:
                ready = order.finish_round()
            elif kind >= FIRST_USER_RECORD:
                self.apply_user_record(kind, record)
                continue
            else:
                if decoder is None or known != len(self.perf_events):
                    decoder, known = self.new_decoder(decoder), len(self.perf_events)
                ready = order.add(decoder.time_of(record), record)
            if decoder is not None:
                yield from self.decoded(decoder, ready, losses)
        if decoder is not None:
            yield from self.decoded(decoder, order.rest(), losses)
            self.take_counts(decoder)
        yield from losses.left_over()
        if order.late:
            self.faults[FileFault.LATE_RECORD] += order.late
        self.unread = stream.unread

    def record_stream(self, at: int | None = None) -> RecordStream:
        """The records one by one; of a file those from byte `at` on, or all. Of a pipe there is one such stream."""
        if self.is_pipe or self._data_size is None:
            return RecordStream(self._file, None, self.faults)
        begin = self._data_at if at is None else at
        self._file.seek(begin)
        return RecordStream(self._file, self._data_at + self._data_size - begin, self.faults)

    def new_decoder(self, before: RecordDecoder | None) -> RecordDecoder:
        """A decoder of the events that are known by now. Raises PerfDataError when there are none."""
        if before is not None:
            self.take_counts(before)
        if not self.perf_events:
            raise PerfDataError(f"{self.path}: its records come before any event's attributes: record it again")
        self._name_events()
        return RecordDecoder(self.layouts, self._only or (None if self.layouts else self._default))

    def take_counts(self, decoder: RecordDecoder) -> None:
        """Add what a decoder has counted."""
        self.faults.update(decoder.faults)
        self.passed_over.update(decoder.passed_over)
        self.unknown_kinds.update(decoder.unknown_kinds)

    def decoded(self, decoder: RecordDecoder, records: Iterable[bytes], losses: Losses) -> Iterator[Event]:
        """The events of records, with the build-ids that the file tells of."""
        for record in records:
            event = decoder.decode(record)
            if event is None:
                continue
            if isinstance(event, RecordsLost) and losses.takes(record[0], event):
                continue
            if isinstance(event, MappingAdded) and event.mapping.build_id is None:
                event = with_build_id(event, self.features.build_id)
            yield event

    def apply_user_record(self, kind: int, record: bytes) -> None:
        """Take what perf itself tells between the kernel's records."""
        try:
            if kind == HEADER_ATTR:
                self._add_piped_attr(record)
            elif kind == HEADER_BUILD_ID:
                self.features.read_build_id(record)
            elif kind == HEADER_FEATURE:
                (number,) = struct.unpack_from("<Q", record, 8)
                self.features.read(number, record[16:])
                self._name_events()
                self._check_machine()
            elif kind == EVENT_UPDATE:
                self._rename(record)
            elif kind in USER_RECORDS:
                self.passed_over[USER_RECORDS[kind]] += 1
            else:
                self.unknown_kinds[kind] += 1
        except (struct.error, FeatureError):
            self.faults[FileFault.FEATURE_DAMAGED] += 1

    def _add_piped_attr(self, record: bytes) -> None:
        (size,) = struct.unpack_from("<I", record, 12)
        if not ATTR_MINIMUM <= size <= len(record) - 8:
            raise PerfDataError(f"{self.path}: the attributes of an event are damaged: record it again")
        ids = record[8 + size :]
        self._add_event(record[8 : 8 + size], ids[: len(ids) // 8 * 8])

    def _rename(self, record: bytes) -> None:
        kind, number = _EVENT_UPDATE.unpack_from(record, 8)
        if kind == _UPDATE_OF_NAME:
            name = record[8 + _EVENT_UPDATE.size :].split(b"\0", 1)[0].decode("utf-8", "replace")
            for event in self.perf_events:
                if number in event.ids and name:
                    event.name = name
                    self.features.event_names.update(dict.fromkeys(event.ids, name))

    def shortcomings(self) -> list[str]:
        """Sentences on what was not read, once `events` has ended."""
        lines = []
        for fault, count in self.faults.items():
            where = f" ({self.unread} bytes)" if self.unread and fault is FileFault.BAD_RECORD_SIZE else ""
            lines.append(f"{self.path}: {fault.value}{where}" + (f" ({count} times)" if count > 1 else ""))
        if self.unknown_kinds:
            kinds = ", ".join(f"{count} of type {kind}" for kind, count in sorted(self.unknown_kinds.items())[:8])
            more = ", …" if len(self.unknown_kinds) > 8 else ""
            lines.append(f"{self.path}: records of types that are not known were passed over: {kinds}{more}")
        return lines

    def followed(self, items: Iterable[_Item], scanned: Callable[[], int] | None = None) -> Iterator[_Item]:
        """`items`, which come as the file is read, with progress: by where it is read, or up to where it is `scanned`.

        Of a pipe nobody knows how far it is.
        """
        name = "standard input" if self.path == _STANDARD_INPUT else os.path.basename(self.path)
        return followed(items, f"reading {name}", None if self.is_pipe else self._size, measure=scanned or self._place)

    def _place(self) -> int:
        """Where the file is read, for any thread to ask; 0 for a pipe."""
        with suppress(OSError, ValueError):  # no file, or closed
            return os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
        return 0

    def close(self) -> None:
        """Close the file."""
        if self._mapped is not None:
            with suppress(BufferError):  # arrays over it unmap it with the last of them
                self._mapped.close()
        if sys.stdin is None or self._file is not sys.stdin.buffer:
            self._file.close()


class Losses:
    """What was lost, counted once: perf's own counts at the end hold what the kernel's records told before.

    The kernel notes each gap of a ring (PERF_RECORD_LOST); perf adds at its end, without a time, how many samples each
    event has lost in all (PERF_RECORD_LOST_SAMPLES).
    """

    def __init__(self) -> None:
        self._noted = 0
        self._counted = 0

    def takes(self, kind: int, event: RecordsLost) -> bool:
        """Whether the loss is one of perf's own counts, which waits for the end."""
        if kind == RECORD_LOST:
            self._noted += event.count
        elif kind == RECORD_LOST_SAMPLES and event.time_ns == 0:
            self._counted += event.count
            return True
        return False

    def left_over(self) -> Iterator[Event]:
        """What the kernel's records have not told."""
        if self._counted > self._noted:
            yield RecordsLost(0, -1, self._counted - self._noted)


def read_perf_data(path: str | PathLike[str]) -> Iterator[Event]:
    """The events of a perf.data file in time order; see `PerfData` for what could not be read.

    Raises PerfDataError for a file that cannot be read, with what to do instead.
    """
    file = PerfData(path)
    try:
        yield from file.events()
    finally:
        file.close()
