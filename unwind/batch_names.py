"""Names for the frames of bulk walks: each distinct address of each module is looked up once in a capture.

Takes `WalkedBatch`es; gives for each frame an index into a list of places, a place being the function and the
calls inlined into it, innermost first, as `ModuleSymbols.frames_at` tells them.
"""

from __future__ import annotations

import numpy as np

from cfi_tables.distinct_values import distinct_values
from unwind.batch_walk import Int64s, WalkedBatch
from unwind.symbolize.symbol_frame import SymbolFrame

_MASK = (1 << 64) - 1


class BatchNames:
    """The places of all batches so far."""

    def __init__(self) -> None:
        self.places: list[list[SymbolFrame]] = [[]]
        """By index; the first is of frames that have no name."""
        self._known: dict[tuple[int, int], int] = {}

    def places_of(self, batch: WalkedBatch) -> Int64s:
        """For each frame of `batch` the index of its place."""
        modules = batch.frame_modules
        addresses = batch.lookup_addresses
        result = np.zeros(len(modules), dtype=np.int64)
        for module in distinct_values(modules).tolist():
            if module < 0:
                continue
            rows = np.flatnonzero(modules == module)
            distinct, inverse = np.unique(addresses[rows], return_inverse=True)
            indices = [self._place(batch, module, address & _MASK) for address in distinct.tolist()]
            result[rows] = np.array(indices, dtype=np.int64)[inverse]
        return result

    def _place(self, batch: WalkedBatch, module: int, address: int) -> int:
        index = self._known.get((module, address))
        if index is None:
            symbols = batch.modules[module].symbols
            found = symbols.frames_at(address) if symbols is not None else []
            index = len(self.places) if found else 0
            if found:
                self.places.append(found)
            self._known[module, address] = index
        return index
