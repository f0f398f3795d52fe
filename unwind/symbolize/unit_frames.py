"""Frames in columns of a few addresses, read from the units that they lie in: the answer without a symbol index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.function_name import readable_name
from unwind.symbolize.index_build import damaged_ranges, mapped_ranges
from unwind.symbolize.index_layout import DAMAGED_SOMEWHERE, HAS_DEBUG, HAS_SYMBOLS
from unwind.symbolize.index_lookup import AddressFrames, miss_reasons

if TYPE_CHECKING:
    from unwind.symbolize.module_symbols import ModuleSymbols


def unit_frames(symbols: ModuleSymbols, addresses: NDArray[np.uint64]) -> AddressFrames:
    """The frames at `addresses`, as an index would give them; names and files are numbered within the batch."""
    names: dict[str, int] = {"": 0}
    files: dict[str, int] = {"": 0}
    functions: dict[tuple[int, int], int] = {}
    offsets = [0]
    rows: list[tuple[int, int, int, int, int, bool]] = []
    for address in addresses.tolist():
        for frame in symbols.frames_at(address):
            symbol = frame.linkage_name
            if symbol is None or readable_name(symbol) != frame.function:
                symbol = frame.function or ""
            name = names.setdefault(symbol, len(names))
            file = files.setdefault(frame.file or "", len(files))
            function = functions.setdefault((name, file), len(functions) + 1)
            rows.append((function, name, file, frame.line or 0, frame.column or 0, frame.inlined))
        offsets.append(len(rows))
    bounds = np.array(offsets, dtype=np.int64)
    columns = np.array(rows, dtype=np.int32).reshape(-1, 6)
    reasons = np.zeros(len(addresses), dtype=np.uint8)
    missed = np.flatnonzero(bounds[1:] == bounds[:-1])
    if len(missed):
        damaged, everywhere = damaged_ranges(symbols.debug_info)
        flags = HAS_DEBUG if symbols.debug_info is not None else 0
        flags |= HAS_SYMBOLS if len(symbols.symbol_names.code_ranges()[0]) or symbols.go_table is not None else 0
        flags |= DAMAGED_SOMEWHERE if everywhere else 0
        reasons[missed] = miss_reasons(addresses[missed], flags, mapped_ranges(symbols.image), damaged)
    numbers = [columns[:, index].copy() for index in range(5)]
    inlined = columns[:, 5].astype(bool)
    return AddressFrames(
        offsets=bounds,
        reasons=reasons,
        functions=numbers[0],
        names=numbers[1],
        files=numbers[2],
        lines=numbers[3],
        columns=numbers[4],
        inlined=inlined,
        name_table=list(names),
        file_table=list(files),
    )


def unit_function_offsets(symbols: ModuleSymbols, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How far each address lies behind its function's entry, -1 where that is not known."""
    found = []
    for address in addresses.tolist():
        frames = symbols.frames_at(address)
        offset = frames[-1].offset if frames else None
        found.append(-1 if offset is None else offset)
    return np.array(found, dtype=np.int64)
