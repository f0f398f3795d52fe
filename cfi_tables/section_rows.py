"""One call frame section decoded into rows.

Owns the choice between the plain and the compiled form, and rows as values. Data comes from a section's bytes, through
the columns of `frame_section` and the rows of `section_programs`; it goes to `cfi_sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import fde_order, frame_section, layout, rule_pool
from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_AARCH64
from cfi_tables.fde_overlap import visible_rows
from cfi_tables.hot_loop import compiled_pays, run_hot
from cfi_tables.pooled_rules import PooledRules
from cfi_tables.section_programs import SectionEntries, run_programs
from cfi_tables.work_memory import WorkMemory

_INTERPRETED_RATE = 1_400_000
"""Bytes of a section that the plain form decodes in a second, measured."""

_CIES_AT_FIRST = 32
"""CIEs that there is room for as long as they suffice."""
_FDE_BYTES = 40
"""Of an FDE with its entry; on average they have more."""
_BUCKET_BITS = 16
"""Of the number of buckets that FDEs are sorted with, at most."""


@dataclass(frozen=True, slots=True)
class FrameProblemAt:
    """One FDE that was left out."""

    section: str
    offset: int
    """Of the entry in the section."""
    reason: layout.FrameProblem
    start: int
    """File virtual address of the code it describes, 0 where not known."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows sorted by address: row i holds from its address to that of row i + 1; the last one is a gap."""

    relative: NDArray[Any]
    """Addresses less `base`; int64, or int32 when packed."""
    rules: NDArray[Any]
    """Index into the list of distinct rules; rule_pool.RULE_INVALID is a gap."""
    base: int = 0

    @property
    def addresses(self) -> NDArray[np.int64]:
        """The address of each row."""
        return self.relative + np.int64(self.base)

    def packed(self) -> Rows:
        """The same rows in 32-bit columns, which hot loops take: building large tables is bound by memory.

        Raises OverflowError when they span 2 GiB or more.
        """
        if self.relative.dtype == np.int32 and self.rules.dtype == np.int32:
            return self
        base = int(self.addresses[0]) if len(self.relative) else 0
        if len(self.relative) and int(self.addresses[-1]) - base >= 1 << 31:
            raise OverflowError("rows span 2 GiB or more")
        return Rows((self.addresses - base).astype(np.int32), self.rules.astype(np.int32), base)


@dataclass(frozen=True, slots=True)
class FrameSection:
    """What is decoded: a section's bytes and where they belong."""

    name: str
    data: NDArray[np.uint8]
    address: int
    text_base: int
    data_base: int
    ranges: list[tuple[int, int]]
    """Address ranges that hold code; an FDE that starts elsewhere describes discarded code."""
    architecture: Architecture


def decode_section(
    section: FrameSection, use_compiled: bool | None = None, memory: WorkMemory | None = None
) -> tuple[Rows, PooledRules, list[FrameProblemAt]]:
    """The rows of a section, its distinct rules by id, and the FDEs that were left out.

    `use_compiled` None chooses by size. The rows and rules may lie in `memory`.
    """
    memory = memory or WorkMemory()
    if use_compiled is None:
        use_compiled = compiled_pays(frame_section.scan_fdes, len(section.data) / _INTERPRETED_RATE)
    architecture = section.architecture
    data = section.data.view()
    data.flags.writeable = False  # one type, hence one compilation, for the compiled form
    parameters = np.array(
        [signed(section.address), int(section.name == ".eh_frame"), architecture.address_size,
         signed(section.text_base), signed(section.data_base), len(architecture.register_names),
         architecture.return_column, architecture.stack_pointer, architecture.same_mask,
         int(architecture.machine == EM_AARCH64)], dtype=np.int64,
    )  # fmt: skip
    cie, fde, found, problems, problem_count = _entries(data, parameters, use_compiled, memory)
    ranges = np.array([signed(bound) for bounds in section.ranges for bound in bounds], dtype=np.int64)
    starts = memory.take(found, np.int64, cleared=False)
    found, problem_count, is_sorted, overlap = run_hot(
        fde_order.keep_live, use_compiled, fde, found, ranges, problems, problem_count, starts
    )
    left_out = problems.reshape(-1, frame_section.PROBLEM_COLUMNS)[:problem_count]

    if is_sorted:
        order = np.arange(found)
    else:
        order, overlap = _order(fde, starts[:found], use_compiled)
    done = run_programs(SectionEntries(data, parameters, cie, fde, order, bool(overlap)), use_compiled, memory)
    rows = Rows(done.addresses, done.rules, done.base)
    if overlap:
        columns = fde.reshape(-1, frame_section.FDE_COLUMNS)[order]
        starts, ends = columns[:, frame_section.FDE_START], columns[:, frame_section.FDE_END]
        rows = normalize(Rows(*visible_rows(rows.addresses, rows.rules, starts, ends, done.first_rows))).packed()
    elif len(rows.rules) and rows.rules[0] == rule_pool.RULE_INVALID:
        rows = Rows(rows.relative[1:], rows.rules[1:], rows.base)
    rules = PooledRules(done.words, done.expressions, section.data, len(architecture.register_names), use_compiled)
    return rows, rules, _problems(section.name, np.concatenate([left_out, done.problems]))


def _entries(
    data: NDArray[np.uint8], parameters: NDArray[np.int64], use_compiled: bool, memory: WorkMemory
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, NDArray[np.int64], int]:
    """(CIE columns, FDE columns, FDE count, problems, problem count) of a section.

    They are read in one pass, where their number is as usual and CIEs stand before their FDEs.
    """
    cie = np.zeros(_CIES_AT_FIRST * frame_section.CIE_COLUMNS, dtype=np.int64)
    cie_count, fde_count = -1, len(data) // _FDE_BYTES + 1
    while True:
        fde = memory.take((fde_count + 1) * frame_section.FDE_COLUMNS, np.int64, cleared=False)
        problems = memory.take((fde_count + 1) * frame_section.PROBLEM_COLUMNS, np.int64, cleared=False)
        found, problem_count, known = run_hot(
            frame_section.scan_fdes, use_compiled, data, parameters, cie, cie_count, fde, problems
        )
        if found >= 0:
            return cie[: known * frame_section.CIE_COLUMNS], fde, found, problems, problem_count
        cie_count, fde_count = run_hot(frame_section.scan_cies, use_compiled, data, parameters, cie)
        if cie_count > _CIES_AT_FIRST:
            cie = np.zeros(cie_count * frame_section.CIE_COLUMNS, dtype=np.int64)
            run_hot(frame_section.scan_cies, use_compiled, data, parameters, cie)


def signed(value: int) -> int:
    """An unsigned 64-bit value as an int64 bit pattern."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _problems(name: str, problems: NDArray[np.int64]) -> list[FrameProblemAt]:
    return [
        FrameProblemAt(name, offset, layout.FrameProblem(reason), start & (1 << 64) - 1)
        for offset, reason, start in problems.tolist()
    ]


def _order(fde: NDArray[np.int64], starts: NDArray[np.int64], use_compiled: bool) -> tuple[NDArray[np.int64], bool]:
    """(indices of the FDEs in the order of their rows, whether any two of them overlap)."""
    order = _by_start(starts, use_compiled)
    is_sorted, overlap = run_hot(fde_order.check_order, use_compiled, fde, order)
    if not is_sorted:
        ends = fde.reshape(-1, frame_section.FDE_COLUMNS)[: len(starts), frame_section.FDE_END]
        order = np.lexsort((-ends, starts))
        _, overlap = run_hot(fde_order.check_order, use_compiled, fde, order)
    return order, bool(overlap)


def _by_start(starts: NDArray[np.int64], use_compiled: bool) -> NDArray[np.int64]:
    """The indices of `starts`, sorted."""
    if use_compiled:
        lowest = int(starts.min())
        bits = min(len(starts).bit_length(), _BUCKET_BITS)
        shift = max((int(starts.max()) - lowest).bit_length() - bits, 0)
        order = np.empty(len(starts), dtype=np.int64)
        heads = np.zeros((1 << bits) + 1, dtype=np.int32)
        if run_hot(fde_order.order_by_start, True, starts, lowest, shift, heads, order):
            return order
    return np.argsort(starts, kind="stable")


def normalize(rows: Rows) -> Rows:
    """The same rows without repetition: of several at one address the last, of equal neighbours the first."""
    addresses, rules = rows.addresses, rows.rules
    if len(addresses) == 0:
        return rows
    keep = np.append(addresses[1:] != addresses[:-1], True)
    addresses, rules = addresses[keep], rules[keep]
    keep = np.append(True, rules[1:] != rules[:-1])
    keep[0] = rules[0] != rule_pool.RULE_INVALID
    return Rows(addresses[keep], rules[keep])


def overlay(rows: Rows, filler: Rows) -> Rows:
    """`rows`, with its gaps filled by `filler`."""
    bounds = np.union1d(rows.addresses, filler.addresses)
    first = rules_at(rows, bounds)
    return normalize(Rows(bounds, np.where(first == rule_pool.RULE_INVALID, rules_at(filler, bounds), first)))


def rules_at(rows: Rows, addresses: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rule ids in force at `addresses`, RULE_INVALID where none is."""
    index = np.searchsorted(rows.addresses, addresses, side="right") - 1
    found = np.full(len(addresses), rule_pool.RULE_INVALID, dtype=np.int64)
    found[index >= 0] = rows.rules[index[index >= 0]]
    return found
