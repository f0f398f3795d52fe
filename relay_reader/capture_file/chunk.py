"""The container of a capture file: a file head, then chunks one after another, each whole in itself.

A chunk is a header, a directory of parts, and the parts, each a zstd frame. Two checksums (CRC-32) cover the header
and all that follows it, so that a chunk is taken whole or not at all; what a damaged chunk was counts as lost, and the
next one is found by its magic. Chunks are only ever appended: whoever stops in the middle loses the last one.

All numbers are little-endian. What the parts mean is told by `event_rows.py` and `facts.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING
from zlib import crc32

from relay_reader.capture_kind import CAPTURE_FILE_MAGIC

if TYPE_CHECKING:
    import zstandard

MAGIC = CAPTURE_FILE_MAGIC
VERSION = 1
FILE_HEAD = struct.Struct("<8sII")
"""MAGIC, version, 0."""
CHUNK_MAGIC = b"\xf5ptapchk"
_HEADER = struct.Struct("<8sHHIIIqqII")
"""CHUNK_MAGIC, kind, count of parts, sequence, events, bytes behind the header, first and last time, checksum of those
bytes, checksum of this header without this field."""
HEADER_SIZE = _HEADER.size
_ENTRY = struct.Struct("<HHII")
"""Of the directory: number of the part, 0, bytes unpacked, bytes as stored."""

MAXIMUM_CHUNK = 1 << 26
"""Bytes of a chunk, unpacked or stored, and so of a reader's memory: none is written that has more."""
_LEVEL = 3
"""Of zstd: stacks of g++ become 7% smaller than by level 1, at 1.0 GB/s instead of 1.2. Level 5 takes 2.5 times that
for another 6%."""
_WINDOW_LOG = 23
"""How far back zstd looks for what it has seen: all of a chunk, so that each stack is a difference to those before."""


class ChunkKind(IntEnum):
    """What a chunk holds."""

    FACTS = 1
    """What a source of events is: one JSON object."""
    EVENTS = 2
    BLOB = 3
    """A named piece of bytes that events speak of: a vdso, the kernel's symbols."""
    END = 4
    """The recording has ended in order; what it came to, one JSON object."""


class ChunkFault(Enum):
    """What of a capture file was not read."""

    CUT_SHORT = "the file ends inside a chunk"
    DAMAGED = "a chunk is damaged"
    NOT_A_CHUNK = "bytes between chunks belong to none"
    MISSING = "chunks are missing between others"
    UNKNOWN_KIND = "a chunk is of a kind that this version of ptap does not know"


class ChunkError(Exception):
    """A chunk is not what its header says; the text says how."""


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The header of a chunk, its own checksum right."""

    kind: int
    part_count: int
    sequence: int
    events: int
    body_size: int
    first_time_ns: int
    last_time_ns: int
    body_checksum: int


def _compressor() -> zstandard.ZstdCompressor:
    # One for each chunk: they are not to be used by two threads at once.
    import zstandard

    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=_WINDOW_LOG)
    )


def packed_chunk(
    kind: ChunkKind, sequence: int, parts: Mapping[int, bytes], events: int = 0, times: tuple[int, int] = (0, 0)
) -> bytes:
    """A chunk of `parts` (by number) that is ready to be written. Raises ChunkError when it would be too large."""
    if sum(map(len, parts.values())) > MAXIMUM_CHUNK:
        raise ChunkError(f"a chunk holds at most {MAXIMUM_CHUNK} bytes")
    compressor = _compressor()
    stored = {number: compressor.compress(content) for number, content in parts.items()}
    directory = b"".join(_ENTRY.pack(number, 0, len(parts[number]), len(content)) for number, content in stored.items())
    body = b"".join((directory, *stored.values()))
    head = _HEADER.pack(
        *(CHUNK_MAGIC, kind, len(stored), sequence & 0xFFFFFFFF, events, len(body), *times, crc32(body), 0)
    )[:-4]
    return b"".join((head, struct.pack("<I", crc32(head)), body))


def read_header(content: bytes) -> ChunkHeader | None:
    """The header that `content` begins with; None where that is none, or damaged."""
    if len(content) < HEADER_SIZE or not content.startswith(CHUNK_MAGIC):
        return None
    _, kind, parts, sequence, events, size, first, last, body_checksum, checksum = _HEADER.unpack_from(content)
    if checksum != crc32(content[: HEADER_SIZE - 4]) or size > MAXIMUM_CHUNK or parts * _ENTRY.size > size:
        return None
    return ChunkHeader(kind, parts, sequence, events, size, first, last, body_checksum)


def part_sizes(header: ChunkHeader, body: bytes) -> dict[int, tuple[int, int]]:
    """(bytes unpacked, bytes as stored) of each part. Raises ChunkError when body and header do not fit."""
    if len(body) != header.body_size or crc32(body) != header.body_checksum:
        raise ChunkError("its checksum is not right")
    sizes: dict[int, tuple[int, int]] = {}
    unpacked = 0
    at = header.part_count * _ENTRY.size
    for number, _, raw, stored in _ENTRY.iter_unpack(body[:at]):
        if number in sizes:
            raise ChunkError(f"part {number} comes twice")
        sizes[number] = raw, stored
        unpacked += raw
        at += stored
    if at != len(body) or unpacked > MAXIMUM_CHUNK:
        raise ChunkError("its parts do not fill it")
    return sizes


def unpacked_parts(header: ChunkHeader, body: bytes) -> dict[int, bytes]:
    """The parts of a chunk, by number. Raises ChunkError."""
    import zstandard

    sizes = part_sizes(header, body)
    unpacker = zstandard.ZstdDecompressor(max_window_size=MAXIMUM_CHUNK)
    parts: dict[int, bytes] = {}
    at = header.part_count * _ENTRY.size
    for number, (raw, stored) in sizes.items():
        frame = body[at : at + stored]
        at += stored
        try:
            if zstandard.frame_content_size(frame) != raw:
                raise ChunkError(f"part {number} does not have the size that the directory gives")
            parts[number] = unpacker.decompress(frame, max_output_size=raw) if raw else b""
        except zstandard.ZstdError as error:
            raise ChunkError(f"part {number} cannot be unpacked: {error}") from None
    return parts
