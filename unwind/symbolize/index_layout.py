"""The format of a module's symbol index, for whoever writes or reads one.

An index says for every address of a module's code which function it is in, through which inlined calls, and of which
source line each of them is. All integers are little endian. It holds a header, a table of parts (offset and size, u64
each), and the parts, each aligned to 8 bytes. A packed column (packed_column.py) is two parts: its bytes, and where its
blocks begin.

* Rows: for each block of 256 the address of its first row (u64) and the greatest scope in front of it (u32); and packed
  columns of the distance from the row before (0 in the first one of a block), of scope codes, of
  lines, and of columns (0 for none).
* Scope code: 0 for the scope of the row before; 2n - 1 for the n-th new scope, counted from the greatest so far; 2 for
  scope 0 (nothing is known here); 4 + 2n for the scope n below the greatest so far.
* Line: 0 for none, else 1 more than the distance from the least line of the scope's function.
* Scopes: packed columns of the distance to the scope that it was inlined into (0: it is a function of its own), of its
  function, and of the line and column of the call; the line counts as a row's does, in the function around it.
* Functions: packed columns of name, file and least line. Names and files: strings that a NUL ends, and where each
  64th of them begins. Number 0 stands for nothing.
* Begins: for each block the address (u64), and packed columns of the distance from the one before, and of 1 more than
  the distance from where the function is entered, 0 in a part that lies apart from there.
* Mapped, damaged: pairs of addresses (u64) that the module has in memory, and of units that could not be read.
"""

from __future__ import annotations

MAGIC = 0x59535450  # "PTSY"
FORMAT_VERSION = 1
BLOCK = 256
"""Values of a block of a packed column; the last one of a column may have fewer."""
STRING_BLOCK = 64
HEADER_FIELDS = [
    ("magic", "<u4"),
    ("format_version", "<u2"),
    ("machine", "<u2"),
    ("checksum", "<u4"),  # CRC-32 of the whole index with this field zero
    ("flags", "<u4"),
    ("size", "<u8"),
    ("build_id", "V32"),
    ("build_id_size", "<u4"),
    ("row_count", "<u4"),
    ("scope_count", "<u4"),
    ("function_count", "<u4"),
    ("name_count", "<u4"),
    ("file_count", "<u4"),
    ("begin_count", "<u4"),
    ("part_count", "<u4"),
]
"""Names and NumPy's types, which lie one behind the other."""
HEADER_CHECKSUM = 8

HAS_DEBUG = 1
HAS_SYMBOLS = 2
DAMAGED_SOMEWHERE = 4
"""Some unit could not be read whole, whose addresses are not known."""

COLUMNS = {
    "delta": "row_count",
    "scope": "row_count",
    "line": "row_count",
    "column": "row_count",
    "outer": "scope_count",
    "function": "scope_count",
    "call_line": "scope_count",
    "call_column": "scope_count",
    "name": "function_count",
    "file": "function_count",
    "least_line": "function_count",
    "begin": "begin_count",
    "begin_offset": "begin_count",
}
"""The packed columns, and the count in the header that each one has."""
ARRAYS = {
    "block_address": "<u8",
    "block_scope": "<u4",
    "begin_address": "<u8",
    "names": "u1",
    "name_begins": "<u4",
    "files": "u1",
    "file_begins": "<u4",
    "mapped": "<u8",
    "damaged": "<u8",
}
"""The other parts, and what they are made of."""
PARTS = [*(f"{name}{end}" for name in COLUMNS for end in ("", "_blocks")), *ARRAYS]
