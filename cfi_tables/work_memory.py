"""Memory that hot loops work in, kept between pieces of work.

Owns how large work areas come into being and that they are used again: the system clears each page that a process
touches for the first time, which took up to half of the time of building a table. What is kept is offered back to the
system (MADV_FREE), which takes it when it is short of memory.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64
_LEAST = 1 << 20
"""Bytes from which an area is kept."""
_MOST = 1 << 28
"""Bytes of the largest one that is; little of them is touched, since most arrays are as long as they might have to."""

_lock = threading.Lock()
_kept: list[mmap.mmap] = []


class WorkMemory:
    """Arrays for one piece of work, which are not used after it."""

    def __init__(self, area: mmap.mmap | None = None) -> None:
        """Take arrays from `area` as far as it goes, then (None: always) such as NumPy makes."""
        self._area = area
        self._lock = threading.Lock()
        self.wanted = 0
        """Bytes of all arrays that were taken."""

    def take(self, count: int, dtype: DTypeLike, cleared: bool = True) -> NDArray[Any]:
        """An array of `count` items, zero if `cleared`."""
        size = -(-count * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT
        with self._lock:
            begin = self.wanted
            self.wanted += size
        if self._area is None or begin + size > len(self._area):
            return np.zeros(count, dtype=dtype) if cleared else np.empty(count, dtype=dtype)
        taken = np.frombuffer(self._area, dtype=dtype, count=count, offset=begin)
        if cleared:
            taken[:] = 0
        return taken


@contextmanager
def kept_memory() -> Iterator[WorkMemory]:
    """Memory for one piece of work, the same as the last time unless another thread is using that."""
    with _lock:
        area = _kept.pop() if _kept else None
    memory = WorkMemory(area)
    try:
        yield memory
    finally:
        _keep(area, memory.wanted)


def _keep(area: mmap.mmap | None, wanted: int) -> None:
    """Keep an area of `wanted` bytes for the next time, the same one if it is large enough."""
    wanted = min(wanted, _MOST)
    if wanted >= _LEAST and (area is None or len(area) < wanted):
        try:
            area = mmap.mmap(-1, wanted)
        except OSError:
            return
        with suppress(OSError, AttributeError):
            area.madvise(mmap.MADV_HUGEPAGE)
    elif area is not None:
        with suppress(OSError, AttributeError):
            area.madvise(mmap.MADV_FREE)
    if area is not None:
        with _lock:
            if not _kept:
                _kept.append(area)
