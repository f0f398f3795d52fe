"""Operands of DWARF operations, read with bounds (DWARF 5 §7.6, §7.7.1)."""

from __future__ import annotations

from collections.abc import Callable

from unwind.arguments.unavailable import malformed
from unwind.dwarf.die import Unit
from unwind.dwarf.integer import read_sleb128, read_uleb128


class OperandReader:
    """A position in an expression. Every read raises Unavailable beyond the end."""

    __slots__ = ("_data", "_position", "unit")

    def __init__(self, data: bytes, unit: Unit) -> None:
        self._data = data
        self._position = 0
        self.unit = unit

    @property
    def at_end(self) -> bool:
        """Nothing is left."""
        return self._position >= len(self._data)

    def block(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise malformed("an expression is cut short")
        data = self._data[self._position : end]
        self._position = end
        return data

    def fixed(self, size: int, signed: bool = False) -> int:
        """A little-endian integer."""
        return int.from_bytes(self.block(size), "little", signed=signed)

    def uleb128(self) -> int:
        """An unsigned LEB128 integer."""
        return self._leb128(read_uleb128)

    def sleb128(self) -> int:
        """A signed LEB128 integer."""
        return self._leb128(read_sleb128)

    def _leb128(self, read: Callable[[bytes, int], tuple[int, int]]) -> int:
        try:
            value, self._position = read(self._data, self._position)
        except IndexError:
            raise malformed("an expression is cut short") from None
        return value

    def jump(self, distance: int) -> None:
        """Move from here by `distance` bytes, at most to the end."""
        position = self._position + distance
        if not 0 <= position <= len(self._data):
            raise malformed("a branch leaves its expression")
        self._position = position
