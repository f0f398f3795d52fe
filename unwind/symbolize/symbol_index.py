"""The symbol index of one module: its format, and the file that holds it.

An index says for every address of a module's code which function it is in, through which inlined calls, and of which
source line each of them is. It is made by index_build.py, mapped from a file here, and looked up in place by
index_lookup.py. All integers are little endian. It holds a header, a table of parts (offset and size, u64 each), and
the parts, each aligned to 8 bytes. A packed column (packed_column.py) is two parts: its bytes, and where its blocks
begin.

* Rows: for each block of 256 the address of its first row (u64) and the greatest scope in front of it (u32); and packed
  columns of the distance from the row before (0 in the first one of a block), of scope codes, of
  lines, and of columns (0 for none).
* Scope code: 0 for the scope of the row before; 2n - 1 for the n-th new scope, counted from the greatest so far; 2 for
  scope 0 (nothing is known here); 4 + 2n for the scope n below the greatest so far.
* Line: 0 for none, else 1 more than the distance from the least line of the scope's function.
* Scopes: packed columns of the distance to the scope that it was inlined into (0: it is a function of its own), of its
  function, and of the line and column of the call; the line counts as a row's does, in the function around it.
* Functions: packed columns of name, file and least line. Names and files: strings that a NUL ends, and where each
  64th of them begins. Number 0 stands for nothing.
* Begins: for each block the address (u64), and packed columns of the distance from the one before, and of 1 more than
  the distance from where the function is entered, 0 in a part that lies apart from there.
* Mapped, damaged: pairs of addresses (u64) that the module has in memory, and of units that could not be read.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.mapped_file import map_whole, write_whole
from unwind.symbolize.packed_column import BLOCK, PackedColumn

MAGIC = 0x59535450  # "PTSY"
FORMAT_VERSION = 1
STRING_BLOCK = 64
HEADER = np.dtype(
    [
        ("magic", "<u4"),
        ("format_version", "<u2"),
        ("machine", "<u2"),
        ("checksum", "<u4"),  # CRC-32 of the whole index with this field zero
        ("flags", "<u4"),
        ("size", "<u8"),
        ("build_id", "V32"),
        ("build_id_size", "<u4"),
        ("row_count", "<u4"),
        ("scope_count", "<u4"),
        ("function_count", "<u4"),
        ("name_count", "<u4"),
        ("file_count", "<u4"),
        ("begin_count", "<u4"),
        ("part_count", "<u4"),
    ]
)
_CHECKSUM = 8

HAS_DEBUG = 1
HAS_SYMBOLS = 2
DAMAGED_SOMEWHERE = 4
"""Some unit could not be read whole, whose addresses are not known."""

COLUMNS = {
    "delta": "row_count",
    "scope": "row_count",
    "line": "row_count",
    "column": "row_count",
    "outer": "scope_count",
    "function": "scope_count",
    "call_line": "scope_count",
    "call_column": "scope_count",
    "name": "function_count",
    "file": "function_count",
    "least_line": "function_count",
    "begin": "begin_count",
    "begin_offset": "begin_count",
}
"""The packed columns, and the count in the header that each one has."""
ARRAYS = {
    "block_address": "<u8",
    "block_scope": "<u4",
    "begin_address": "<u8",
    "names": "u1",
    "name_begins": "<u4",
    "files": "u1",
    "file_begins": "<u4",
    "mapped": "<u8",
    "damaged": "<u8",
}
"""The other parts, and what they are made of."""
PARTS = [*(f"{name}{end}" for name in COLUMNS for end in ("", "_blocks")), *ARRAYS]
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
    begin = data[:_CHECKSUM].tobytes() + bytes(4)
    return zlib.crc32(data[_CHECKSUM + 4 :].data, zlib.crc32(begin))


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
