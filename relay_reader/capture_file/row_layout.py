"""The rows that events are stored as: one NumPy dtype for each part of a chunk, declared here alone.

Each kind of event has its own rows. What has no fixed length lies in parts of its own, in the order of the samples
that it belongs to, and the samples' rows tell how much of it is theirs. A file names the fields of its parts itself
(`described_parts`), so that a reader finds them by name: fields that it does not know are left out, and those that an
older file lacks are 0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Part(IntEnum):
    """The parts of a chunk."""

    JSON = 0
    """A JSON object as UTF-8: facts, the end's account, the name of a blob."""
    ORDER = 1
    """The part that the row of each event stands in, event by event."""
    SOURCES = 2
    """The source that each event comes from; left out where all come from source 0."""
    TEXT_ENDS = 3
    """Where each text ends in TEXTS. Rows name texts by number + 1, 0 is none."""
    TEXTS = 4
    """Paths, comms and build-ids, each once a chunk; as UTF-8 with the bytes that are none as they were."""
    MAPPING_ADDED = 16
    PROCESS_FORKED = 17
    PROCESS_EXECED = 18
    THREAD_NAMED = 19
    THREAD_EXITED = 20
    RECORDS_LOST = 21
    KERNEL_SECTION = 22
    SAMPLE = 23
    KERNEL_CODE = 24
    PLACES = 32
    REGISTERS = 33
    """Of the sample, then of its kernel stack, then of its user stack."""
    ADDRESSES = 34
    """The kernel's chain, then the chain that was told, the kernel stack's oracle, the user stack's chain."""
    SLICES = 35
    """The sample's, then its kernel stack's."""
    MEMORY = 36
    """What lies in the slices."""
    KERNEL_STACKS = 37
    USER_STACKS = 38
    VECTORS = 39
    BLOB = 64


ROWS: dict[Part, np.dtype[Any]] = {
    Part.ORDER: np.dtype([("part", "<u2")]),
    Part.SOURCES: np.dtype([("source", "<u2")]),
    Part.TEXT_ENDS: np.dtype([("end", "<u4")]),
    Part.MAPPING_ADDED: np.dtype(
        [
            ("time_ns", "<i8"),
            ("pid", "<i8"),
            ("start", "<u8"),
            ("end", "<u8"),
            ("file_offset", "<u8"),
            ("path", "<u4"),
            ("build_id", "<u4"),
        ]
    ),
    Part.PROCESS_FORKED: np.dtype(
        [
            ("time_ns", "<i8"),
            ("pid", "<i8"),
            ("parent_pid", "<i8"),
            ("tid", "<i8"),
            ("parent_tid", "<i8"),
            ("flags", "<u2"),
        ]
    ),
    Part.KERNEL_CODE: np.dtype(
        [("time_ns", "<i8"), ("address", "<u8"), ("size", "<u8"), ("name", "<u4"), ("gone", "<u2")]
    ),
    Part.PROCESS_EXECED: np.dtype([("time_ns", "<i8"), ("pid", "<i8"), ("comm", "<u4")]),
    Part.THREAD_NAMED: np.dtype([("time_ns", "<i8"), ("pid", "<i8"), ("tid", "<i8"), ("comm", "<u4")]),
    Part.THREAD_EXITED: np.dtype([("time_ns", "<i8"), ("pid", "<i8"), ("tid", "<i8")]),
    Part.RECORDS_LOST: np.dtype([("time_ns", "<i8"), ("cpu", "<i8"), ("count", "<i8")]),
    Part.KERNEL_SECTION: np.dtype([("time_ns", "<i8"), ("module", "<i8"), ("section", "<i8"), ("address", "<u8")]),
    Part.SAMPLE: np.dtype(
        [
            ("time_ns", "<i8"),
            ("cpu", "<i8"),
            ("pid", "<i8"),
            ("tid", "<i8"),
            ("known", "<u8"),
            ("weight", "<i8"),
            ("signal", "<i4"),
            ("place_count", "<u4"),
            ("register_count", "<u4"),
            ("slice_count", "<u4"),
            ("chain_count", "<u4"),
            ("told_count", "<u4"),
            ("vector_count", "<u4"),
            ("flags", "<u4"),
            ("machine", "<u4"),
            ("signature_mask", "<u8"),
        ]
    ),
    Part.PLACES: np.dtype([("place", "<u4")]),
    Part.REGISTERS: np.dtype([("value", "<u8")]),
    Part.ADDRESSES: np.dtype([("address", "<u8")]),
    Part.SLICES: np.dtype([("address", "<u8"), ("size", "<u4"), ("cut", "<u4")]),
    Part.KERNEL_STACKS: np.dtype(
        [
            ("known", "<u8"),
            ("slide", "<i8"),
            ("stop_detail", "<u8"),
            ("stop", "<u4"),
            ("flags", "<u4"),
            ("register_count", "<u4"),
            ("slice_count", "<u4"),
            ("oracle_count", "<u4"),
        ]
    ),
    Part.USER_STACKS: np.dtype(
        [
            ("known", "<u8"),
            ("stop_detail", "<u8"),
            ("start_stack", "<u8"),
            ("generation", "<u8"),
            ("stop", "<u4"),
            ("flags", "<u4"),
            ("register_count", "<u4"),
            ("chain_count", "<u4"),
        ]
    ),
    Part.VECTORS: np.dtype([("low", "<u8"), ("high", "<u8"), ("register", "<u4")]),
}

CALLED = 1 << 0
HAS_KERNEL_STACK = 1 << 1
HAS_USER_STACK = 1 << 2
HAS_VECTORS = 1 << 3
IS_GUEST = 1 << 4
TOLD_BY_FRAME_POINTERS = 1 << 5
TOLD_BY_LAST_BRANCHES = 1 << 6
TOLD_CUT = 1 << 7
HAS_SIGNATURE_MASK = 1 << 8
"""Flags of a sample."""
HAS_OWN_MAPPINGS = 1 << 0
"""Flag of a process: it has not inherited its parent's."""

MOST_SOURCES = 1 << 16
"""As many as the number of a source has values for."""
_FORMAT = re.compile(r"<[iu][248]")
_MOST_FIELDS = 64


class LayoutError(ValueError):
    """A file's own description of its parts cannot be used; the text says why."""


def row_struct(part: Part) -> struct.Struct:
    """Packs one row of `part`."""
    kinds = {"<i8": "q", "<u8": "Q", "<i4": "i", "<u4": "I", "<u2": "H"}
    fields: Mapping[str, Any] = ROWS[part].fields or {}
    return struct.Struct("<" + "".join(kinds[fields[name][0].str] for name in ROWS[part].names or ()))


def described_parts() -> dict[str, list[list[str]]]:
    """What this version writes into the facts of a file: part -> [field, format] in order."""
    described = {}
    for part, dtype in ROWS.items():
        fields: Mapping[str, Any] = dtype.fields or {}
        described[part.name.lower()] = [[name, fields[name][0].str] for name in dtype.names or ()]
    return described


def layouts_of(described: Any) -> dict[Part, np.dtype[Any]]:
    """The dtypes that a file describes. Raises LayoutError; parts that this version does not know are left out."""
    layouts = dict(ROWS)
    try:
        for name, fields in dict(described).items():
            if str(name).upper() not in Part.__members__:
                continue
            pairs = [(str(field), str(form)) for field, form in fields]
            if not pairs or len(pairs) > _MOST_FIELDS or not all(_FORMAT.fullmatch(form) for _, form in pairs):
                raise LayoutError(f"the rows of {name} are not described as numbers")
            layouts[Part[str(name).upper()]] = np.dtype(pairs)
    except (TypeError, ValueError) as error:
        raise LayoutError(f"its description of its rows cannot be used: {error}") from None
    return layouts


def rows_of(content: bytes, part: Part, layouts: dict[Part, np.dtype[Any]]) -> NDArray[Any]:
    """The rows of a part as this version knows them. Raises LayoutError when they do not fill the part."""
    theirs, ours = layouts[part], ROWS[part]
    if len(content) % theirs.itemsize:
        raise LayoutError(f"{part.name.lower()} ends inside a row")
    stored = np.frombuffer(content, dtype=theirs)
    if theirs == ours:
        return stored
    rows = np.zeros(len(stored), dtype=ours)
    for name in ours.names or ():
        if name in (theirs.names or ()):
            rows[name] = stored[name]
    return rows
