"""Memory that hot loops work in, taken from the system at once.

Owns how a large work area comes into being. NumPy asks for huge pages where it allocates 4 MiB or more without clearing
them; arrays that are cleared by the system (`zeros`) come in pages of 4 KiB, and touching each of those for the first
time took up to half of the time of building a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LEAST = 4 << 20
_ALIGNMENT = 64


class WorkMemory:
    """Arrays for one piece of work."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of all arrays that will be taken from one area; 0 where that does not pay."""
        self._area: NDArray[np.uint8] | None = np.empty(max(size, _LEAST), dtype=np.uint8) if size else None
        self._used = 0

    def take(self, count: int, dtype: DTypeLike, cleared: bool = True) -> NDArray[Any]:
        """An array of `count` items, zero if `cleared`. Raises MemoryError when the area is used up."""
        if self._area is None:
            return np.zeros(count, dtype=dtype)
        size = count * np.dtype(dtype).itemsize
        begin = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        if begin + size > len(self._area):
            raise MemoryError(f"a work area of {len(self._area)} bytes has no room for {size} more")
        self._used = begin + size
        taken = self._area[begin : begin + size].view(dtype)
        if cleared:
            taken[:] = 0
        return taken
