"""Frames of several sources in one set of columns: what stands beside each other in a batch of addresses.

A batch may touch a kernel and its modules, or names that come without lines. Each source answers for its own
addresses; here the answers come together in the order of the batch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.index_lookup import AddressFrames, Reason

Int64s = NDArray[np.int64]


class JoinedStrings(Sequence[str]):
    """Several tables of strings as one: number n of table k is `bases[k] + n`."""

    def __init__(self, tables: Sequence[Sequence[str]]) -> None:
        self._tables = tables
        self.bases = [0]
        for table in tables:
            self.bases.append(self.bases[-1] + len(table))

    def __len__(self) -> int:
        return self.bases[-1]

    def __getitem__(self, number: int) -> str:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        table = bisect_right(self.bases, number) - 1
        return self._tables[table][number - self.bases[table]]


def named_frames(names: Sequence[str | None], missing: Reason = Reason.NO_SUCH_CODE) -> AddressFrames:
    """One frame without a line for each name; None has no frame but the reason `missing`."""
    numbers: dict[str, int] = {"": 0}
    found = np.array([numbers.setdefault(name, len(numbers)) for name in names if name is not None], dtype=np.int32)
    named = np.array([name is not None for name in names], dtype=bool)
    offsets = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum(named, out=offsets[1:])
    nothing = np.zeros(len(found), dtype=np.int32)
    reasons = np.where(named, Reason.FOUND, missing).astype(np.uint8)
    return AddressFrames(
        offsets, reasons, found, found, nothing, nothing, nothing, nothing.astype(bool), list(numbers), [""]
    )


def chosen_frames(frames: AddressFrames, chosen: NDArray[np.bool_]) -> AddressFrames:
    """The frames of those addresses of a batch that are `chosen`."""
    sizes = np.diff(frames.offsets)
    rows = np.repeat(chosen, sizes)
    offsets = np.zeros(int(chosen.sum()) + 1, dtype=np.int64)
    np.cumsum(sizes[chosen], out=offsets[1:])
    columns = (frames.functions, frames.names, frames.files, frames.lines, frames.columns)
    functions, names, files, lines, numbers = (column[rows] for column in columns)
    return AddressFrames(
        offsets, frames.reasons[chosen], functions, names, files, lines, numbers, frames.inlined[rows],
        frames.name_table, frames.file_table,
    )  # fmt: skip


def joined_frames(count: int, parts: Sequence[tuple[Int64s, AddressFrames]]) -> AddressFrames:
    """The frames of `count` addresses from parts: (the places of its addresses in the batch, their frames).

    Every place occurs in exactly one part.
    """
    depth = np.zeros(count, dtype=np.int64)
    reasons = np.full(count, Reason.NO_SUCH_CODE, dtype=np.uint8)
    for places, frames in parts:
        depth[places] = np.diff(frames.offsets)
        reasons[places] = frames.reasons
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(depth, out=offsets[1:])
    columns = {
        name: np.zeros(int(offsets[-1]), dtype=np.int32) for name in ("functions", "names", "files", "lines", "columns")
    }
    inlined = np.zeros(int(offsets[-1]), dtype=bool)
    names = JoinedStrings([frames.name_table for _, frames in parts])
    files = JoinedStrings([frames.file_table for _, frames in parts])
    functions = 0
    for index, (places, frames) in enumerate(parts):
        sizes = np.diff(frames.offsets)
        # A part's frames lie together by address, in the order of its places.
        target = np.repeat(offsets[places] - frames.offsets[:-1], sizes) + np.arange(len(frames.lines))
        inlined[target] = frames.inlined
        bases = {"functions": functions, "names": names.bases[index], "files": files.bases[index]}
        for name, column in columns.items():
            values = getattr(frames, name)
            # Number 0 of a table is nothing, in every table.
            column[target] = np.where(values > 0, values + bases.get(name, 0), 0)
        functions += int(frames.functions.max()) if len(frames.functions) else 0
    return AddressFrames(
        offsets, reasons, **columns, inlined=inlined, name_table=names or [""], file_table=files or [""]
    )
