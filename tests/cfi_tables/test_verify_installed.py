"""Large installed binaries: every row of the table is what readelf reads, and one that is not is found."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable, build_table
from cfi_tables.verify import verify_table

_BINARIES = [
    "libc.so.6", "libstdc++.so.6", "libcrypto.so.3", "libpython3.11.so.1.0", "gdb", "cc1plus", "libLLVM-14.so.1",
]  # fmt: skip


def _one_row_changed(table: CompactTable) -> tuple[CompactTable, int, int]:
    """(the table with another frame address in one row, the row's first address, the one behind it)."""
    addresses, offsets = table.row_columns()
    rules, first, counts = np.unique(offsets, return_index=True, return_counts=True)
    alone = (counts == 1) & (table.data[rules] == layout.CFA_KIND_REGISTER_OFFSET)
    row = int(first[alone][0])
    data = bytearray(table.data.tobytes())
    data[int(offsets[row]) + layout.RULE_CFA_VALUE] ^= 8
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = bytes(4)
    data[layout.HEADER_CHECKSUM : layout.HEADER_CHECKSUM + 4] = zlib.crc32(data).to_bytes(4, "little")
    start = table.text_range[0]
    end = start + int(addresses[row + 1]) if row + 1 < table.row_count else table.text_range[1]
    return CompactTable(np.frombuffer(bytes(data), dtype=np.uint8), "changed"), start + int(addresses[row]), end


@pytest.mark.parametrize("name", _BINARIES)
def test_every_boundary(name, system_file):
    image = ElfImage.open(system_file(name))
    table = build_table(image)
    assert table.skipped == []
    found = verify_table(table, image)
    assert found.differences == []
    assert found.addresses > 2 * table.row_count and found.fdes > 1000
    changed, start, end = _one_row_changed(table)
    told = [difference.address for difference in verify_table(changed, image).differences]
    assert start in told and end - 1 in told and all(start <= address < end for address in told)
