"""Damaged tables with a right checksum: Python and C refuse the same, and what passes leads no reader out of it."""

from __future__ import annotations

import os
import random
import zlib
from collections import Counter

import numpy as np
import pytest
from core_library import Core, build_library, walk_by_numba
from garbage_stack import GarbageStacks

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.lookup import find_rule
from cfi_tables.show import format_rows
from cfi_tables.table import CompactTable, TableError, build_table

_TIMES = 20_000
_ROOM = 16
_EVERY = 4
"""Stacks are walked by so many of the tables that pass."""


@pytest.fixture(scope="module")
def core(require_tool, tmp_path_factory) -> Core:
    require_tool("gcc", "gcc")
    return Core(build_library("gcc", tmp_path_factory.mktemp("core")))


def _damaged(source: random.Random, whole: bytes) -> bytes:
    """A copy with some bytes changed and the checksum of that; mostly in one part of the table."""
    data = bytearray(whole)
    header = np.frombuffer(whole, dtype=layout.HEADER_DTYPE, count=1)[0]
    names = [name for name in layout.HEADER_DTYPE.names if name.endswith("_offset")]
    starts = sorted(int(header[name]) for name in names)
    low = source.choice([layout.HEADER_CHECKSUM + 4, *starts])
    high = min((start for start in [*starts, len(data)] if start > low), default=len(data))
    for _ in range(source.choice([1, 1, 2, 5])):
        at = source.randrange(low, high)
        if source.random() < 0.5:
            data[at] ^= 1 << source.randrange(8)
        else:
            data[at] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
    data[8:12] = bytes(4)
    data[8:12] = zlib.crc32(data).to_bytes(4, "little")
    return bytes(data)


def _look_up(core: Core, table: CompactTable) -> None:
    """All readers of the table: the bulk one, both lookups, the one that prints."""
    find = compiled(find_rule)
    low, high = table.text_range
    for pc in (low - 1, *range(low, high, max((high - low) // 24, 1)), high - 1, high):
        pc = (pc + (1 << 63) & (1 << 64) - 1) - (1 << 63)
        record = find(table.data, 0, pc)
        assert record == -1 or 0 < record <= len(table.data) - layout.RULE_SIZE
        assert core.find_rule(table.data, pc) == record, hex(pc)
    try:
        table.row_columns()
        for _ in zip(range(40), format_rows(table), strict=False):
            pass
    except TableError as error:
        assert "damaged" in str(error)


def test_damaged_tables(core, programs):
    import numba

    assert numba.config.BOUNDSCHECK or not os.environ.get("CI"), "run with NUMBA_BOUNDSCHECK=1"
    names = ("cfi_directives", "dynamic_frame", "alternate_signal_stack")
    wholes = [build_table(ElfImage.open(programs.build(name))).data.tobytes() for name in names]
    source = random.Random(int(os.environ.get("PTAP_DAMAGE_SEED") or 1))
    refused: Counter[str] = Counter()
    accepted = frames = 0
    for number in range(_TIMES):
        data = np.frombuffer(_damaged(source, wholes[number % len(wholes)]), dtype=np.uint8)
        try:
            try:
                table = CompactTable(data, "damaged")
            except TableError as error:
                refused[str(error).split(";")[0]] += 1
                assert core.check_table(data) != 0, error
                continue
            assert core.check_table(data) == 0 and core.checksum_holds(data)
            accepted += 1
            _look_up(core, table)
            if accepted % _EVERY == 0 and table.row_count and table.text_range[1] < 1 << 40:
                stack = GarbageStacks([table], number).next()
                mine, theirs = core.walk(stack, _ROOM), walk_by_numba(stack, _ROOM)
                assert mine.differences(theirs) == []
                frames += mine.count
        except BaseException:
            print(f"number {number}: {data.tobytes().hex()}")
            raise
    print(f"{accepted} accepted, {frames} frames, refused: {dict(refused)}")
    assert accepted > _TIMES // 10 and frames > accepted // _EVERY
    assert sum(refused.values()) > _TIMES // 10 and len(refused) > 15


def test_a_table_with_another_checksum(core, programs):
    """Whatever byte is another one, the checksum's own ones included, C sees it as zlib does."""
    whole = build_table(ElfImage.open(programs.build("cfi_directives"))).data
    assert core.checksum_holds(whole)
    for at in range(len(whole)):
        data = whole.copy()
        data[at] ^= 1 << at % 8
        assert not core.checksum_holds(data), at
