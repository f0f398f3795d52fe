"""Reading of perf.data files into the Capture model: file mode, uncompressed.

Owns the container (tools/perf/Documentation/perf.data-file-format.txt in the Linux tree): the header, the events'
attributes with their ids, and the data section. Records are decoded by `relay_reader.perf_record`; the events of
`relay_reader.capture` go out in time order.

Times are those of the clock that perf used: `perf record -k CLOCK_MONOTONIC` for CLOCK_MONOTONIC, else perf's own.
"""

from __future__ import annotations

import heapq
import mmap
import struct
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from os import PathLike

from relay_reader.capture import Event
from relay_reader.perf_record import EventLayout, RecordDecoder, RecordFault

_MAGIC = b"PERFILE2"
_MAGIC_BIG_ENDIAN = b"2ELIFREP"
_SECTION = struct.Struct("<QQ")
_HEADER = struct.Struct("<8sQQ" + "QQ" * 3 + "32s")
_PIPE_HEADER_SIZE = 16
_RECORD_HEADER = struct.Struct("<IHH")
_FEATURE_COMPRESSED = 27

_FIRST_USER_RECORD = 64
_FINISHED_ROUND = 68
_AUXTRACE = 71
_COMPRESSED = (81, 83)

_ATTR_HEAD = struct.Struct("<IIQQQQQ")
_ATTR_MINIMUM = 64
_ATTR_BRANCH_SAMPLE_TYPE = 72
_ATTR_REGS_USER = 80
_SAMPLE_ID_ALL = 1 << 18


class PerfDataError(Exception):
    """The file cannot be read; the text says why, and what to do instead."""


class FileFault(Enum):
    """Why the rest of a file was not read; what came before stands."""

    DATA_CUT_SHORT = "the file ends inside its data section"
    BAD_RECORD_SIZE = "a record claims an impossible size"


class PerfData:
    """One open perf.data file.

    `faults` counts what could not be read, after or during `events`. Raises PerfDataError for a file that is not
    readable at all, OSError when it cannot be opened.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = str(path)
        self.faults: Counter[RecordFault | FileFault] = Counter()
        with open(path, "rb") as file:
            file.seek(0, 2)
            if file.tell() < _PIPE_HEADER_SIZE:
                raise PerfDataError(f"{self.path}: too small for a perf.data file: record it again")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data_start, self._data_end, attrs = self._read_header()
        self.layouts = self._read_attrs(*attrs)
        """The layout of each event by id."""

    def _read_header(self) -> tuple[int, int, tuple[int, int, int]]:
        magic = self._bytes[:8]
        if magic == _MAGIC_BIG_ENDIAN:
            raise PerfDataError(f"{self.path}: recorded on a big-endian machine: read it there with perf script")
        if magic != _MAGIC:
            raise PerfDataError(f"{self.path}: not a perf.data file (it begins with {magic!r})")
        (header_size,) = struct.unpack_from("<Q", self._bytes, 8)
        if header_size == _PIPE_HEADER_SIZE:
            raise PerfDataError(
                f"{self.path}: written in pipe mode: turn it into a file with "
                f"`perf inject -i {self.path} -o perf.file.data`, or record with `perf record -o FILE`"
            )
        if len(self._bytes) < _HEADER.size:
            raise PerfDataError(f"{self.path}: ends inside its header: record it again")
        _, _, attr_size, attr_at, attr_bytes, data_at, data_bytes, _, _, features = _HEADER.unpack_from(self._bytes)
        if features[_FEATURE_COMPRESSED // 8] >> _FEATURE_COMPRESSED % 8 & 1:
            raise self.compressed()
        # perf fills in the size at its end; a killed perf leaves 0, and the data goes on to the end of the file.
        end = data_at + data_bytes if data_bytes else len(self._bytes)
        if end > len(self._bytes):
            self.faults[FileFault.DATA_CUT_SHORT] += 1
            end = len(self._bytes)
        return data_at, end, (attr_at, attr_bytes, attr_size)

    def compressed(self) -> PerfDataError:
        """What to say of records that are compressed."""
        return PerfDataError(
            f"{self.path}: its records are compressed: record without -z, or unpack it with "
            f"`perf inject -i {self.path} -o perf.plain.data`"
        )

    def _read_attrs(self, at: int, size: int, entry_size: int) -> dict[int, EventLayout]:
        if entry_size < _ATTR_MINIMUM + _SECTION.size or at + size > len(self._bytes) or size < entry_size:
            raise PerfDataError(f"{self.path}: the section of event attributes is damaged: record it again")
        layouts: dict[int, EventLayout] = {}
        self._default: EventLayout | None = None
        for entry in range(at, at + size - entry_size + 1, entry_size):
            layout = self._layout(entry, entry_size - _SECTION.size)
            ids_at, ids_size = _SECTION.unpack_from(self._bytes, entry + entry_size - _SECTION.size)
            if ids_at + ids_size > len(self._bytes):
                raise PerfDataError(f"{self.path}: the ids of an event lie outside of the file: record it again")
            for (number,) in struct.iter_unpack("<Q", self._bytes[ids_at : ids_at + ids_size // 8 * 8]):
                layouts[number] = layout
            if entry == at:
                self._default = layout
        if size >= 2 * entry_size:
            # With several events, a record of an unknown id cannot be read for sure.
            self._only = None
        else:
            self._only = self._default
        return layouts

    def _layout(self, at: int, size: int) -> EventLayout:
        _, _, _, _, sample_type, read_format, flags = _ATTR_HEAD.unpack_from(self._bytes, at)

        def later(offset: int) -> int:
            # Older files have shorter attributes; the fields that they lack are zero.
            return int(struct.unpack_from("<Q", self._bytes, at + offset)[0]) if offset + 8 <= size else 0

        return EventLayout(
            sample_type,
            regs_user=later(_ATTR_REGS_USER),
            read_format=read_format,
            branch_sample_type=later(_ATTR_BRANCH_SAMPLE_TYPE),
            sample_id_all=bool(flags & _SAMPLE_ID_ALL),
        )

    def events(self) -> Iterator[Event]:
        """All events in time order.

        perf writes each ring in turn, so records are sorted: at the end of a round (PERF_RECORD_FINISHED_ROUND)
        everything up to the newest time of the round before is complete. Raises PerfDataError.
        """
        decoder = self.decoder()
        # (time, order in the file, position, size)
        pending: list[tuple[int, int, int, int]] = []
        newest = complete = 0
        for order, (at, kind, size) in enumerate(self._records()):
            if kind == _FINISHED_ROUND:
                while pending and pending[0][0] <= complete:
                    yield from self._decode(decoder, heapq.heappop(pending))
                complete = newest
            elif kind < _FIRST_USER_RECORD:
                time = decoder.time_of(self._bytes[at : at + size])
                newest = max(newest, time)
                heapq.heappush(pending, (time, order, at, size))
        while pending:
            yield from self._decode(decoder, heapq.heappop(pending))
        self.faults.update(decoder.faults)

    def decoder(self) -> RecordDecoder:
        """A decoder of this file's records."""
        return RecordDecoder(self.layouts, self._only or (None if self.layouts else self._default))

    def data_section(self) -> tuple[mmap.mmap, int, int]:
        """The mapped file, and where its records begin and end."""
        return self._bytes, self._data_start, self._data_end

    def _decode(self, decoder: RecordDecoder, entry: tuple[int, int, int, int]) -> Iterator[Event]:
        _, _, at, size = entry
        event = decoder.decode(self._bytes[at : at + size])
        if event is not None:
            yield event

    def _records(self) -> Iterator[tuple[int, int, int]]:
        # (position, type, size) of each record of the data section.
        at, end = self._data_start, self._data_end
        while at + _RECORD_HEADER.size <= end:
            kind, _, size = _RECORD_HEADER.unpack_from(self._bytes, at)
            if size < _RECORD_HEADER.size:
                self.faults[FileFault.BAD_RECORD_SIZE] += 1
                return
            if at + size > end:
                self.faults[FileFault.DATA_CUT_SHORT] += 1
                return
            if kind in _COMPRESSED:
                raise self.compressed()
            yield at, kind, size
            at += size
            if kind == _AUXTRACE and size >= 16:
                # The trace itself follows its record, which tells only its size.
                at += struct.unpack_from("<Q", self._bytes, at - size + 8)[0]
        if at != end:
            self.faults[FileFault.DATA_CUT_SHORT] += 1

    def close(self) -> None:
        """Unmap the file."""
        self._bytes.close()


def read_perf_data(path: str | PathLike[str]) -> Iterator[Event]:
    """The events of a perf.data file in time order; see `PerfData` for what could not be read.

    Raises PerfDataError for a file that cannot be read, with what to do instead.
    """
    file = PerfData(path)
    try:
        yield from file.events()
    finally:
        file.close()
