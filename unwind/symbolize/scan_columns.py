"""Columns of what `unit_scan.scan_units` reads out of units: facts, entries, rows and runs; and how it ends.

An *entry* is a function, an inlined call or a scope that names them. A *row* begins at an address and says which
entry is innermost there, and of which file and line the code is; a *run* is a range of addresses whose rows stand side
by side: a function's, or lines that no function of the unit covers.
"""

from __future__ import annotations

# Columns of what is found out of a unit.
DIRECTORY = 0
"""Its compilation directory (a string as line_header_scan refers to it)."""
LANGUAGE = 1
LINE_VERSION = 2
"""Of its line number program, 0 without one."""
FIRST_DIRECTORY = 3
DIRECTORY_COUNT = 4
FIRST_FILE = 5
FILE_COUNT = 6
STATUS = 7
"""What is damaged, see DAMAGED_*."""
PLACE = 8
"""Offset at which it was noticed."""
SPLIT = 9
"""1: it is a skeleton unit, and the unit that stands for it comes later."""
FACT_WIDTH = 10

DAMAGED_ABBREVIATIONS = 16
DAMAGED_RANGES = 17
DAMAGED_LINES = 18
DAMAGED_ROOT = 19
"""Other values of STATUS are those of function_scan; later ones do not replace the first."""

# Columns of an entry.
OFFSET = 0
UNIT = 1
TAG = 2
PARENT = 3
"""Entry around it, -1 for none."""
ORIGIN = 4
"""Offset in .debug_info of what completes it, -1 for nothing.

ORIGIN_SHARED less an offset in the shared (dwz) file, or ORIGIN_ELSEWHERE for what is in a type unit.
"""
NAME = 5
LINKAGE = 6
"""Strings as line_header_scan refers to them."""
CALL_FILE = 7
"""Index among all files, -1 for none."""
CALL_LINE = 8
CALL_COLUMN = 9
START = 10
"""Where a function is entered, WITHOUT_CODE for what has none."""
ORIGIN_ENTRY = 11
"""The entry at ORIGIN where it is of the same unit, -1 where it is not."""
ENTRY_WIDTH = 12

WITHOUT_CODE = -(1 << 63)
ORIGIN_SHARED = -2
ORIGIN_ELSEWHERE = -(1 << 60)

# Columns of a row.
ROW_ADDRESS = 0
ROW_ENTRY = 1
"""-1 in lines that no function covers."""
ROW_FILE = 2
ROW_LINE = 3
ROW_COLUMN = 4
ROW_WIDTH = 5

# Columns of a run.
RUN_LOW = 0
RUN_HIGH = 1
RUN_FIRST = 2
"""Its first row."""
RUN_COUNT = 3
RUN_UNIT = 4
RUN_WIDTH = 5

# Indices in `counts`: how many of each were written.
ENTRIES = 0
ROWS = 1
RUNS = 2
DIRECTORIES = 3
FILES = 4
COUNTS = 5

# What was too small, as `scan_units` returns it.
SCRATCH_FULL = 1
OUTPUT_FULL = 2
