"""A module's table as it lies in the cache, for a small job: its bytes, and no NumPy.

`table_for` checks every reference in a table, so that compiled lookups need not. Here the checksum says that the
file is what this user's ptap wrote, and the plain lookups that it is for check the bounds of what they read.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import TYPE_CHECKING

from cfi_tables.cache import note_use, table_path
from cfi_tables.layout import (
    FORMAT_VERSION,
    HEADER_BUILD_ID,
    HEADER_BUILD_ID_SIZE,
    HEADER_CHECKSUM,
    HEADER_SIZE,
    TABLE_MAGIC,
)

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage

_START = struct.Struct("<IHHII")
"""magic, format_version, machine, checksum and table_size, with which a header begins."""


def cached_table(image: ElfImage, debug: ElfImage | None) -> memoryview | None:
    """The table of `image` (with the .debug_frame of `debug`), None where the cache has none that can be used."""
    path = table_path(image, debug)
    try:
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return None
    if len(content) < HEADER_SIZE:
        return None
    magic, version, machine, checksum, size = _START.unpack_from(content)
    (length,) = struct.unpack_from("<I", content, HEADER_BUILD_ID_SIZE)
    build_id = bytes(content[HEADER_BUILD_ID : HEADER_BUILD_ID + min(length, HEADER_BUILD_ID_SIZE - HEADER_BUILD_ID)])
    if (magic, version, machine, size) != (TABLE_MAGIC, FORMAT_VERSION, image.machine, len(content)):
        return None
    if build_id != (image.build_id or b"")[:20] or checksum != whole_checksum(content, HEADER_CHECKSUM):
        return None
    note_use(path)
    return content


def whole_checksum(content: memoryview, place: int) -> int:
    """CRC-32 of all of `content`, with the checksum at byte `place` as zero."""
    return zlib.crc32(content[place + 4 :], zlib.crc32(bytes(content[:place]) + bytes(4)))
