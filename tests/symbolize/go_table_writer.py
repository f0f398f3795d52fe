"""A .gopclntab of Go 1.18's layout written in that of Go 1.16: addresses instead of offsets (its runtime/symtab.go)."""

from __future__ import annotations

import struct

_INLINE_TREE = 3
_RECORD = 36  # bytes behind a record's address or offset


def as_go_1_16(table: bytes, inline_data: int) -> bytes:
    """`table`, in the older layout; `inline_data` is where the newer one's trees count from."""
    count, files, text, *offsets = struct.unpack_from("<8Q", table, 8)
    names, units, paths, pc_tables, functions = offsets
    # The header loses one word; the parts between it and the functions move up by as much.
    parts = table[names:functions]
    shift = names - 64
    header = struct.pack("<IHBB7Q", 0xFFFFFFFA, 0, *table[6:8], count, files, 64, *(
        each - shift for each in (units, paths, pc_tables, functions)
    ))  # fmt: skip
    listing = bytearray()
    records = bytearray()
    begin = (2 * count + 1) * 8
    for number in range(count):
        entry, record = struct.unpack_from("<2I", table, functions + 8 * number)
        at = functions + record
        (tables,) = struct.unpack_from("<I", table, at + 4 * 7)
        data_count = table[at + 4 + _RECORD - 1]
        pc_data = table[at + 4 + _RECORD : at + 4 + _RECORD + 4 * tables]
        data = struct.unpack_from(f"<{data_count}I", table, at + 4 + _RECORD + 4 * tables)
        records += bytes(-(begin + len(records)) % 8)
        listing += struct.pack("<2Q", text + entry, begin + len(records))
        records += struct.pack("<Q", text + entry) + table[at + 4 : at + 4 + _RECORD] + pc_data
        records += bytes(-(begin + len(records)) % 8)
        records += b"".join(struct.pack("<Q", 0 if each == 0xFFFFFFFF else inline_data + each) for each in data)
    (end,) = struct.unpack_from("<I", table, functions + 8 * count)
    return header + parts + listing + struct.pack("<Q", text + end) + records
