"""Functions by name → the ranges of code in which a trace shows them, by a module's symbol index.

What lies in a range, inlined calls too, is what `IndexLookup.frames` says of its addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unwind.symbolize.function_index import name_matcher
from unwind.symbolize.function_search import path_matches
from unwind.symbolize.index_lookup import IndexLookup

Uint64s = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class FunctionRanges:
    """Shape (n, 2): first address and the one behind the last; sorted, and none touches the next."""

    anywhere: Uint64s
    """Where the function is one of the frames: its own code, and what is inlined in it."""
    innermost: Uint64s
    """Where it is the innermost frame: its own code only."""


def function_ranges(lookup: IndexLookup, pattern: str, file: str | None = None) -> FunctionRanges:
    """Ranges of the functions whose name matches the wildcard `pattern`, as `FunctionSearch.functions` compares it.

    `file` is a wildcard for their source file or its last parts. Empty when nothing matches. Raises SymbolIndexError.
    """
    begins, scopes = lookup.scope_rows()
    own = _scopes_of(lookup, pattern, file)
    return FunctionRanges(_ranges(begins, _with_inlined(lookup, own)[scopes]), _ranges(begins, own[scopes]))


def _scopes_of(lookup: IndexLookup, pattern: str, file: str | None) -> NDArray[np.bool_]:
    """Which scopes are of a function that is meant."""
    columns, matches = lookup.index.columns, name_matcher(pattern)
    named = np.array([bool(name) and matches(name) for name in lookup.names], dtype=bool)
    functions = named[columns["name"].blocks()]
    if file is not None:
        fits = np.array([bool(path) and path_matches(path, file) for path in lookup.files], dtype=bool)
        functions &= fits[columns["file"].blocks()]
    found: NDArray[np.bool_] = functions[columns["function"].blocks()]
    if len(found):
        found[0] = False
    return found


def _with_inlined(lookup: IndexLookup, own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those scopes and all that are inlined into them, however deep."""
    distance = lookup.index.columns["outer"].blocks()
    outer = np.where(distance > 0, np.arange(len(distance)) - distance, 0)
    found = own.copy()
    while True:
        more = found | found[outer]
        if (more == found).all():
            return found
        found = more


def _ranges(begins: Uint64s, inside: NDArray[np.bool_]) -> Uint64s:
    """Ranges of the rows that are `inside`; the last row of an index is where its code ends."""
    edges = np.diff(np.concatenate(([False], inside[:-1], [False])).astype(np.int8))
    first, behind = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return np.column_stack((begins[first], begins[behind])).astype(np.uint64).reshape(-1, 2)
