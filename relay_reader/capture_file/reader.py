"""Reading a capture file, a chunk at a time: what is whole is delivered, what is not is counted and named.

Memory is that of one chunk. A damaged chunk costs its own events, as many as its header tells: they come as
`RecordsLost` where they were. A file that still grows can be followed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from cfi_tables.progress import progress
from relay_reader.capture import Event, RecordsLost
from relay_reader.capture_file.chunk import (
    CHUNK_MAGIC,
    FILE_HEAD,
    HEADER_SIZE,
    MAGIC,
    VERSION,
    ChunkError,
    ChunkFault,
    ChunkHeader,
    ChunkKind,
    part_sizes,
    read_header,
    unpacked_parts,
)
from relay_reader.capture_file.event_decoder import DecodedChunk
from relay_reader.capture_file.facts import FactsError, SourceEnd, SourceFacts, read_end, read_facts
from relay_reader.capture_file.row_layout import MOST_SOURCES, ROWS, LayoutError, Part, layouts_of

_SEARCHED = 1 << 20
"""Bytes that are looked at once for the next chunk."""
_MOST_SEARCHES_INSIDE = 64
"""Of damaged chunks that are searched for others: each costs a look at up to MAXIMUM_CHUNK bytes once more."""
_MOST_HELD = 1 << 28
_FOLLOW_WAIT_S = 0.1


class CaptureFileError(Exception):
    """The file is no capture file that can be read; the text says why, and what to do."""


@dataclass(slots=True)
class PartSize:
    """What the parts of one kind take in a file."""

    unpacked: int = 0
    stored: int = 0


@dataclass(slots=True)
class CaptureFile:
    """One capture file. `events` reads it from its beginning; what else it holds is known as far as that was read."""

    path: str
    sources: dict[int, SourceFacts] = field(default_factory=dict)
    blobs: dict[tuple[int, str], bytes] = field(default_factory=dict)
    """What the file holds beside events, by (source, name); kept as long as the file is read."""
    ends: list[SourceEnd] | None = None
    """What the recordings came to; None where the end is missing."""
    faults: Counter[ChunkFault] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    """The first of what the faults count, each with its place."""
    events_lost: int = 0
    """Events of damaged chunks."""
    bytes_skipped: int = 0
    chunks: int = 0
    sizes: dict[str, PartSize] = field(default_factory=dict)
    """By part, of the chunks that were read."""
    _layouts: dict[Part, np.dtype[Any]] = field(default_factory=lambda: dict(ROWS))
    _sequence: int | None = None
    """Of the last chunk that was whole."""
    _held: int = 0
    """Bytes of what is kept as long as the file is read."""
    _searches_inside: int = 0
    _blobs_read: bool = False

    def events(self, *, follow: bool = False) -> Iterator[tuple[int, Event]]:
        """Every event with the number of its source, as they were written.

        With `follow` the end of the file is waited at until its writer has ended. Raises CaptureFileError and OSError.
        """
        for header, parts in self.chunk_parts(follow=follow):
            yield from self._events_of(header, parts)

    def read_facts(self) -> None:
        """Read up to the first events, for what the file says of itself. Raises as `events` does."""
        for header, parts in self.chunk_parts():
            if header.kind == ChunkKind.EVENTS:
                return
            for _ in self._events_of(header, parts):
                pass

    def read_blobs(self) -> None:
        """Read what lies further behind and is no event, once. Raises as `events` does."""
        if self._blobs_read:
            return
        self._blobs_read = True
        further = CaptureFile(self.path)
        for header, parts in further.chunk_parts():
            if header.kind in (ChunkKind.FACTS, ChunkKind.BLOB):
                for _ in further._events_of(header, parts):
                    pass
        self.blobs.update(further.blobs)

    def decoded(self, parts: dict[int, bytes]) -> DecodedChunk:
        """The events of a chunk's parts. Raises ChunkError."""
        return DecodedChunk(parts, self._layouts)

    def chunk_parts(self, *, follow: bool = False) -> Iterator[tuple[ChunkHeader, dict[int, bytes] | None]]:
        """Each chunk; None for the parts of a damaged one."""
        self._restart()
        name = os.path.basename(self.path)
        with (
            open(self.path, "rb") as file,
            progress(f"reading {name}", None if follow else os.path.getsize(self.path), interleaved=True) as task,
        ):
            self._check_head(file, follow)
            while True:
                task.done = at = file.tell()
                content = _read(file, HEADER_SIZE, follow)
                if not content:
                    return
                header = read_header(content)
                if header is None:
                    if len(content) < HEADER_SIZE and CHUNK_MAGIC.startswith(content[: len(CHUNK_MAGIC)]):
                        self._note(ChunkFault.CUT_SHORT, at, len(content))
                        return
                    self._search(file, at)
                    continue
                body = _read(file, header.body_size, follow)
                yield header, self._parts_of(header, body, at)
                if len(body) < header.body_size or self._sequence != header.sequence:
                    self._look_inside(file, at, at + HEADER_SIZE + len(body))

    def _restart(self) -> None:
        self.faults.clear()
        self.damage.clear()
        self.sizes.clear()
        self.events_lost = self.bytes_skipped = self.chunks = 0
        self._held = self._searches_inside = 0
        self._sequence, self.ends = None, None

    def _check_head(self, file: IO[bytes], follow: bool) -> None:
        head = _read(file, FILE_HEAD.size, follow)
        if len(head) < FILE_HEAD.size and MAGIC.startswith(head[: len(MAGIC)]):
            raise CaptureFileError(
                f"{self.path}: it ends before its first chunk: nothing was recorded; record it again"
            )
        if not head.startswith(MAGIC):
            raise CaptureFileError(f"{self.path}: no capture file of ptap (it begins with {head[:8]!r})")
        version = FILE_HEAD.unpack(head)[1]
        if version > VERSION:
            raise CaptureFileError(
                f"{self.path}: format {version}, and this version of ptap reads up to {VERSION}: "
                "read it with the ptap that wrote it, or a newer one"
            )

    def _parts_of(self, header: ChunkHeader, body: bytes, at: int) -> dict[int, bytes] | None:
        """The parts of the chunk at `at`; None, and counted, when they are damaged or of no known kind."""
        if len(body) < header.body_size:
            self.events_lost += header.events
            self._note(ChunkFault.CUT_SHORT, at, HEADER_SIZE + len(body))
            return None
        try:
            parts = unpacked_parts(header, body)
        except ChunkError as error:
            self._lose(header, at, str(error))
            return None
        if self._sequence is not None and header.sequence != (self._sequence + 1) & 0xFFFFFFFF:
            self._note(ChunkFault.MISSING, at, 0, f"number {header.sequence} follows {self._sequence}")
        self._sequence = header.sequence
        self.chunks += 1
        if header.kind not in ChunkKind.__members__.values():
            self._note(ChunkFault.UNKNOWN_KIND, at, HEADER_SIZE + len(body))
            return None
        self._count_sizes(header, body)
        return parts

    def _count_sizes(self, header: ChunkHeader, body: bytes) -> None:
        for number, (unpacked, stored) in part_sizes(header, body).items():
            name = Part(number).name.lower() if number in Part.__members__.values() else f"part {number}"
            if header.kind != ChunkKind.EVENTS:
                name = ChunkKind(header.kind).name.lower()
            size = self.sizes.setdefault(name, PartSize())
            size.unpacked += unpacked
            size.stored += stored
        total = self.sizes.setdefault("headers", PartSize())
        total.stored += HEADER_SIZE + 12 * header.part_count

    def _events_of(self, header: ChunkHeader, parts: dict[int, bytes] | None) -> Iterator[tuple[int, Event]]:
        if parts is None:
            if header.events:
                yield 0, RecordsLost(header.last_time_ns, -1, header.events)
            return
        if header.kind == ChunkKind.EVENTS:
            try:
                chunk = self.decoded(parts)
            except ChunkError as error:
                self._lose(header, None, str(error))
                yield 0, RecordsLost(header.last_time_ns, -1, header.events)
                return
            yield from chunk.events()
            return
        try:
            self._take(ChunkKind(header.kind), json.loads(parts.get(Part.JSON, b"{}")), parts)
        except (FactsError, LayoutError, ValueError, RecursionError) as error:
            self._lose(header, None, str(error))

    def _take(self, kind: ChunkKind, told: Any, parts: dict[int, bytes]) -> None:
        """What a chunk that has no events says. Raises ValueError."""
        self._hold(len(parts.get(Part.JSON, b"")))
        if not isinstance(told, dict):
            raise FactsError("it is no JSON object")
        source = told.get("source", 0)
        if not isinstance(source, int) or not 0 <= source < MOST_SOURCES:
            raise FactsError("its source is no number of one")
        if kind is ChunkKind.FACTS:
            self._layouts = layouts_of(told.get("parts", {}))
            self.sources[source] = read_facts(told.get("facts"))
        elif kind is ChunkKind.BLOB:
            self._hold(len(parts.get(Part.BLOB, b"")))
            self.blobs[source, str(told.get("name"))] = parts.get(Part.BLOB, b"")
        elif kind is ChunkKind.END:
            ends = told.get("ends", [])
            self.ends = [read_end(each) for each in ends] if isinstance(ends, list) else []

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > _MOST_HELD:
            raise FactsError(f"the file has more than {_MOST_HELD} bytes that are no events")

    def _lose(self, header: ChunkHeader, at: int | None, why: str) -> None:
        self.events_lost += header.events
        self._note(ChunkFault.DAMAGED, at, HEADER_SIZE + header.body_size, f"chunk {header.sequence}: {why}")

    def _note(self, fault: ChunkFault, at: int | None, size: int, why: str = "") -> None:
        self.faults[fault] += 1
        self.bytes_skipped += size
        if len(self.damage) < 20:
            place = f" at byte {at}" if at is not None else ""
            self.damage.append(f"{fault.value}{place}" + (f" ({why})" if why else ""))

    def _search(self, file: IO[bytes], at: int) -> None:
        """Go to the next chunk behind `at` whose header is right, or to the end; what lies between is counted."""
        place = _next_header(file, at + 1)
        self._note(ChunkFault.NOT_A_CHUNK, at, place - at)
        file.seek(place)

    def _look_inside(self, file: IO[bytes], at: int, end: int) -> None:
        """Go to the chunk that begins inside of the damaged one at `at`, which bytes are missing of; else to `end`."""
        self._searches_inside += 1
        if self._searches_inside > _MOST_SEARCHES_INSIDE:
            file.seek(end)
            return
        place = _next_header(file, at + HEADER_SIZE)
        file.seek(min(place, end))


def _next_header(file: IO[bytes], begin: int) -> int:
    """Where the next chunk begins from `begin` on whose header is right; the end of the file where there is none."""
    file.seek(begin)
    content = b""
    while True:
        new = file.read(_SEARCHED)
        content += new
        place = content.find(CHUNK_MAGIC)
        while place >= 0 and (len(content) - place >= HEADER_SIZE or not new):
            if read_header(content[place : place + HEADER_SIZE]) is not None:
                return begin + place
            place = content.find(CHUNK_MAGIC, place + 1)
        if not new:
            return begin + len(content)
        # What a header may begin in is looked at again, with what follows.
        begin += max(len(content) - HEADER_SIZE, 0)
        content = content[-HEADER_SIZE:]


def _read(file: IO[bytes], size: int, follow: bool) -> bytes:
    """`size` bytes, fewer at the end of the file; with `follow` only once nobody writes it any more."""
    content = file.read(size)
    while follow and len(content) < size:
        ended = not _is_written(file)
        content += file.read(size - len(content))
        if ended:
            break
        if len(content) < size:
            time.sleep(_FOLLOW_WAIT_S)
    return content


def _is_written(file: IO[bytes]) -> bool:
    """Whether a writer holds its lock on the file."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise CaptureFileError(f"{file.name}: it cannot be followed: {os.strerror(error.errno or 0)}") from None
    fcntl.flock(file.fileno(), fcntl.LOCK_UN)
    return False
