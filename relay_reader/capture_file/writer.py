"""Writing a capture file: events go in one by one, chunks come out when they are full or old enough.

Chunks are appended whole, each by one write: whatever ends the writer, the file holds all chunks before. As long as a
writer lives it holds a lock on the file (flock), by which followers see that more may come.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

from relay_reader.capture import Event, RecordsLost, Sample
from relay_reader.capture_file.chunk import FILE_HEAD, MAGIC, MAXIMUM_CHUNK, VERSION, ChunkKind, packed_chunk
from relay_reader.capture_file.event_encoder import EventEncoder
from relay_reader.capture_file.facts import SourceEnd, SourceFacts, facts_object
from relay_reader.capture_file.row_layout import Part, described_parts

FULL_CHUNK = 1 << 22
"""Bytes after which a chunk is written: eight times as much makes files of g++ 3% smaller, and readers larger."""
LARGEST_BLOB = MAXIMUM_CHUNK // 2
OLDEST_EVENT_S = 1.0
"""How long an event waits for its chunk to be full, and so what a killed recorder loses at the most."""


class CaptureWriteError(Exception):
    """The file cannot be written; the text says why. What was written before stands."""


class CaptureWriter:
    """A new capture file at `path` with the recordings of `sources`.

    With `timely` a thread writes chunks that are old enough, for events that come as they happen. `add`, `add_blob`
    and `close` raise CaptureWriteError, the constructor also OSError.
    """

    def __init__(self, path: str, sources: Sequence[SourceFacts], *, timely: bool = False) -> None:
        self.path = path
        self.bytes_written = 0
        self._encoder = EventEncoder()
        self._sequence = 0
        self._ends = [SourceEnd() for _ in sources]
        self._lock = threading.RLock()
        self._first_added = 0.0
        self.samples_written = 0
        """Samples that are in the file; those of the last chunk still wait to be."""
        self._waiting_samples = 0
        self._failure: CaptureWriteError | None = None
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._take_file()
            self._append(FILE_HEAD.pack(MAGIC, VERSION, 0))
            for number, facts in enumerate(sources):
                told = {"source": number, "parts": described_parts(), "facts": facts_object(facts)}
                self._write(ChunkKind.FACTS, {Part.JSON: _json(told)})
        except BaseException:
            os.close(self._fd)
            raise
        self._closing = threading.Event()
        self._timer: threading.Thread | None = None
        if timely:
            self._timer = threading.Thread(target=self._write_old_chunks, name="capture-file", daemon=True)
            self._timer.start()

    def _take_file(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CaptureWriteError(f"{self.path}: another ptap writes it: give another name by -o") from None
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOLCK, errno.ENOTSUP):  # a pipe, or a filesystem without
                raise
        os.ftruncate(self._fd, 0)

    @property
    def ends(self) -> list[SourceEnd]:
        """What was written of each source so far."""
        return self._ends

    @property
    def failed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._failure is not None

    def add(self, event: Event, source: int = 0) -> None:
        """Take an event. The memory of a sample is read now, its `read_memory` is not asked."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self._encoder.count:
                self._first_added = time.monotonic()
            try:
                self._encoder.add(event, source)
            except (struct.error, OverflowError) as error:
                self._failure = CaptureWriteError(f"{self.path}: an event cannot be stored: {error}")
                raise self._failure from None
            if isinstance(event, RecordsLost):
                self._ends[source].lost += event.count
            elif isinstance(event, Sample):
                self._ends[source].samples += 1
                self._waiting_samples += 1
            if self._encoder.size >= FULL_CHUNK:
                self.flush()

    def add_blob(self, name: str, content: bytes, source: int = 0) -> None:
        """Write bytes under a name. Those of more than a chunk's size are refused, with CaptureWriteError."""
        if len(content) > LARGEST_BLOB:
            raise CaptureWriteError(f"{self.path}: {name} has {len(content)} bytes, which is too much for it")
        with self._lock:
            told = {"source": source, "name": name}
            self._write(ChunkKind.BLOB, {Part.JSON: _json(told), Part.BLOB: content})

    def flush(self) -> None:
        """Write what there is as a chunk."""
        with self._lock:
            encoder, self._encoder = self._encoder, EventEncoder()
            if not encoder.count:
                return
            times = encoder.times or (0, 0)
            self._write(ChunkKind.EVENTS, encoder.parts(), encoder.count, times)
            self.samples_written += self._waiting_samples
            self._waiting_samples = 0

    def close(self, ends: Sequence[SourceEnd] = ()) -> None:
        """Write the rest and the end. `ends` is what the recordings came to, by source."""
        self._stop_timer()
        with self._lock:
            if self._fd < 0:
                return
            try:
                if self._failure is None:
                    self.flush()
                    told = {"ends": [asdict(end) for end in ends or self._ends]}
                    self._write(ChunkKind.END, {Part.JSON: _json(told)})
            finally:
                os.close(self._fd)
                self._fd = -1

    def abandon(self) -> None:
        """Leave the file as it is, as if the writer had been killed."""
        self._stop_timer()
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _stop_timer(self) -> None:
        self._closing.set()
        if self._timer is not None:
            self._timer.join()

    def _write(
        self, kind: ChunkKind, parts: dict[int, bytes], events: int = 0, times: tuple[int, int] = (0, 0)
    ) -> None:
        self._append(packed_chunk(kind, self._sequence, parts, events, times))
        self._sequence += 1

    def _append(self, content: bytes) -> None:
        """Write all of `content`, or nothing of it."""
        if self._failure is not None:
            raise self._failure
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            why = os.strerror(error.errno or 0)
            self._failure = CaptureWriteError(f"{self.path}: {why}; what was recorded until then is in it")
            self._cut_back()
            raise self._failure from error
        self.bytes_written += len(content)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.bytes_written)
        except OSError:
            return  # a reader leaves half a chunk out, too

    def _write_old_chunks(self) -> None:
        while not self._closing.wait(OLDEST_EVENT_S / 4):
            with self._lock:
                if self._encoder.count and time.monotonic() - self._first_added >= OLDEST_EVENT_S:
                    try:
                        self.flush()
                    except CaptureWriteError:
                        return  # whoever adds the next event is told


def _json(told: object) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "surrogateescape")
