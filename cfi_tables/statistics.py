"""Figures of a table, for `ptap tables stats`: sizes of its parts, rows by kind, against what it replaces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable

REPLACED_SECTIONS = (
    ".eh_frame", ".eh_frame_hdr", ".debug_frame", ".orc_unwind", ".orc_unwind_ip", ".orc_header",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TableStatistics:
    """Sizes are bytes."""

    size: int
    parts: dict[str, int]
    """Sizes by part, alignment counted with the part before it; together the table."""
    rows: int
    rules: int
    rows_by_kind: dict[layout.CfaKind, int]
    skipped: int
    replaced: dict[str, int]
    """Sizes of the sections that the table was made from, decompressed."""

    @property
    def ratio(self) -> float | None:
        """The table's size against what it replaces; None where that is nothing."""
        total = sum(self.replaced.values())
        return self.size / total if total else None


def table_statistics(table: CompactTable, image: ElfImage, debug: ElfImage | None = None) -> TableStatistics:
    """The figures of `table`, which was built from `image` and `debug`. Raises ElfError for a damaged section."""
    header = table.data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)[0]
    # The header names where each part begins; it ends where the next one does. A table without rows has none.
    suffix = "_offset"
    starts = {name: int(header[name]) for name in layout.HEADER_DTYPE.names or () if name.endswith(suffix)}
    starts = {name: start for name, start in starts.items() if start}
    bounds = [*sorted(starts.values()), len(table.data)]
    parts = {"header": bounds[0]}
    for name, start in sorted(starts.items(), key=lambda each: each[1]):
        parts[name.removesuffix(suffix).replace("_", " ")] = (
            min(b for b in bounds if b > start) - start if start < bounds[-1] else 0
        )
    _, offsets = table.row_columns()
    kinds, counts = np.unique(table.data[offsets], return_counts=True)
    by_kind = Counter(
        {layout.CfaKind(kind): count for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)}
    )
    replaced: dict[str, int] = {}
    for name in REPLACED_SECTIONS:
        for source in (image, debug):
            if source is not None and source.has(name) and name not in replaced:
                replaced[name] = len(source.section_data(name))
    return TableStatistics(
        size=len(table.data),
        parts=parts,
        rows=table.row_count,
        rules=table.rule_count,
        rows_by_kind=dict(by_kind),
        skipped=table.skipped_count,
        replaced=replaced,
    )
