"""Writes what is generated from the records' schema: `python -m relay_reader.generate [--check]`.

A tool of development, which is why it may use the writer of another package: nothing imports it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cfi_tables.generate import GeneratedLayout, run
from relay_reader import record_schema

_ROOT = Path(__file__).resolve().parent.parent

RECORD_LAYOUT = GeneratedLayout(
    record_schema,
    "What the kernel module and its user exchange",
    "relay_reader/generate.py",
    _ROOT / "relay_reader" / "record_layout.py",
    _ROOT / "runtime_c" / "module" / "ptap_record.h",
)

if __name__ == "__main__":
    sys.exit(run(RECORD_LAYOUT, sys.argv[1:]))
