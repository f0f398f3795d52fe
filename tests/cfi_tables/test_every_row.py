"""The C core and the compiled Python at both ends of every row of large binaries: the same rule, the same step."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from runtime_c.row_steps import RowSteps, build_library

from cfi_tables import layout
from cfi_tables.elf_image import ElfImage
from cfi_tables.image_file import open_image
from cfi_tables.layout import StopReason
from cfi_tables.table import CompactTable, build_table
from cfi_tables.table_check import checked_header

_BATCH = 1 << 15
_BINARIES = (
    "libc.so.6", "libstdc++.so.6", "libcrypto.so.3", "libpython3.11.so.1.0", "gdb", "cc1plus", "libLLVM-14.so.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def library(require_tool, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    require_tool("gcc", "gcc")
    return build_library(tmp_path_factory.mktemp("row_steps"))


@pytest.mark.parametrize("name", _BINARIES)
def test_of_a_binary(name, library, system_file):
    _assert_agree(build_table(ElfImage.open(system_file(name)), use_compiled=True), library)


def test_of_a_kernel(library, kernel):
    _assert_agree(build_table(open_image(kernel.vmlinuz), use_compiled=True), library)


def _assert_agree(table: CompactTable, library: ctypes.CDLL) -> None:
    checked_header(table.data, table.name)  # all of a table just made is as a loader wants it
    addresses, records = table.row_columns()
    low, high = np.array(table.text_range, dtype=np.uint64).view(np.int64)
    firsts = low + addresses
    lasts = np.append(firsts[1:], high) - 1
    wanted = np.where(table.data[records] == layout.CFA_KIND_INVALID, -1, records)
    readers = RowSteps(library, table.data, table.text_range, 1)
    ended = np.zeros(max(StopReason) + 1, dtype=np.int64)
    for begin in range(0, len(firsts), _BATCH):
        for pcs, exact in ((firsts, True), (lasts, True), (lasts, False)):
            part = pcs[begin : begin + _BATCH]
            if exact:
                for rules in readers.rules(part):
                    wrong = rules != wanted[begin : begin + _BATCH]
                    assert not wrong.any(), _where(part[wrong])
            mine, theirs = readers.steps(readers.states(part, exact))
            different = mine.differing(theirs)
            assert len(different) == 0, _where(part[different])
            ended += np.bincount(mine.reasons, minlength=len(ended))
    # A step that is made comes to an address that is not code, or finds no room for a second frame.
    made = ended[StopReason.NO_MAPPING] + ended[StopReason.TOO_DEEP]
    assert made > ended.sum() // 2


def test_another_rule_in_one_of_them_would_be_noticed(library, system_file):
    """With one rule's CFA moved by a word for C alone, the steps differ where that rule is in force."""
    table = build_table(ElfImage.open(system_file("libc.so.6")))
    addresses, records = table.row_columns()
    pcs = table.text_range[0] + addresses
    kinds = table.data[records] == layout.CFA_KIND_REGISTER_OFFSET
    record = int(records[kinds][-1])
    damaged = table.data.copy()
    damaged[record + layout.RULE_CFA_VALUE] ^= 8
    by_c = RowSteps(library, damaged, table.text_range, 2)
    by_python = RowSteps(library, table.data, table.text_range, 2)
    states = by_c.states(pcs, True)
    mine, theirs = by_c.steps(states)[0], by_python.steps(states)[1]
    assert set(mine.differing(theirs).tolist()) <= set(np.flatnonzero(records == record).tolist())
    assert len(mine.differing(theirs)) > (records == record).sum() // 2


def _where(pcs: np.ndarray) -> str:
    return ", ".join(hex(int(pc) & (1 << 64) - 1) for pc in pcs[:8])
