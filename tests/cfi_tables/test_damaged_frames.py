"""Damaged call frame sections: bounded time, no error, no rule from nowhere, in both forms of the hot loops.

The compiled form runs in a process of its own with numba's bounds checks on, and must give the plain form's result.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable, TableError, build_table

MUTATIONS = 500


def mutations(data: bytes, offset: int, size: int) -> list[bytes]:
    """Copies of a file whose .eh_frame is damaged; the same for the same input."""
    source = random.Random(size)
    found = []
    for number in range(MUTATIONS):
        changed = bytearray(data)
        if number % 5 == 0:  # what follows a cut is some other section's bytes
            at = source.randrange(offset, offset + size)
            length = offset + size - at
            changed[at : offset + size] = bytes(source.randrange(256) for _ in range(length))
        else:
            for _ in range(source.choice([1, 2, 8, 40])):
                at = source.randrange(offset, offset + size)
                changed[at] = source.choice([0, 0xFF, 0x80, 0x7F, source.randrange(256)])
        found.append(bytes(changed))
    return found


def digest(path: str, use_compiled: bool) -> str:
    """A hash of the tables of all mutations."""
    image = ElfImage.open(path)
    section = image.sections[".eh_frame"]
    total = hashlib.sha256()
    for data in mutations(Path(path).read_bytes(), section.offset, section.size):
        table = build_table(ElfImage.from_bytes(data, "damaged"), use_compiled=use_compiled)
        total.update(table.data.tobytes())
        total.update(repr([(p.offset, p.reason, p.start) for p in table.skipped]).encode())
    return total.hexdigest()


def test_plain_form_and_compiled_form_with_bounds_checks(build_program):
    path = str(build_program("gcc", "-O2"))
    script = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('damage', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(module.digest(sys.argv[2], True))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, __file__, path],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(path, False)


def test_damage_is_counted(build_program):
    path = build_program("gcc", "-O2")
    image = ElfImage.open(path)
    section = image.sections[".eh_frame"]
    whole = build_table(image)
    reasons: set[layout.FrameProblem] = set()
    for data in mutations(path.read_bytes(), section.offset, section.size)[:100]:
        table = build_table(ElfImage.from_bytes(data, "damaged"))
        reasons |= {problem.reason for problem in table.skipped}
        assert table.skipped_count == len(table.skipped)
        low, high = table.text_range
        assert low <= high
        list(table.rows())
    assert whole.skipped == []
    assert len(reasons) >= 4, reasons


def test_damaged_tables_are_refused_or_harmless(build_program, tmp_path):
    """A table with a right checksum and wrong contents never leads a lookup out of its bounds."""
    import zlib

    from cfi_tables.lookup import find_rule
    from cfi_tables.show import describe_rule

    table = build_table(ElfImage.open(build_program("gcc", "-O2")))
    whole = table.data.tobytes()
    source = random.Random(4)
    refused = accepted = 0
    for _ in range(500):
        data = bytearray(whole)
        low, high = source.choice([(4, 104), (104, 400), (104, len(data)), (400, len(data))])
        for _ in range(source.choice([1, 1, 3])):
            data[source.randrange(low, high)] = source.choice([0, 1, 0x7F, 0xFF, source.randrange(256)])
        data[8:12] = bytes(4)
        data[8:12] = zlib.crc32(data).to_bytes(4, "little")
        try:
            damaged = CompactTable(np.frombuffer(bytes(data), dtype=np.uint8), "damaged")
        except TableError as error:
            refused += 1
            assert "damaged" in str(error)
            continue
        accepted += 1
        view = memoryview(bytes(data))
        low, high = table.text_range
        for pc in range(low, high, 97):
            offset = find_rule(view, 0, pc)
            assert offset == -1 or 0 < offset <= len(data) - layout.RULE_SIZE
            if offset >= 0:
                describe_rule(view, offset)
        try:
            list(damaged.rows())
        except TableError as error:
            assert "damaged" in str(error)
    assert refused > 50
    assert accepted > 50


def test_whole_table_size_is_bounded_by_its_input(build_program):
    """An FDE of nothing but advances and changes: as many rows as instructions, no more."""
    path = build_program("gcc", "-O2")
    image = ElfImage.open(path)
    table = build_table(image)
    assert table.row_count <= image.sections[".eh_frame"].size
    with pytest.raises(TableError, match="shorter"):
        CompactTable(table.data[:50], "short")
