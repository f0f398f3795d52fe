"""Large sections are worked on in parts: what comes out is the same as in one piece."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from cfi_tables import fde_order, layout, row_steps, section_programs, section_rows
from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled, run_hot
from cfi_tables.lookup import find_rule
from cfi_tables.table import build_table
from cfi_tables.worker_threads import run_parts


@pytest.mark.parametrize("name", ["libc.so.6", "libcrypto.so.3"])
def test_rows_of_parts_are_those_of_the_whole(name, system_file, monkeypatch):
    image = ElfImage.open(system_file(name))
    wanted = build_table(image, use_compiled=True).data.tobytes()
    used = []
    part = section_programs._Part
    monkeypatch.setattr(section_programs, "_Part", lambda *arguments: used.append(1) or part(*arguments))
    monkeypatch.setattr(section_programs, "worker_count", lambda: 3)
    monkeypatch.setattr(section_programs, "_PART_FDES", 100)
    assert build_table(image, use_compiled=True).data.tobytes() == wanted
    assert len(used) == 3


@pytest.mark.parametrize("size", [200, 1000])
def test_blocks_of_parts_hold_the_same_rows(size, system_file, monkeypatch):
    image = ElfImage.open(system_file("libcrypto.so.3"))
    whole = build_table(image, use_compiled=True)
    monkeypatch.setattr(row_steps, "_PART_ROWS", size)
    cut = build_table(image, use_compiled=True)
    assert len(cut.data) != len(whole.data), "the table is the same: it was not made in parts"
    assert cut.text_range == whole.text_range
    addresses, records = whole.row_columns()
    cut_addresses, cut_records = cut.row_columns()
    np.testing.assert_array_equal(cut_addresses, addresses)

    def rule(table, record):
        """The rule of a record as a value: where its list of registers lies is the table's own affair."""
        if record < 0:
            return None
        kind, register, place, value = struct.unpack_from("<BBHi", table.data, record)
        words = table.data[int(table.data[: layout.HEADER_SIZE].view(layout.HEADER_DTYPE)["lists_offset"][0]) :].view(
            "<u4"
        )[place:]
        return kind, register, value, words[: 1 + (int(words[0]) & 255)].tobytes()

    find = compiled(find_rule)
    start = whole.text_range[0]
    for address, record, cut_record in zip(addresses.tolist(), records.tolist(), cut_records.tolist(), strict=True):
        assert rule(cut, cut_record) == rule(whole, record), hex(start + address)
        for place in (start + address, start + address - 1):
            assert rule(cut, find(cut.data, 0, place)) == rule(whole, find(whole.data, 0, place)), hex(place)


def test_what_a_part_raises_is_raised():
    def fail() -> int:
        raise ValueError("the second part")

    assert run_parts([lambda: 1, lambda: 2, lambda: 3], use_threads=True) == [1, 2, 3]
    for use_threads in (False, True):
        with pytest.raises(ValueError, match="the second part"):
            run_parts([lambda: 1, fail, lambda: 3], use_threads)


@pytest.mark.parametrize("use_compiled", [False, True])
@pytest.mark.parametrize(("far", "reverse", "done"), [(0, False, True), (1 << 30, False, True), (1 << 30, True, False)])
def test_buckets_sort_or_give_up(far, reverse, done, use_compiled):
    """Starts in shuffled groups. Where one is far off, and the others come last first in few buckets, it gives up."""
    starts = np.random.default_rng(2).permuted(np.arange(6000).reshape(-1, 4), axis=1).reshape(-1) * 3 - 1000
    starts = np.append(starts[::-1] if reverse else starts, starts.max() + 1 + far).astype(np.int64)
    shift = max(int(starts.max() - starts.min()).bit_length() - 16, 0)
    order, heads = np.zeros(len(starts), dtype=np.int64), np.zeros((1 << 16) + 1, dtype=np.int32)
    assert run_hot(fde_order.order_by_start, use_compiled, starts, int(starts.min()), shift, heads, order) == done
    wanted = np.argsort(starts, kind="stable")
    assert not done or (order == wanted).all()
    assert (section_rows._by_start(starts, use_compiled) == wanted).all()
