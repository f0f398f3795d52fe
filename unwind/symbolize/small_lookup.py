"""One address at a time → frames by a symbol index, in plain Python: for a few stacks, which need no NumPy.

Says what `index_lookup.py` says of many. The index's checksum tells that it is as it was written; what it holds that
does not agree all the same is a `SmallLookupError`, after which the others may be asked.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cfi_tables.cached_table import whole_checksum
from unwind.symbolize.index_layout import (
    ARRAYS,
    BLOCK,
    COLUMNS,
    DAMAGED_SOMEWHERE,
    FORMAT_VERSION,
    HAS_DEBUG,
    HEADER_CHECKSUM,
    HEADER_FIELDS,
    MAGIC,
    PARTS,
    STRING_BLOCK,
)

_HEADER = struct.Struct(
    "<" + "".join({"<u2": "H", "<u4": "I", "<u8": "Q", "V32": "32s"}[kind] for _, kind in HEADER_FIELDS)
)
_CASTS: dict[str, Literal["Q", "I", "B"]] = {"<u8": "Q", "<u4": "I", "u1": "B"}


class SmallLookupError(Exception):
    """An index cannot be used."""


class IndexedFrame(NamedTuple):
    """One frame at an address."""

    name: str | None
    """The symbol's name: its linkage name where there is one."""
    file: str | None
    line: int | None
    column: int | None
    inlined: bool


class SmallLookup:
    """One module's index, looked up in place."""

    def __init__(self, path: Path, machine: int, build_id: bytes) -> None:
        """Map the index at `path`. Raises SmallLookupError when it is not the module's, and OSError."""
        with open(path, "rb") as file:
            try:
                self._content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except ValueError:
                raise SmallLookupError("it is empty") from None
        if len(self._content) < _HEADER.size:
            raise SmallLookupError("it is shorter than its header")
        names = (name for name, _ in HEADER_FIELDS)
        header = dict(zip(names, _HEADER.unpack_from(self._content), strict=True))
        told = (header["magic"], header["format_version"], header["machine"], header["size"], header["part_count"])
        if told != (MAGIC, FORMAT_VERSION, machine, len(self._content), len(PARTS)):
            raise SmallLookupError("it is of another format or machine")
        if header["build_id"][: header["build_id_size"]] != build_id[:32]:
            raise SmallLookupError("it is of another build")
        if header["checksum"] != whole_checksum(self._content, HEADER_CHECKSUM):
            raise SmallLookupError("its checksum does not match")
        self.has_debug = bool(header["flags"] & HAS_DEBUG)
        self.is_damaged = bool(header["flags"] & DAMAGED_SOMEWHERE)
        """Some unit could not be read, whose addresses are not known."""
        self._counts = {name: header[count] for name, count in COLUMNS.items()}
        self._places = {
            name: struct.unpack_from("<QQ", self._content, _HEADER.size + 16 * index)
            for index, name in enumerate(PARTS)
        }
        self._arrays = {name: self._part(name).cast(_CASTS[kind]) for name, kind in ARRAYS.items()}
        self._begins = {name: self._part(f"{name}_blocks").cast("I") for name in COLUMNS}
        self._blocks: dict[tuple[str, int], Sequence[int]] = {}

    def frames(self, address: int) -> list[IndexedFrame]:
        """The frames at `address`, innermost first; [] where nothing is known. Raises SmallLookupError for damage."""
        try:
            return self._frames(address)
        except (IndexError, ValueError) as error:
            raise SmallLookupError(f"its parts do not agree ({error})") from None

    def function_offset(self, address: int) -> int | None:
        """How far `address` lies behind where its function is entered; None where that is not known."""
        try:
            found = self._last_row("begin", "begin_address", address)
            if found is None:
                return None
            block, row, begin = found
            offset = self._block("begin_offset", block)[row]
            return address - begin + offset - 1 if offset else None
        except (IndexError, ValueError) as error:
            raise SmallLookupError(f"its parts do not agree ({error})") from None

    def _frames(self, address: int) -> list[IndexedFrame]:
        found = self._last_row("delta", "block_address", address)
        if found is None:
            return []
        block, row, _ = found
        scope = self._scope(block, row)
        line, column = self._block("line", block)[row], self._block("column", block)[row]
        frames = []
        while scope:
            function = self._value("function", scope)
            distance = self._value("outer", scope)
            if distance > scope:
                raise ValueError("a scope lies outside of all")
            frames.append(
                IndexedFrame(
                    self._string("names", self._value("name", function)),
                    self._string("files", self._value("file", function)),
                    line - 1 + self._value("least_line", function) or None if line else None,
                    column or None,
                    distance > 0,
                )
            )
            if not distance:
                break
            line, column = self._value("call_line", scope), self._value("call_column", scope)
            scope -= distance
        return frames

    def _last_row(self, column: str, array: str, address: int) -> tuple[int, int, int] | None:
        """(block, row in it, its address) of the last row that is not behind `address`; None before the first."""
        firsts = self._arrays[array]
        block = bisect_right(firsts, address) - 1
        if block < 0:
            return None
        distances = self._block(column, block)
        at = begin = firsts[block]
        row = 0
        for index in range(1, len(distances)):
            at += distances[index]
            if at > address:
                break
            row, begin = index, at
        return block, row, begin

    def _scope(self, block: int, row: int) -> int:
        """The scope of a row, by the codes of the rows before it in its block."""
        greatest = self._arrays["block_scope"][block]
        scope = 0
        for code in self._block("scope", block)[: row + 1]:
            if code & 1:
                greatest += (code + 1) >> 1
                scope = greatest
            elif code == 2:
                scope = 0
            elif code:
                scope = greatest - ((code - 4) >> 1)
        return scope

    def _value(self, column: str, number: int) -> int:
        block, within = divmod(number, BLOCK)
        return self._block(column, block)[within]

    def _block(self, column: str, block: int) -> Sequence[int]:
        """The values of one block of a packed column."""
        key = (column, block)
        found = self._blocks.get(key)
        if found is None:
            begins = self._begins[column]
            found = self._blocks[key] = _unpacked(bytes(self._part(column)[begins[block] : begins[block + 1]]))
            if len(found) != min(BLOCK, self._counts[column] - block * BLOCK):
                raise ValueError(f"{len(found)} values in a block of {column}")
        return found

    def _string(self, array: str, number: int) -> str | None:
        if not number:
            return None
        block, within = divmod(number, STRING_BLOCK)
        begins, data = self._arrays[array[:-1] + "_begins"], self._arrays[array]
        begin = begins[block]
        end = begins[block + 1] if block + 1 < len(begins) else len(data)
        return bytes(data[begin:end]).split(b"\0")[within].decode("utf-8", "surrogateescape")

    def _part(self, name: str) -> memoryview:
        offset, size = self._places[name]
        if offset + size > len(self._content):
            raise SmallLookupError(f"its part {name} lies outside of it")
        return self._content[offset : offset + size]


def _unpacked(data: bytes) -> Sequence[int]:
    """The values of a run of whole LEB128 numbers."""
    if not data or max(data) < 128:
        return data
    values = []
    value = shift = 0
    for byte in data:
        if byte < 128:
            values.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 127) << shift
            shift += 7
    return values
