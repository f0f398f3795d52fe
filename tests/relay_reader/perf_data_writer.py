"""Writes perf.data after tools/perf/Documentation/perf.data-file-format.txt: for what perf does not record here.

Shares nothing with the reader.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

# linux/perf_event.h
IP, TID, TIME, CALLCHAIN, PERIOD, BRANCH_STACK, IDENTIFIER = 1, 2, 4, 32, 256, 2048, 1 << 16
SAMPLE_ID_ALL = 1 << 18
KERNEL, USER, GUEST_KERNEL, GUEST_USER = 1, 2, 4, 5
CONTEXT_KERNEL, CONTEXT_USER = (1 << 64) - 128, (1 << 64) - 512
FINISHED_ROUND = struct.pack("<IHH", 68, 0, 8)
BASE = IDENTIFIER | IP | TID | TIME


@dataclass
class Event:
    """One event: a software one, by default cpu-clock."""

    ids: Sequence[int]
    sample_type: int = BASE
    name: str = "cpu-clock"
    branch_sample_type: int = 0
    max_stack: int = 0
    kind: int = 1
    config: int = 0

    def attr(self) -> bytes:
        """struct perf_event_attr, as long as in Linux 6.1."""
        head = (self.kind, 128, self.config, 1000, self.sample_type, 0, SAMPLE_ID_ALL)
        begin = struct.pack("<IIQQQQQ", *head).ljust(72, b"\0") + struct.pack("<Q", self.branch_sample_type)
        return begin.ljust(108, b"\0").ljust(108, b"\0") + struct.pack("<H", self.max_stack).ljust(20, b"\0")


def record(kind: int, body: bytes, misc: int = USER) -> bytes:
    """A record; its body is filled up to whole words."""
    body += bytes(-len(body) % 8)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def trailer(pid: int, time: int, event: int = 1) -> bytes:
    """struct sample_id of an event with BASE."""
    return struct.pack("<IIQQ", pid, pid, time, event)


def text(value: str) -> bytes:
    """A name with its end, filled up to whole words."""
    data = value.encode() + b"\0"
    return data + bytes(-len(data) % 8)


def sample(pid: int, time: int, ip: int, rest: bytes = b"", misc: int = USER, event: int = 1) -> bytes:
    """A sample of an event with BASE; `rest` is what its other parts give."""
    return record(9, struct.pack("<QQIIQ", event, ip, pid, pid, time) + rest, misc)


def chain(*words: int) -> bytes:
    """A call chain."""
    return struct.pack(f"<Q{len(words)}Q", len(words), *words)


def comm(pid: int, time: int, name: str, exec_too: bool = False) -> bytes:
    """PERF_RECORD_COMM."""
    return record(3, struct.pack("<II", pid, pid) + text(name) + trailer(pid, time), USER | exec_too << 13)


def fork(pid: int, parent: int, time: int, exec_too: bool = False) -> bytes:
    """PERF_RECORD_FORK."""
    return record(7, struct.pack("<IIIIQ", pid, parent, pid, parent, time) + trailer(pid, time), USER | exec_too << 13)


def mapping(pid: int, time: int, start: int, size: int, offset: int, path: str, misc: int = USER) -> bytes:
    """PERF_RECORD_MMAP; pid -1 is the kernel's."""
    body = struct.pack("<iIQQQ", pid, pid & 0xFFFFFFFF, start, size, offset)
    return record(1, body + text(path) + trailer(pid & 0xFFFFFFFF, time), misc)


def lost(time: int, count: int) -> bytes:
    """PERF_RECORD_LOST."""
    return record(2, struct.pack("<QQ", 1, count) + trailer(0, time))


def lost_samples(time: int, count: int, misc: int = 0) -> bytes:
    """PERF_RECORD_LOST_SAMPLES."""
    return record(13, struct.pack("<Q", count) + trailer(0, time), misc)


def ksymbol(time: int, address: int, size: int, name: str, gone: bool = False) -> bytes:
    """PERF_RECORD_KSYMBOL."""
    return record(17, struct.pack("<QIHH", address, size, 1, gone) + text(name) + trailer(0, time), KERNEL)


def string(value: str) -> bytes:
    """A string of a feature section."""
    return struct.pack("<I", len(text(value))) + text(value)


def build_id_entry(path: str, build_id: bytes, pid: int = -1) -> bytes:
    """One entry of the build-id feature."""
    return record(67, struct.pack("<i20sB3x", pid, build_id, len(build_id)) + text(path), USER | 1 << 15)


@dataclass
class PerfDataFile:
    """A file, or what goes into a pipe."""

    events: list[Event] = field(default_factory=lambda: [Event([1])])
    records: list[bytes] = field(default_factory=list)
    features: dict[int, bytes] = field(default_factory=dict)

    def with_names(self) -> PerfDataFile:
        """Add the feature that names the events."""
        body = struct.pack("<II", len(self.events), 128)
        for event in self.events:
            body += event.attr() + struct.pack("<I", len(event.ids)) + string(event.name)
            body += struct.pack(f"<{len(event.ids)}Q", *event.ids)
        self.features[12] = body
        return self

    def in_file(self) -> bytes:
        """As a file."""
        ids, attrs = b"", b""
        ids_at = 104
        for event in self.events:
            attrs += event.attr() + struct.pack("<QQ", ids_at + len(ids), 8 * len(event.ids))
            ids += struct.pack(f"<{len(event.ids)}Q", *event.ids)
        data = b"".join(self.records)
        attrs_at = ids_at + len(ids)
        data_at = attrs_at + len(attrs)
        table_at = data_at + len(data)
        bitmap = sum(1 << bit for bit in self.features).to_bytes(32, "little")
        table, contents = b"", b""
        begin = table_at + 16 * len(self.features)
        for bit in sorted(self.features):
            table += struct.pack("<QQ", begin + len(contents), len(self.features[bit]))
            contents += self.features[bit]
        header = struct.pack("<8sQQQQQQQQ", b"PERFILE2", 104, 144, attrs_at, len(attrs), data_at, len(data), 0, 0)
        return header + bitmap + ids + attrs + data + table + contents

    def in_pipe(self) -> bytes:
        """As `perf record -o -` writes it."""
        begin = struct.pack("<8sQ", b"PERFILE2", 16)
        for event in self.events:
            begin += record(64, event.attr() + struct.pack(f"<{len(event.ids)}Q", *event.ids), 0)
        for bit in sorted(self.features):
            begin += record(80, struct.pack("<Q", bit) + self.features[bit], 0)
        return begin + b"".join(self.records)
