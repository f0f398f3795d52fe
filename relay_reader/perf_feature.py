"""The feature sections of perf.data: what perf notes of the machine, the command, the events and the files' build-ids.

Owns their formats (tools/perf/Documentation/perf.data-file-format.txt in the Linux tree, "HEADER_*"). In a file they
stand behind the data; in pipe mode the same contents are records of their own. Nothing here does I/O.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

BUILD_ID = 2
HOSTNAME = 3
OS_RELEASE = 4
VERSION = 5
ARCH = 6
COMMAND_LINE = 11
EVENT_DESC = 12
SAMPLE_TIME = 21
COMPRESSED = 27
LAST_BIT = 255

_U32 = struct.Struct("<I")
_RECORD_HEADER = struct.Struct("<IHH")
_BUILD_ID_ENTRY = struct.Struct("<i20sB3x")
_BUILD_ID_SIZE_TOLD = 1 << 15
_MOST_STRINGS = 1 << 16


class FeatureError(ValueError):
    """A section is damaged; the text says which."""


@dataclass(slots=True)
class PerfFeatures:
    """What was noted. Empty where it was not."""

    hostname: str = ""
    os_release: str = ""
    perf_version: str = ""
    architecture: str = ""
    command_line: tuple[str, ...] = ()
    event_names: dict[int, str] = field(default_factory=dict)
    """By the events' ids."""
    event_order: list[str] = field(default_factory=list)
    """The names in the order of the attributes."""
    sample_times: tuple[int, int] | None = None
    """Nanoseconds of the first and the last sample."""
    build_ids: dict[str, set[bytes]] = field(default_factory=dict)
    """By the path of the file, `[kernel.kallsyms]`, or `[vdso]`; several where files of one name were seen."""

    def build_id(self, path: str) -> bytes | None:
        """The one build-id that files of this path have, None where none or several are noted."""
        known = self.build_ids.get(path, ())
        return next(iter(known)) if len(known) == 1 else None

    def read(self, number: int, content: bytes) -> None:
        """Take the section of feature `number`; those that are of no use here are passed over. Raises FeatureError."""
        try:
            if number == BUILD_ID:
                self._read_build_ids(content)
            elif number == HOSTNAME:
                self.hostname = _string(content, 0)[0]
            elif number == OS_RELEASE:
                self.os_release = _string(content, 0)[0]
            elif number == VERSION:
                self.perf_version = _string(content, 0)[0]
            elif number == ARCH:
                self.architecture = _string(content, 0)[0]
            elif number == COMMAND_LINE:
                self.command_line = tuple(_strings(content))
            elif number == EVENT_DESC:
                self._read_event_desc(content)
            elif number == SAMPLE_TIME:
                first, last = struct.unpack_from("<QQ", content)
                self.sample_times = first, last
        except struct.error:
            raise FeatureError(f"its feature section {number} is shorter than what it tells") from None

    def _read_build_ids(self, content: bytes) -> None:
        at = 0
        while at < len(content):
            _, _, size = _RECORD_HEADER.unpack_from(content, at)
            if size < _RECORD_HEADER.size + _BUILD_ID_ENTRY.size:
                raise FeatureError("its list of build-ids is damaged")
            self.read_build_id(content[at : at + size])
            at += size

    def read_build_id(self, record: bytes) -> None:
        """Take one struct perf_record_header_build_id. Raises struct.error."""
        _, misc, _ = _RECORD_HEADER.unpack_from(record)
        _, build_id, size = _BUILD_ID_ENTRY.unpack_from(record, _RECORD_HEADER.size)
        path = _text(record[_RECORD_HEADER.size + _BUILD_ID_ENTRY.size :])
        # Older ones do not tell the size: that of SHA-1 is what there was.
        kept = build_id[: min(size, 20)] if misc & _BUILD_ID_SIZE_TOLD else build_id
        if path and kept.strip(b"\0"):
            self.build_ids.setdefault(path, set()).add(kept)

    def _read_event_desc(self, content: bytes) -> None:
        count, attr_size = struct.unpack_from("<II", content)
        at = 8
        for _ in range(min(count, _MOST_STRINGS)):
            at += attr_size
            (ids,) = _U32.unpack_from(content, at)
            name, at = _string(content, at + 4)
            self.event_order.append(name)
            for (number,) in struct.iter_unpack("<Q", content[at : at + 8 * ids]):
                self.event_names[number] = name
            at += 8 * ids


def feature_bits(bitmap: bytes) -> list[int]:
    """The numbers of the features that a header's bitmap lists."""
    return [bit for bit in range(LAST_BIT + 1) if bitmap[bit // 8] >> bit % 8 & 1]


def _text(content: bytes) -> str:
    return content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _string(content: bytes, at: int) -> tuple[str, int]:
    """The counted string at `at`, and where it ends. Raises struct.error."""
    (size,) = _U32.unpack_from(content, at)
    if at + 4 + size > len(content):
        raise struct.error("string goes past its section")
    return _text(content[at + 4 : at + 4 + size]), at + 4 + size


def _strings(content: bytes) -> Iterator[str]:
    (count,) = _U32.unpack_from(content, 0)
    at = 4
    for _ in range(count):
        text, at = _string(content, at)
        yield text
