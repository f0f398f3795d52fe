"""Records that are kept as they are until the capture has ended: packed in memory, and beyond a size in a file.

Reading a record takes ten times as long as keeping it, on processors that the traced program could have had.
"""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator, Sequence

from ptap.backend.perf_events.ring_buffer import TimedRecord
from relay_reader.capture import RecordsLost

_LENGTH_BYTES = 8
_LEVEL = 1
"""Of zstd: stacks of one program differ little, and become a twentieth by it."""
_IN_MEMORY = 128 << 20
"""Bytes: minutes of samples of a usual program. The file beyond is in the folder for temporary files, and has no
name."""


class RecordSpool:
    """Batches of records in the order in which they were added. `add` raises OSError when there is no room."""

    def __init__(self) -> None:
        import zstandard

        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="ptap-")  # noqa: SIM115, `records` ends it
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def add(self, batch: Sequence[TimedRecord | RecordsLost]) -> None:
        """Keep a batch."""
        rows = [item if isinstance(item, tuple) else (item.time_ns, item.cpu, item.count) for item in batch]
        # Of numbers and bytes alone, and read by the process that has written it.
        packed = self._compressor.compress(marshal.dumps(rows))
        self._file.write(len(packed).to_bytes(_LENGTH_BYTES, "little"))
        self._file.write(packed)

    def records(self) -> Iterator[TimedRecord | RecordsLost]:
        """All that was kept; only once."""
        with self._file as file:
            file.seek(0)
            while head := file.read(_LENGTH_BYTES):
                packed = file.read(int.from_bytes(head, "little"))
                for time, cpu, what in marshal.loads(self._decompressor.decompress(packed)):
                    yield RecordsLost(time, cpu, what) if isinstance(what, int) else (time, cpu, what)
