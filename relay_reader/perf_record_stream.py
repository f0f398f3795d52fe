"""The records of perf.data one after the other, from a file or a pipe, those too that are packed in others by zstd.

Owns where a record ends and what may follow it (trace data), and the unpacking of PERF_RECORD_COMPRESSED: those hold
one stream of zstd, whose plain bytes are again records, which may begin in one and end in another.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from relay_reader.perf_record import RecordDecoder

RECORD_HEADER = struct.Struct("<IHH")
FIRST_USER_RECORD = 64
KIND_LIMIT = 256
"""Types are given out one by one: one this large is of no later perf, but no record at all."""
HEADER_ATTR = 64
HEADER_TRACING_DATA = 66
HEADER_BUILD_ID = 67
FINISHED_ROUND = 68
AUXTRACE = 71
EVENT_UPDATE = 78
HEADER_FEATURE = 80
COMPRESSED = 81
COMPRESSED2 = 83

USER_RECORDS = {
    HEADER_ATTR: "HEADER_ATTR",
    65: "HEADER_EVENT_TYPE",
    HEADER_TRACING_DATA: "HEADER_TRACING_DATA",
    HEADER_BUILD_ID: "HEADER_BUILD_ID",
    FINISHED_ROUND: "FINISHED_ROUND",
    69: "ID_INDEX",
    70: "AUXTRACE_INFO",
    AUXTRACE: "AUXTRACE",
    72: "AUXTRACE_ERROR",
    73: "THREAD_MAP",
    74: "CPU_MAP",
    75: "STAT_CONFIG",
    76: "STAT",
    77: "STAT_ROUND",
    EVENT_UPDATE: "EVENT_UPDATE",
    79: "TIME_CONV",
    HEADER_FEATURE: "HEADER_FEATURE",
    COMPRESSED: "COMPRESSED",
    82: "FINISHED_INIT",
    COMPRESSED2: "COMPRESSED2",
    84: "BPF_METADATA",
}
"""Records that perf itself writes (enum perf_user_event_type, tools/lib/perf/include/perf/event.h)."""

_WORD = 8
_PIECE = 1 << 10
"""Bytes unpacked at once: so few that what comes out of them is some 30 MB at the most."""
_LARGEST_WINDOW = 1 << 27
_SKIPPED_AT_ONCE = 1 << 20
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
"""What a stream of zstd begins with."""


class FileFault(Enum):
    """Why a part of a file was not read; the rest stands."""

    DATA_CUT_SHORT = "the file ends inside its data section"
    BAD_RECORD_SIZE = "a record has an impossible size or type: what is between it and the next sound ones is not read"
    BAD_COMPRESSION = "compressed records are damaged: what is in them and in those behind them is not read"
    COMPRESSED_END = "the compressed records end inside a record"
    THREAD_FILE_MISSING = "a file with the records of one of perf's threads is missing in the folder"
    FEATURE_DAMAGED = "a feature section is damaged"
    LATE_RECORD = "a record came long after later ones: the mappings of its time may have been others"


class RecordStream:
    """Iterates over whole records, as bytes. `faults` counts what was not read, and why."""

    def __init__(
        self,
        file: BinaryIO,
        size: int | None,
        faults: Counter[Any],
        decoder: Callable[[], RecordDecoder | None] = lambda: None,
        last: bytes = b"",
    ) -> None:
        """Reads `file` from where it stands; `size` bytes of it, or all when that is None.

        `decoder` is asked behind damage for what knows the events, which in a pipe are records, too; `last` is the
        kernel's record before the first one.
        """
        self.faults = faults
        self.unread = 0
        """Bytes that were not read."""
        self.compressed = 0
        """Compressed records that were met."""
        self._file = file
        self._left = size
        self._unpacker: Any = None
        self._unpacked = bytearray()
        self._broken = False
        self._decoder = decoder
        self._last = last
        self._ahead = memoryview(b"")

    def __iter__(self) -> Iterator[bytes]:
        for record in self._plain():
            kind = RECORD_HEADER.unpack_from(record)[0]
            if kind in (COMPRESSED, COMPRESSED2):
                yield from self._inside(record, kind)
            else:
                yield record
        if self._unpacked and not self._broken:
            self.faults[FileFault.COMPRESSED_END] += 1

    def _take(self, count: int) -> bytes:
        if self._ahead:
            taken, self._ahead = bytes(self._ahead[:count]), self._ahead[count:]
            return taken + self._take(count - len(taken)) if len(taken) < count else taken
        if self._left is not None:
            count = min(count, self._left)
        data = self._file.read(count)
        if self._left is not None:
            self._left -= len(data)
        return data

    def _plain(self) -> Iterator[bytes]:
        while head := self._take(RECORD_HEADER.size):
            kind, _, size = RECORD_HEADER.unpack(head) if len(head) == RECORD_HEADER.size else (0, 0, 0)
            if len(head) == RECORD_HEADER.size and not is_possible(kind, size):
                self.faults[FileFault.BAD_RECORD_SIZE] += 1
                self._go_on_behind(head)
                continue
            record = head + self._take(size - len(head)) if size > len(head) else head
            if len(record) < max(size, RECORD_HEADER.size):
                # Its size may be what is damaged: then records follow that are whole.
                self._end_in(record)
                continue
            if kind < FIRST_USER_RECORD:
                self._last = record
            yield record
            if not self._skip(payload_size(record)):
                self.faults[FileFault.DATA_CUT_SHORT] += 1
                return

    def _end_in(self, record: bytes) -> None:
        """Pass over the last bytes, which begin with a record that is longer than they are."""
        found = self._go_on_behind(record)
        self.faults[FileFault.BAD_RECORD_SIZE if found else FileFault.DATA_CUT_SHORT] += 1

    def _go_on_behind(self, damaged: bytes) -> bool:
        """Pass over what is no record, from the bytes `damaged` on, to where records begin again; whether they do."""
        from relay_reader.perf_record_boundary import BoundarySearch

        search = BoundarySearch(self._decoder(), self._last, 1 if self.compressed else _WORD)
        data, ended, found = damaged, False, False
        while not found and not ended:
            more = self._take(_SKIPPED_AT_ONCE)
            ended = not more
            found = search.add(data + more, ended)
            data = b""
        self.unread += search.passed
        self._ahead = memoryview(bytes(search.content) + bytes(self._ahead))
        # What was passed over may have held a part of the compressed stream.
        self._broken = True
        return found

    def _skip(self, count: int) -> bool:
        """Pass over `count` bytes; False when they are not all there."""
        while count > 0:
            passed = len(self._take(min(count, _SKIPPED_AT_ONCE)))
            if not passed:
                return False
            count -= passed
        return True

    # --- compressed records

    def _inside(self, record: bytes, kind: int) -> Iterator[bytes]:
        """The records that are complete with this one's part of the stream."""
        self.compressed += 1
        content = record[RECORD_HEADER.size :]
        if kind == COMPRESSED2:
            if len(content) < 8:
                self._break_off()
                return
            (size,) = struct.unpack_from("<Q", content)
            content = content[8 : 8 + size]
        if self._broken and content.startswith(_FRAME_MAGIC):  # nothing before it is needed
            self._unpacker, self._broken = None, False
            self._unpacked.clear()
        if self._broken:
            self.faults[FileFault.BAD_COMPRESSION] += 1
            return
        for at in range(0, len(content), _PIECE):
            try:
                self._unpack(content[at : at + _PIECE])
            except Exception:  # the library has an exception of its own, which is not imported for plain files
                self._break_off()
                return
            yield from self._whole_ones()
            if self._broken:
                return

    def _unpack(self, data: bytes) -> None:
        while data:
            if self._unpacker is None:
                import zstandard

                self._unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()
            self._unpacked += self._unpacker.decompress(data)
            data = b""
            if self._unpacker.eof:
                data, self._unpacker = self._unpacker.unused_data, None

    def _whole_ones(self) -> Iterator[bytes]:
        at, end = 0, len(self._unpacked)
        while end - at >= RECORD_HEADER.size:
            kind, _, size = RECORD_HEADER.unpack_from(self._unpacked, at)
            # What is packed are records of the kernel, and none of them is packed again.
            if not is_possible(kind, size) or kind in (COMPRESSED, COMPRESSED2):
                self._break_off()
                return
            if at + size > end:
                break
            yield bytes(self._unpacked[at : at + size])
            at += size
        del self._unpacked[:at]

    def _break_off(self) -> None:
        self._broken = True
        self.faults[FileFault.BAD_COMPRESSION] += 1


def is_possible(kind: int, size: int) -> bool:
    """Whether a record can be of this type and size: the kernel's are whole words, of perf's own some are not."""
    return 0 < kind < KIND_LIMIT and size >= RECORD_HEADER.size and (size % 8 == 0 or kind >= FIRST_USER_RECORD)


def payload_size(record: bytes | memoryview) -> int:
    """Bytes that follow a record and are not in its size."""
    kind, _, size = RECORD_HEADER.unpack_from(record)
    if kind == AUXTRACE and size >= 16:
        return int(struct.unpack_from("<Q", record, 8)[0])
    if kind == HEADER_TRACING_DATA and size >= 12:
        return -(-int(struct.unpack_from("<I", record, 8)[0]) // 8) * 8
    return 0
