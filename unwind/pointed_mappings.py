"""Which of a process's executable mappings a stack may return to: those that a word of it points into.

A process maps hundreds of files, a stack lies in a few, and each table costs its reading or building. A pc that is
computed rather than loaded is not found this way: a walk that ends outside of all of these mappings is to be made
again with the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from relay_reader.capture import Mapping, Sample

_WORD = 8


class PointedMappings:
    """Looks words up in the mappings of one process."""

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        self._mappings = sorted(mappings, key=lambda each: each.start)
        self._starts = [each.start for each in self._mappings]

    def of(self, sample: Sample) -> list[Mapping]:
        """The mappings that the sample's pc and slices point into, by address; the end of one counts as in it."""
        if not self._mappings:
            return []
        words = {sample.registers[-1]} if sample.registers else set()
        for piece in sample.slices:
            words.update(memoryview(piece.data)[: len(piece.data) & -_WORD].cast("Q"))
        low, high = self._starts[0], self._mappings[-1].end
        found = set()
        for word in words:
            if low <= word <= high:
                # A return address behind a call that does not return may be the first byte behind the mapping.
                for address in (word, word - 1):
                    index = bisect_right(self._starts, address) - 1
                    if index >= 0 and address < self._mappings[index].end:
                        found.add(index)
        return [self._mappings[index] for index in sorted(found)]
