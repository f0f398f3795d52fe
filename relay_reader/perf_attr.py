"""The events of a perf.data file: struct perf_event_attr, the ids of each event, and its name.

Owns the attribute's layout (linux/perf_event.h) as far as it says how records are to be read, and what an event is
called when the file does not name it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relay_reader.perf_record import EventLayout

ATTR_MINIMUM = 64
"""Bytes of the first version of the attribute; later ones are longer."""
_HEAD = struct.Struct("<IIQQQQQ")
_BRANCH_SAMPLE_TYPE = 72
_REGS_USER = 80
_MAX_STACK = 108
_SAMPLE_ID_ALL = 1 << 18

# enum perf_type_id and the events of the kernel's own counters (enum perf_hw_id, enum perf_sw_ids)
_NAMES = {
    0: (
        *("cycles", "instructions", "cache-references", "cache-misses", "branches", "branch-misses", "bus-cycles"),
        *("stalled-cycles-frontend", "stalled-cycles-backend", "ref-cycles"),
    ),
    1: (
        *("cpu-clock", "task-clock", "page-faults", "context-switches", "cpu-migrations", "minor-faults"),
        *("major-faults", "alignment-faults", "emulation-faults", "dummy", "bpf-output", "cgroup-switches"),
    ),
}
_OTHER = {2: "tracepoint {config}", 3: "cache event {config:#x}", 4: "raw {config:#x}", 5: "breakpoint"}


@dataclass(slots=True)
class PerfEvent:
    """One event of the file."""

    layout: EventLayout
    ids: tuple[int, ...]
    name: str


def read_attr(content: bytes, ids: tuple[int, ...], number: int) -> PerfEvent:
    """The event whose attribute is `content`, ATTR_MINIMUM bytes at the least; the `number`-th of its file.

    Older files have shorter attributes; the fields that they lack are zero.
    """
    kind, _, config, _, sample_type, read_format, flags = _HEAD.unpack_from(content)
    padded = content.ljust(_MAX_STACK + 4, b"\0")
    layout = EventLayout(
        sample_type,
        regs_user=struct.unpack_from("<Q", padded, _REGS_USER)[0],
        read_format=read_format,
        branch_sample_type=struct.unpack_from("<Q", padded, _BRANCH_SAMPLE_TYPE)[0],
        sample_id_all=bool(flags & _SAMPLE_ID_ALL),
        places=(number,),
        max_stack=struct.unpack_from("<H", padded, _MAX_STACK)[0],
        periods=True,
    )
    return PerfEvent(layout, ids, _name(kind, config))


def _name(kind: int, config: int) -> str:
    known = _NAMES.get(kind, ())
    if config < len(known):
        return known[config]
    return _OTHER.get(kind, "event {config:#x} of PMU {kind}").format(kind=kind, config=config)
