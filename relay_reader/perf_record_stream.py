"""The records of perf.data one after the other, from a file or a pipe, those too that are packed in others by zstd.

Owns where a record ends and what may follow it (trace data), and the unpacking of PERF_RECORD_COMPRESSED: those hold
one stream of zstd, whose plain bytes are again records, which may begin in one and end in another.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Any, BinaryIO

RECORD_HEADER = struct.Struct("<IHH")
FIRST_USER_RECORD = 64
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

_PIECE = 1 << 10
"""Bytes unpacked at once: so few that what comes out of them is some 30 MB at the most."""
_LARGEST_WINDOW = 1 << 27
_SKIPPED_AT_ONCE = 1 << 20


class FileFault(Enum):
    """Why a part of a file was not read; the rest stands."""

    DATA_CUT_SHORT = "the file ends inside its data section"
    BAD_RECORD_SIZE = "a record claims an impossible size: what is behind it is not read"
    BAD_COMPRESSION = "compressed records are damaged: what is in them and in those behind them is not read"
    COMPRESSED_END = "the compressed records end inside a record"
    FEATURE_DAMAGED = "a feature section is damaged"
    LATE_RECORD = "a record came long after later ones: the mappings of its time may have been others"


class RecordStream:
    """Iterates over whole records, as bytes. `faults` counts why there are no more."""

    def __init__(self, file: BinaryIO, size: int | None, faults: Counter[Any]) -> None:
        """Reads `file` from where it stands; `size` bytes of it, or all when that is None."""
        self.faults = faults
        self.unread = 0
        """Bytes behind the fault that ended the reading, as far as that is known."""
        self.compressed = 0
        """Compressed records that were met."""
        self._file = file
        self._left = size
        self._unpacker: Any = None
        self._unpacked = bytearray()
        self._broken = False

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
        if self._left is not None:
            count = min(count, self._left)
        data = self._file.read(count)
        if self._left is not None:
            self._left -= len(data)
        return data

    def _plain(self) -> Iterator[bytes]:
        while head := self._take(RECORD_HEADER.size):
            size = RECORD_HEADER.unpack(head)[2] if len(head) == RECORD_HEADER.size else 0
            if len(head) == RECORD_HEADER.size and not _is_possible(*RECORD_HEADER.unpack(head)):
                self.faults[FileFault.BAD_RECORD_SIZE] += 1
                self.unread = len(head) + (self._left or 0)
                return
            record = head + self._take(size - len(head)) if size > len(head) else head
            if len(record) < max(size, RECORD_HEADER.size):
                self.faults[FileFault.DATA_CUT_SHORT] += 1
                self.unread = len(record)
                return
            yield record
            if not self._skip(_payload(record)):
                self.faults[FileFault.DATA_CUT_SHORT] += 1
                return

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
        if self._broken:
            self.faults[FileFault.BAD_COMPRESSION] += 1
            return
        content = record[RECORD_HEADER.size :]
        if kind == COMPRESSED2:
            if len(content) < 8:
                self._break_off()
                return
            (size,) = struct.unpack_from("<Q", content)
            content = content[8 : 8 + size]
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
            kind, misc, size = RECORD_HEADER.unpack_from(self._unpacked, at)
            # What is packed are records of the kernel, and none of them is packed again.
            if not _is_possible(kind, misc, size) or kind in (COMPRESSED, COMPRESSED2):
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


def _is_possible(kind: int, _: int, size: int) -> bool:
    # The kernel's records are whole words; of perf's own some are not.
    return size >= RECORD_HEADER.size and (size % 8 == 0 or kind >= FIRST_USER_RECORD)


def _payload(record: bytes) -> int:
    """Bytes that follow a record and are not in its size."""
    kind, _, size = RECORD_HEADER.unpack_from(record)
    if kind == AUXTRACE and size >= 16:
        return int(struct.unpack_from("<Q", record, 8)[0])
    if kind == HEADER_TRACING_DATA and size >= 12:
        return -(-int(struct.unpack_from("<I", record, 8)[0]) // 8) * 8
    return 0
