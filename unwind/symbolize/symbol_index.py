"""The symbol index of one module, and the file that holds it.

Its format is in index_layout.py. It is made by index_build.py, mapped from a file here, and looked up in place by
index_lookup.py.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.mapped_file import map_whole, write_whole
from unwind.symbolize.index_layout import (
    ARRAYS,
    BLOCK,
    COLUMNS,
    FORMAT_VERSION,
    HEADER_CHECKSUM,
    HEADER_FIELDS,
    MAGIC,
    PARTS,
)
from unwind.symbolize.packed_column import PackedColumn

HEADER = np.dtype(HEADER_FIELDS)
_PART_TABLE = np.dtype([("offset", "<u8"), ("size", "<u8")])


class SymbolIndexError(Exception):
    """An index cannot be used; the text says why, and what to do."""


class SymbolIndex:
    """One module's index. `columns` and `arrays` are views of its parts, by their names."""

    def __init__(self, data: NDArray[np.uint8], name: str, sound: bool = False) -> None:
        """Take `data` (a whole index) after checking its checksum and where its parts lie. Raises SymbolIndexError.

        With `sound` the checksum is not looked at: the index was just made.
        """
        self.data = data
        self.name = name
        self.columns: dict[str, PackedColumn] = {}
        self.arrays: dict[str, NDArray[Any]] = {}
        if len(data) < HEADER.itemsize:
            raise self.refuse("it is shorter than its header")
        header = data[: HEADER.itemsize].view(HEADER)[0]
        self._check(header, sound)
        self.machine = int(header["machine"])
        size = int(header["build_id_size"])
        self.build_id: bytes = header["build_id"].tobytes()[:size]
        """The module's build-id (its first 32 bytes), b"" when it has none."""
        self.flags = int(header["flags"])
        self.counts = {name: int(header[name]) for name in HEADER.names or () if name.endswith("_count")}
        self._read_parts()

    def refuse(self, what: str) -> SymbolIndexError:
        """The error that says that the index is not usable."""
        return SymbolIndexError(f"{self.name}: {what}; delete the file, and the symbol index is built again")

    def _check(self, header: Any, sound: bool) -> None:
        if int(header["magic"]) != MAGIC:
            raise self.refuse("this is no symbol index")
        if int(header["format_version"]) != FORMAT_VERSION:
            raise self.refuse(f"its format is {header['format_version']}, not {FORMAT_VERSION}")
        if int(header["size"]) != len(self.data) or int(header["part_count"]) != len(PARTS):
            raise self.refuse("its size is not what its header says")
        if not sound and int(header["checksum"]) != _checksum(self.data):
            raise self.refuse("its checksum does not match")

    def _read_parts(self) -> None:
        begin = HEADER.itemsize
        end = begin + len(PARTS) * _PART_TABLE.itemsize
        if end > len(self.data):
            raise self.refuse("it ends in its table of parts")
        parts: dict[str, NDArray[np.uint8]] = {}
        for name, place in zip(PARTS, self.data[begin:end].view(_PART_TABLE), strict=True):
            offset, size = int(place["offset"]), int(place["size"])
            if offset % 8 or offset < end or offset + size > len(self.data):
                raise self.refuse(f"its part {name} lies outside of it")
            parts[name] = self.data[offset : offset + size]
        try:
            self.arrays = {name: parts[name].view(kind) for name, kind in ARRAYS.items()}
            for name, count in COLUMNS.items():
                begins = parts[f"{name}_blocks"].view("<u4")
                if len(begins) != -(-self.counts[count] // BLOCK) + 1:
                    raise ValueError(name)
                self.columns[name] = PackedColumn(parts[name], begins, self.counts[count])
        except ValueError:
            raise self.refuse("its parts have other sizes than its header says") from None

    def save(self, path: str | Path) -> None:
        """Write the index to `path`: whole or not at all. Raises OSError."""
        write_whole(path, self.data)

    @classmethod
    def load(cls, path: str | Path) -> SymbolIndex:
        """Map the index at `path`. Raises SymbolIndexError when it is damaged or of another format, and OSError."""
        data = map_whole(path)
        if data is None:
            raise SymbolIndexError(f"{path}: it is empty; delete it, and it is built again")
        return cls(data, str(path))


def _checksum(data: NDArray[np.uint8]) -> int:
    begin = data[:HEADER_CHECKSUM].tobytes() + bytes(4)
    return zlib.crc32(data[HEADER_CHECKSUM + 4 :].data, zlib.crc32(begin))


def encode_index(
    header: dict[str, Any], columns: dict[str, PackedColumn], arrays: dict[str, NDArray[Any]]
) -> NDArray[np.uint8]:
    """The bytes of an index of these parts; `header` gives the header's fields that do not follow from the parts."""
    parts: list[NDArray[np.uint8]] = []
    for name in COLUMNS:
        parts += [columns[name].data, columns[name].begins.view(np.uint8)]
    for name, kind in ARRAYS.items():
        parts.append(np.ascontiguousarray(arrays[name], dtype=kind).view(np.uint8))
    table = np.zeros(len(parts), dtype=_PART_TABLE)
    at = HEADER.itemsize + table.nbytes
    for index, part in enumerate(parts):
        at = at + 7 & ~7
        table[index] = (at, len(part))
        at += len(part)
    data = np.zeros(at + 7 & ~7, dtype=np.uint8)
    fields = data[: HEADER.itemsize].view(HEADER)
    for name, value in header.items():
        fields[name] = value
    fields["magic"], fields["format_version"] = MAGIC, FORMAT_VERSION
    fields["size"], fields["part_count"] = len(data), len(parts)
    data[HEADER.itemsize : HEADER.itemsize + table.nbytes] = table.view(np.uint8)
    for place, part in zip(table, parts, strict=True):
        data[int(place["offset"]) : int(place["offset"]) + len(part)] = part
    fields["checksum"] = _checksum(data)
    return data
