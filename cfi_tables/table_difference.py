"""Where two tables say different things, for `ptap tables diff`: by meaning, whatever their coding or layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cfi_tables.hot_loop import plain_view
from cfi_tables.show import describe_rule
from cfi_tables.table import CompactTable, TableError

GAP = "no information"


@dataclass(frozen=True, slots=True)
class DifferentRange:
    """An address range in which the rules differ."""

    start: int
    end: int
    first: str
    second: str


def table_differences(first: CompactTable, second: CompactTable) -> Iterator[DifferentRange]:
    """The ranges in which the two say different things, in the order of addresses.

    Raises TableError where the tables are for different machines.
    """
    if first.machine != second.machine:
        raise TableError(
            f"{first.name} is for ELF machine {first.machine}, {second.name} for {second.machine}; "
            "compare tables of one architecture"
        )
    sides = [_described(table) for table in (first, second)]
    bounds = np.unique(np.concatenate([addresses for addresses, _ in sides]))
    words = []
    for addresses, texts in sides:
        index = np.searchsorted(addresses, bounds, side="right") - 1
        words.append([texts[at] if at >= 0 else GAP for at in index.tolist()])
    open_range: DifferentRange | None = None
    for start, one, other in zip(bounds.tolist(), *words, strict=True):
        if open_range is not None and (one, other) != (open_range.first, open_range.second):
            yield DifferentRange(open_range.start, start, open_range.first, open_range.second)
            open_range = None
        if one != other and open_range is None:
            open_range = DifferentRange(start, start, one, other)


def _described(table: CompactTable) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], list[str]]:
    """(address of each row and of the end, the rule from there on as text)."""
    view = plain_view(table.data)
    known: dict[int, str] = {}
    addresses: list[int] = []
    texts: list[str] = []
    for address, offset in table.rows():
        if offset not in known:
            known[offset] = describe_rule(view, offset)
        addresses.append(address)
        texts.append(known[offset])
    addresses.append(table.text_range[1])
    texts.append(GAP)
    return np.array(addresses, dtype=np.uint64), texts
