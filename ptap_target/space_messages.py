"""What the collector tells the module and the capture of processes, as bytes.

The layouts are those of relay_reader/record_schema.py, which this program does not have with it: a test compares them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MESSAGE_MAGIC, _RECORD_MAGIC, _VERSION = 0x4D525450, 0x52525450, 3
_USER_TABLE, _SPACE, _TARGET = 7, 8, 13
_SPACE_RECORD = 8
_HEAD = struct.Struct("<IIHHIQ")
"""Magic, length, version, kind, CPU, time: what a record begins with."""
_SPACE_TOLD = struct.Struct("<IIHHIQII")
"""The same, then pid and nothing: JSON follows."""
_HIT_PID, _HIT_BYTES = 40, 96
"""Where a hit has them, and the bytes of its fixed part."""
_PID = struct.Struct("<I")
_LOOK = struct.Struct("<4xI2xH80xH2x")
"""Of a hit: its length, kind and flags."""
_HIT = 1
USER_UNTOLD = 32
"""The hit's process was not told, or has changed its mappings since."""


@dataclass(frozen=True)
class SpaceMapping:
    """One executable mapping as /proc/PID/maps has it, and what its file is."""

    start: int
    end: int
    file_offset: int
    inode: int
    path: str
    build_id: str | None
    bias: int
    table: int
    """The id of its table, 0 for none."""


def target(pid: int) -> bytes:
    """The message that only hits of process `pid`, of those told before, and of what they start are to be recorded.

    0: of none, until one is told.
    """
    return struct.pack("<IHHII", _MESSAGE_MAGIC, _VERSION, _TARGET, pid, 0)


def user_table(number: int, content: bytes) -> bytes:
    """The message with a table; `number` is the id that mappings have it by."""
    return struct.pack("<IHHQ", _MESSAGE_MAGIC, _VERSION, _USER_TABLE, number) + content


def space(pid: int, generation: int, start_stack: int, mappings: Sequence[SpaceMapping]) -> bytes:
    """The message with the mappings of a process, sorted."""
    head = struct.pack(
        "<IHHQQII", _MESSAGE_MAGIC, _VERSION, _SPACE, generation, start_stack, pid, len(mappings)
    )  # fmt: skip
    return head + b"".join(
        struct.pack("<QQQQQQ", each.start, each.end, each.bias % (1 << 64), each.file_offset, each.inode, each.table)
        for each in mappings
    )


def space_record(
    time_ns: int,
    pid: int,
    generation: int,
    start_stack: int,
    mappings: Sequence[SpaceMapping],
    images: dict[str, str],
) -> bytes:
    """The record by which a capture knows the mappings that its hits were walked by.

    `images` holds what is in no file (the vdso): build-id -> the image in base64.
    """
    told: dict[str, Any] = {
        "generation": generation,
        "start_stack": start_stack,
        "mappings": [[each.start, each.end, each.file_offset, each.path, each.build_id] for each in mappings],
        "images": images,
    }
    content = json.dumps(told).encode()
    content = content.ljust(-(-len(content) // 8) * 8)
    length = _SPACE_TOLD.size + len(content)
    return _SPACE_TOLD.pack(_RECORD_MAGIC, length, _VERSION, _SPACE_RECORD, 0, time_ns, pid, 0) + content


def untold_processes(records: bytes | memoryview, limit: int) -> set[int]:
    """The pids of hits whose processes have to be told (again), by the first `limit` of whole records."""
    found: set[int] = set()
    at, end, least, look = 0, len(records), _HEAD.size, _LOOK.unpack_from
    while limit > 0 and at + _HIT_BYTES <= end:
        # Once a hit: what each costs is time that the traced program could have had.
        length, kind, flags = look(records, at)
        if flags & USER_UNTOLD and kind == _HIT:
            found.update(_PID.unpack_from(records, at + _HIT_PID))
        at += length if length > least else least
        limit -= 1
    return found
