"""Writes what is generated from the schemas of records and predicates: `python -m relay_reader.generate [--check]`.

A tool of development, which is why it may use the writer of another package: nothing imports it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cfi_tables.generate import GeneratedLayout, run
from relay_reader import predicate_schema, record_schema

_ROOT = Path(__file__).resolve().parent.parent

RECORD_LAYOUT = GeneratedLayout(
    record_schema,
    "What the kernel module and its user exchange",
    "relay_reader/generate.py",
    _ROOT / "relay_reader" / "record_layout.py",
    _ROOT / "runtime_c" / "module" / "ptap_record.h",
)

PREDICATE_LAYOUT = GeneratedLayout(
    predicate_schema,
    "Programs that decide whether a stack is wanted",
    "relay_reader/generate.py",
    _ROOT / "relay_reader" / "predicate_layout.py",
    _ROOT / "runtime_c" / "core" / "ptap_predicate_program.h",
)

if __name__ == "__main__":
    sys.exit(max(run(layout, sys.argv[1:]) for layout in (RECORD_LAYOUT, PREDICATE_LAYOUT)))
