"""The code that only ELF symbols name, as disjoint pieces: what debugging information leaves uncovered.

Says what `SymbolNames.at` says of a single address.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.symbol_names import FunctionSymbol, SymbolNames

Int64s = NDArray[np.int64]


@dataclass(slots=True)
class SymbolPieces:
    """Pieces [low, high), sorted, and the index of each one's symbol."""

    low: Int64s
    high: Int64s
    symbol: Int64s
    symbols: list[FunctionSymbol]


def symbol_pieces(names: SymbolNames, low: Int64s, high: Int64s) -> SymbolPieces:
    """The pieces of the disjoint ranges [low, high) that a code symbol or PLT stub covers."""
    start, end = names.code_ranges()
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.maximum.accumulate(end) if len(end) else end
    below = np.searchsorted(start, high, side="left")
    touched = below > 0
    touched[touched] = reach[below[touched] - 1] > low[touched]
    pieces: list[tuple[int, int, int]] = []
    numbers: dict[tuple[int, str], int] = {}
    symbols: list[FunctionSymbol] = []
    for index in np.flatnonzero(touched).tolist():
        # The first symbol that reaches into the range; those before it end earlier.
        first = int(np.searchsorted(reach, low[index], side="right"))
        part = slice(first, int(below[index]))
        begin, stop = int(low[index]), int(high[index])
        bounds = {begin, stop, *start[part].tolist(), *end[part].tolist()}
        cuts = sorted(each for each in bounds if begin <= each <= stop)
        for begin, stop in pairwise(cuts):
            symbol = names.at(begin & 0xFFFFFFFFFFFFFFFF)
            if symbol is not None:
                number = numbers.setdefault((symbol.address, symbol.name), len(symbols))
                if number == len(symbols):
                    symbols.append(symbol)
                pieces.append((begin, stop, number))
    columns = np.array(pieces, dtype=np.int64).reshape(-1, 3)
    columns = columns[np.argsort(columns[:, 0], kind="stable")]
    return SymbolPieces(columns[:, 0], columns[:, 1], columns[:, 2], symbols)
