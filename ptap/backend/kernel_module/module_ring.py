"""One CPU's records of the running kernel module, drained beside the perf rings."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping

from ptap.backend.perf_events.ring_buffer import TimedRecord
from ptap_target.session_folder import SessionError
from relay_reader import record_layout as layout
from relay_reader.perf_record import EventLayout

MAGIC = layout.RECORD_MAGIC.to_bytes(4, "little")
"""What its records begin with; those of perf begin with a small number."""
_BEGIN = struct.Struct("<II")
_TIME = struct.Struct("<Q")
_READ_BYTES = 1 << 20


class ModuleRing:
    """The records of the CPU whose file `fd` is, which is closed with it. `size` is the ring's in the kernel, bytes."""

    fd = -1  # no poll tells when there is something to be read

    def __init__(self, fd: int, cpu: int, size: int, watch: Callable[[bytes], None] | None = None) -> None:
        """`watch` is given all that is read, before anybody else."""
        self.cpu = cpu
        self.size = size
        self.skipped = 0
        """Always 0: what is not read the module itself drops and counts."""
        self._file = fd
        self._watch = watch

    def drain(self, layouts: Mapping[int, EventLayout], out: list[TimedRecord], *, keep_samples: bool) -> int:
        """Append the records that are there to `out`; at most about a ring's worth, which hot probes fill again.

        Raises SessionError where the module gives what is no record.
        """
        done = 0
        while keep_samples and done <= self.size:
            content = os.read(self._file, _READ_BYTES)
            if not content:
                break
            done += len(content)
            if self._watch is not None:
                self._watch(content)
            self._split(content, out)
        return done

    def _split(self, content: bytes, out: list[TimedRecord]) -> None:
        at = 0
        while at < len(content):
            room = len(content) - at
            magic, length = _BEGIN.unpack_from(content, at) if room >= layout.RECORD_HEAD_SIZE else (0, 0)
            if magic != layout.RECORD_MAGIC or not layout.RECORD_HEAD_SIZE <= length <= room:
                raise SessionError(
                    f"the kernel module gave what is no record at CPU {self.cpu}: it was unloaded, or is of another "
                    "version of ptap; run it again"
                )
            (time_ns,) = _TIME.unpack_from(content, at + layout.RECORD_HEAD_TIME_NS)
            out.append((time_ns, self.cpu, content[at : at + length]))
            at += length

    def close(self) -> None:
        """Close its file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
