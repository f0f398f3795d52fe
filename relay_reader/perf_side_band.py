"""Decoding of the perf records that are no samples: what processes and the kernel do between them, and what was lost.

Owns their layouts (linux/perf_event.h, enum perf_event_type) and the names of those that tell nothing about stacks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from relay_reader.capture import (
    KERNEL_PID,
    Event,
    KernelCodeNamed,
    Mapping,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    RecordsLost,
    ThreadExited,
    ThreadNamed,
)

Buffer: TypeAlias = bytes | bytearray | memoryview

# enum perf_event_type
RECORD_MMAP = 1
RECORD_LOST = 2
RECORD_COMM = 3
RECORD_EXIT = 4
RECORD_FORK = 7
RECORD_MMAP2 = 10
RECORD_LOST_SAMPLES = 13
RECORD_KSYMBOL = 17

PASSED_OVER = {
    5: "THROTTLE",
    6: "UNTHROTTLE",
    8: "READ",
    11: "AUX",
    12: "ITRACE_START",
    14: "SWITCH",
    15: "SWITCH_CPU_WIDE",
    16: "NAMESPACES",
    18: "BPF_EVENT",
    19: "CGROUP",
    20: "TEXT_POKE",
    21: "AUX_OUTPUT_HW_ID",
    22: "CALLCHAIN_DEFERRED",
}
"""Types of records that are known and tell nothing that is used here."""

# perf_event_header.misc
MISC_CPUMODE = 7
MISC_KERNEL = 1
_MISC_MMAP_DATA = 1 << 13
_MISC_COMM_EXEC = 1 << 13
_MISC_FORK_EXEC = 1 << 13
_MISC_MMAP_BUILD_ID = 1 << 14
_MISC_LOST_SAMPLES_BPF = 1 << 15

_KSYMBOL_UNREGISTER = 1
_PROT_EXEC = 4
_NO_PID = 0xFFFFFFFF

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_PID = struct.Struct("<I")
_TASK = struct.Struct("<IIIIQ")
_COMM = struct.Struct("<II")
_LOST = struct.Struct("<QQ")
_MAPPING = struct.Struct("<IIQQQ")
_PROTECTION = struct.Struct("<II")
_KSYMBOL = struct.Struct("<QIHH")


@dataclass(frozen=True, slots=True)
class RecordTrailer:
    """What ends a record that is no sample: struct sample_id, where the event has attr.sample_id_all."""

    size: int
    time_at: int
    """Where the time lies in it, -1 without one."""
    cpu_at: int

    def time_and_cpu(self, record: Buffer) -> tuple[int, int]:
        """Nanoseconds and CPU; (0, -1) without."""
        start = len(record) - self.size
        time = _U64.unpack_from(record, start + self.time_at)[0] if self.time_at >= 0 else 0
        cpu = _U32.unpack_from(record, start + self.cpu_at)[0] if self.cpu_at >= 0 else -1
        return time, cpu


def _text(record: Buffer, start: int, end: int) -> str:
    return bytes(record[start:end]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _comm(record: Buffer, trailer: RecordTrailer, misc: int) -> Event:
    pid, tid = _COMM.unpack_from(record, 8)
    comm = _text(record, 16, len(record) - trailer.size)
    time, _ = trailer.time_and_cpu(record)
    if misc & _MISC_COMM_EXEC:
        return ProcessExeced(time, pid, comm)
    return ThreadNamed(time, pid, tid, comm)


def _fork(record: Buffer, trailer: RecordTrailer, misc: int) -> Event:
    pid, parent_pid, tid, parent_tid, time = _TASK.unpack_from(record, 8)
    return ProcessForked(time, pid, parent_pid, tid, parent_tid, not misc & _MISC_FORK_EXEC)


def _exit(record: Buffer, trailer: RecordTrailer, misc: int) -> Event:
    pid, _, tid, _, time = _TASK.unpack_from(record, 8)
    return ThreadExited(time, pid, tid)


def _lost(record: Buffer, trailer: RecordTrailer, misc: int) -> Event:
    _, count = _LOST.unpack_from(record, 8)
    time, cpu = trailer.time_and_cpu(record)
    return RecordsLost(time, cpu, count)


def _lost_samples(record: Buffer, trailer: RecordTrailer, misc: int) -> Event | None:
    if misc & _MISC_LOST_SAMPLES_BPF:  # a filter left them out, as it was asked to
        return None
    (count,) = _U64.unpack_from(record, 8)
    time, cpu = trailer.time_and_cpu(record)
    return RecordsLost(time, cpu, count)


def _mapping(record: Buffer, trailer: RecordTrailer, misc: int, name_at: int, build_id: bytes | None) -> Event | None:
    pid, _, start, length, file_offset = _MAPPING.unpack_from(record, 8)
    if misc & _MISC_MMAP_DATA:  # data is no code
        return None
    if pid == _NO_PID:
        if misc & MISC_CPUMODE != MISC_KERNEL:  # a guest's kernel
            return None
        pid = KERNEL_PID
    path = _text(record, name_at, len(record) - trailer.size)
    time, _ = trailer.time_and_cpu(record)
    return MappingAdded(time, pid, Mapping(start, start + length, file_offset, path, build_id))


def _mmap(record: Buffer, trailer: RecordTrailer, misc: int) -> Event | None:
    return _mapping(record, trailer, misc, 40, None)


def _mmap2(record: Buffer, trailer: RecordTrailer, misc: int) -> Event | None:
    protection, _ = _PROTECTION.unpack_from(record, 64)
    (pid,) = _PID.unpack_from(record, 8)
    if not protection & _PROT_EXEC and pid != _NO_PID:
        return None
    build_id = None
    if misc & _MISC_MMAP_BUILD_ID:
        # u8 size, 3 bytes reserved, 20 bytes: in place of device and inode numbers.
        build_id = bytes(record[44 : 44 + min(record[40], 20)])
    return _mapping(record, trailer, misc, 72, build_id)


def _ksymbol(record: Buffer, trailer: RecordTrailer, misc: int) -> Event:
    address, size, _, flags = _KSYMBOL.unpack_from(record, 8)
    name = _text(record, 24, len(record) - trailer.size)
    time, _ = trailer.time_and_cpu(record)
    return KernelCodeNamed(time, address, size, name, bool(flags & _KSYMBOL_UNREGISTER))


SIDE_BAND: dict[int, Callable[[Buffer, RecordTrailer, int], Event | None]] = {
    RECORD_MMAP: _mmap,
    RECORD_LOST: _lost,
    RECORD_COMM: _comm,
    RECORD_EXIT: _exit,
    RECORD_FORK: _fork,
    RECORD_MMAP2: _mmap2,
    RECORD_LOST_SAMPLES: _lost_samples,
    RECORD_KSYMBOL: _ksymbol,
}
