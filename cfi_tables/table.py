"""The compact unwind table of one module: built from its CFI, saved, loaded and checked.

Owns the table as a value. Data comes from an `ElfImage` (and its debug file) or from a saved table; the walk gets
`data` to put in its arena, and looks rules up by `lookup.find_rule`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cfi_tables import layout
from cfi_tables.hot_loop import compiled, compiled_pays, plain_view
from cfi_tables.mapped_file import map_whole, write_whole
from cfi_tables.progress import progress
from cfi_tables.rows import decode_rows
from cfi_tables.table_check import TableError as TableError
from cfi_tables.table_check import checked_header

if TYPE_CHECKING:
    from cfi_tables.elf_image import ElfImage
    from cfi_tables.section_rows import FrameProblemAt

_INTERPRETED_RATE = 650_000
"""Rows that the plain form decodes in a second, measured."""


class CompactTable:
    """One module's unwind table. Rules hold at file virtual addresses."""

    def __init__(self, data: NDArray[np.uint8], name: str, just_made: bool = False) -> None:
        """Take `data` (a whole table) after checking all of its bounds. Raises TableError.

        Of a table that was `just_made` by this process no more than the header is checked.
        """
        self.data = data
        """The whole table."""
        self.name = name
        self.skipped: list[FrameProblemAt] = []
        """FDEs that were left out; of a loaded table only `skipped_count` is known."""
        header = checked_header(data, name, just_made)
        self.machine = int(header["machine"])
        size = int(header["build_id_size"])
        self.build_id: bytes | None = bytes(header["build_id"])[:size] if size else None
        """The module's build-id (its first 20 bytes), None when it has none."""
        self.text_range = (int(header["text_start"]), int(header["text_end"]))
        """First address with a rule, first one behind them all; equal when there are no rows."""
        self.row_count = int(header["row_count"])
        self.rule_count = int(header["rule_count"])
        self.skipped_count = int(header["skipped_count"])

    def rows(self) -> Iterator[tuple[int, int]]:
        """(address, offset of the rule record in `data`) of every row in order; gaps are rows of INVALID rules.

        A row holds up to the next one's address, the last one up to `text_range[1]`.
        """
        addresses, offsets = self.row_columns()
        start = self.text_range[0]
        for address, offset in zip(addresses.tolist(), offsets.tolist(), strict=True):
            yield start + address, offset

    def row_columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(address from the text start, offset of the rule record in `data`) of every row. Raises TableError."""
        addresses = np.empty(self.row_count, dtype=np.int64)
        records = np.empty(self.row_count, dtype=np.int64)
        if compiled_pays(decode_rows, self.row_count / _INTERPRETED_RATE):
            count = compiled(decode_rows)(self.data, 0, addresses, records)
        else:
            count = decode_rows(plain_view(self.data), 0, plain_view(addresses), plain_view(records))
        if count != self.row_count:
            raise TableError(f"{self.name}: the table's rows are damaged; delete the file")
        return addresses - self.text_range[0] % layout.DELTA_ALIGNMENT, records

    def save(self, path: str | Path) -> None:
        """Write the table to `path`: whole or not at all. Raises OSError."""
        write_whole(path, self.data)

    @classmethod
    def load(cls, path: str | Path) -> CompactTable:
        """Map the table at `path`. Raises TableError when it is damaged or of another format, and OSError."""
        data = map_whole(path)
        if data is None:
            raise TableError(f"{path}: the table is empty; delete it, and it is built again")
        return cls(data, str(path))


def build_table(image: ElfImage, debug: ElfImage | None = None, use_compiled: bool | None = None) -> CompactTable:
    """Compile the CFI of `image` into a table.

    `cfi_sources` tells which source of CFI holds where, `relocation` at which addresses the sections of a relocatable
    object count as lying. FDEs that are damaged are in `skipped`. `use_compiled` None chooses the form of the hot
    loops by size. Raises TableError for a machine that is not supported, and ElfError for a damaged file. An image
    without CFI gives a table without rows.
    """
    from cfi_tables.cfi_sources import UnsupportedImage, decode_image
    from cfi_tables.table_encoding import encode_table
    from cfi_tables.work_memory import kept_memory

    with progress(f"unwind table of {Path(image.path).name}"), kept_memory() as memory:
        try:
            merged, rules, skipped = decode_image(image, debug, use_compiled, memory)
        except UnsupportedImage as error:
            raise TableError(str(error)) from None
        data = encode_table(image, merged, rules, len(skipped), use_compiled, memory)
    table = CompactTable(data, image.path, just_made=True)
    table.skipped = skipped
    return table
