"""Damaged copies of unwind tables, with what Python's own check of tables says of each: the module has to agree.

A damage is told as the bytes that are other ones in the message, so that a guest makes the copy from the sound message.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from cfi_tables import layout
from cfi_tables.table import CompactTable, TableError
from relay_reader import record_layout

TABLE_AT = record_layout.MESSAGE_HEADER_SIZE + record_layout.TABLE_MESSAGE_SIZE
USER_TABLE_AT = record_layout.MESSAGE_HEADER_SIZE + record_layout.USER_TABLE_MESSAGE_SIZE
"""Where the table begins in the messages of the kernel's and of a program's."""
_CHECKSUM = slice(layout.HEADER_CHECKSUM, layout.HEADER_CHECKSUM + 4)
_VALUES = (0, 1, 0x7F, 0x80, 0xFF)


@dataclass(frozen=True)
class Damage:
    """One damaged table."""

    bytes: list[tuple[int, int]]
    """(place in the message, value)."""
    size: int
    """Of the message."""
    fresh: bool
    """The checksum is that of the damaged bytes."""
    problem: str | None
    """Why Python refuses it, None when it does not."""

    def as_dict(self) -> dict[str, object]:
        """For the guest."""
        return asdict(self)


def module_table_at(message: bytes) -> int:
    """Where the table begins in the message of a module."""
    head = np.frombuffer(message, record_layout.MODULE_MESSAGE_DTYPE, 1, record_layout.MESSAGE_HEADER_SIZE)[0]
    before = record_layout.MESSAGE_HEADER_SIZE + record_layout.MODULE_MESSAGE_SIZE
    return before + int(head["section_count"]) * record_layout.MODULE_SECTION_SIZE


def random_damages(message: bytes, seed: int, count: int) -> list[dict[str, object]]:
    """So many copies of a message with other bytes behind its head, or cut there, as a guest takes them."""
    source, found = random.Random(seed), []
    for _ in range(count):
        places = [
            source.randrange(record_layout.MESSAGE_HEADER_SIZE, len(message)) for _ in range(source.choice([1, 1, 3]))
        ]
        size = (
            len(message) if source.random() < 0.9 else source.randrange(record_layout.MESSAGE_HEADER_SIZE, len(message))
        )
        found.append(
            {
                "bytes": [(at, source.choice([*_VALUES, message[at] ^ 1 << source.randrange(8)])) for at in places],
                "size": size,
            }
        )
    return found


def damages(message: bytes, table_at: int, seed: int, refused: int, stale: int, sound: int) -> list[Damage]:
    """So many that are refused with a fresh checksum, that have the old one, and that are sound with a fresh one."""
    source, found = random.Random(seed), []
    wanted = {"refused": refused, "stale": stale, "sound": sound}
    while any(wanted.values()):
        damage = _damage(source, message, table_at, fresh=bool(wanted["refused"] or wanted["sound"]))
        kind = "stale" if not damage.fresh else "refused" if damage.problem else "sound"
        if wanted[kind]:
            wanted[kind] -= 1
            found.append(damage)
    source.shuffle(found)
    return found


def _damage(source: random.Random, message: bytes, table_at: int, fresh: bool) -> Damage:
    whole = message[table_at:]
    table = bytearray(whole)
    places = dict(_changes(source, whole))
    size = len(whole)
    if source.random() < 0.05:
        size = source.choice([source.randrange(1, len(whole)), len(whole) - 8, layout.HEADER_SIZE - 1])
        places = {}
    for at, value in places.items():
        table[at] = value
    del table[size:]
    if fresh and size >= layout.HEADER_SIZE:
        table[_CHECKSUM] = bytes(4)
        table[_CHECKSUM] = zlib.crc32(table).to_bytes(4, "little")
        places |= {at: table[at] for at in range(_CHECKSUM.start, _CHECKSUM.stop)}
    try:
        CompactTable(np.frombuffer(bytes(table), dtype=np.uint8), "damaged")
        problem = None
    except TableError as error:
        problem = str(error)
    return Damage([(table_at + at, value) for at, value in places.items()], table_at + size, fresh, problem)


def _changes(source: random.Random, whole: bytes) -> Iterator[tuple[int, int]]:
    """(place in the table, another value than there is), mostly all in one part of the table."""
    header = np.frombuffer(whole, dtype=layout.HEADER_DTYPE, count=1)[0]
    offsets = (int(header[name]) for name in layout.HEADER_DTYPE.names or () if name.endswith("_offset"))
    starts = sorted(offset for offset in offsets if offset < len(whole))  # an empty part may stand at the end
    low = source.choice([0, _CHECKSUM.stop, _CHECKSUM.stop, *starts])
    high = min((start for start in [*starts, len(whole)] if start > low), default=len(whole))
    for _ in range(source.choice([1, 1, 2, 5])):
        at = source.randrange(low, high)
        value = whole[at] ^ 1 << source.randrange(8) if source.random() < 0.5 else source.choice(_VALUES)
        if value != whole[at] and at not in range(_CHECKSUM.start, _CHECKSUM.stop):
            yield at, value
