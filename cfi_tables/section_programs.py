"""The programs of all FDEs of a section run into one sequence of rows, in parts at once.

Owns the arrays that the hot loops of `cfi_program` and `program_automaton` work on, and how parts come together: the
FDEs are cut into as many as there are threads, each with pools of its own, and the ids are the same as if one had run
them all. Data comes from the columns of `frame_section`; it goes to `section_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables import cfi_program, frame_section, layout, program_automaton, row_sequence, rule_pool, state_pool
from cfi_tables.hot_loop import run_hot
from cfi_tables.work_memory import WorkMemory
from cfi_tables.worker_threads import run_parts, worker_count

_Integers = NDArray[np.int64]

_POOL = 1 << 16
"""Rules and expressions that there is room for."""
_POOL_AT_FIRST = 1 << 12
"""Those that there is room for as long as they suffice: slots for more take long to clear."""
_PART_FDES = 1 << 14
"""FDEs from which a part pays: its pools begin empty."""
_ASKED_FDES = 64
_FDE_COST = 50
"""Bytes of a program that take as long as what is done once for each FDE."""


@dataclass(frozen=True, slots=True)
class SectionEntries:
    """A section's CIEs and FDEs, as `frame_section` lays them out."""

    data: NDArray[np.uint8]
    parameters: _Integers
    cie: _Integers
    fde: _Integers
    order: _Integers
    """Of the FDEs, by address."""
    overlap: bool
    """Whether two of them overlap."""

    @property
    def base(self) -> int:
        """The lowest address."""
        if len(self.order) == 0:
            return 0
        return int(self.fde[self.order[0] * frame_section.FDE_COLUMNS + frame_section.FDE_START])


@dataclass(frozen=True, slots=True)
class ProgramRows:
    """Rows of FDEs, and the pools that their rules' ids and the rules' expressions refer to."""

    base: int
    addresses: NDArray[np.int32]
    """Less `base`."""
    rules: NDArray[np.int32]
    first_rows: _Integers
    """Where FDEs overlap: the first row of each in order, and the number of rows."""
    words: _Integers
    rule_slots: _Integers
    expressions: _Integers
    expression_slots: _Integers
    problems: _Integers
    """A line for each FDE that was left out."""


def run_programs(entries: SectionEntries, use_compiled: bool, memory: WorkMemory) -> ProgramRows:
    """The rows of all FDEs; of those that overlap, the rows of each. They lie in `memory`."""
    count = 1
    if use_compiled and not entries.overlap:
        count = max(1, min(worker_count(), len(entries.order) // _PART_FDES))
    orders = _shares(entries, count)
    for pool in (_POOL_AT_FIRST, _POOL):
        tasks = [partial(_run_part, entries, order, pool, memory, use_compiled) for order in orders]
        parts, done = zip(*run_parts(tasks, use_compiled), strict=True)
        if sum(int(rows.words[0]) for rows in done) < pool and sum(int(rows.expressions[0]) for rows in done) < pool:
            break
    return done[0] if count == 1 else _join(entries, parts[0], done, use_compiled)


def _shares(entries: SectionEntries, count: int) -> list[_Integers]:
    """The FDEs in order, cut so that all parts have about as many bytes of programs; some of the FDEs are asked."""
    order = entries.order
    if count == 1:
        return [order]
    asked = order[::_ASKED_FDES] * frame_section.FDE_COLUMNS
    sizes = entries.fde[asked + frame_section.FDE_PROGRAM_END] - entries.fde[asked + frame_section.FDE_PROGRAM]
    behind = np.cumsum(sizes + _FDE_COST)
    cuts = np.searchsorted(behind, behind[-1] * np.arange(1, count) // count)
    return np.split(order, cuts * _ASKED_FDES)


class _Part:
    """Some of the FDEs, and the arrays to run them with."""

    def __init__(self, entries: SectionEntries, order: _Integers, pool: int, memory: WorkMemory) -> None:
        """`pool`: how many rules and expressions there is room for at most."""
        self._entries = entries
        self._cie = entries.cie.copy()  # a part notes what is wrong with a CIE's program
        cie_count = len(self._cie) // frame_section.CIE_COLUMNS
        self._order = order
        # Every row costs at least one instruction byte, besides the first and the gap of each FDE. There is room for
        # the rows of all parts, which come together in the first one's arrays.
        room = len(entries.data) + 2 * len(entries.order)
        self.addresses = memory.take(room, np.int32, cleared=False)
        self.rules = memory.take(room, np.int32, cleared=False)
        pool = min(pool, 1 << (room + rule_pool.FIRST_RULE).bit_length())  # each of what is pooled took a byte
        self._first_rows = np.zeros(len(order) + 1 if entries.overlap else 0, dtype=np.int64)
        self._problems = np.zeros((len(order) + 1) * frame_section.PROBLEM_COLUMNS, dtype=np.int64)
        self._initial = np.zeros(cie_count * rule_pool.STATE_MAXIMUM_SIZE, dtype=np.int64)
        self._state = np.zeros(rule_pool.STATE_MAXIMUM_SIZE + cfi_program.CURSOR_SIZE, dtype=np.int64)
        self._stack = np.zeros(cfi_program.STATE_STACK_DEPTH * rule_pool.STATE_MAXIMUM_SIZE, dtype=np.int64)
        self._expressions = memory.take(1 + pool * rule_pool.EXPRESSION_WORDS, np.int64, cleared=False)
        self._expression_slots = memory.take(2 * pool, np.int64)
        self._words = memory.take(
            1 + min(pool, layout.MAXIMUM_RULES - 1) * rule_pool.RULE_WORDS, np.int64, cleared=False
        )
        self._rule_slots = memory.take(2 * pool, np.int64)
        self._expressions[0] = 0
        rule_pool.prepare_rules(self._words)
        size = rule_pool.state_size(entries.parameters)
        self._pools = state_pool.pools(memory, cie_count, size, room)

    def run(self, use_compiled: bool) -> ProgramRows:
        """The rows of these FDEs."""
        entries = self._entries
        run_hot(
            cfi_program.run_cies, use_compiled, entries.data, entries.parameters, self._cie,
            len(self._cie) // frame_section.CIE_COLUMNS, self._initial, self._state, self._stack, self._expressions,
            self._expression_slots,
        )  # fmt: skip
        row_count, problem_count = run_hot(
            program_automaton.run_fdes, use_compiled, entries.data, entries.parameters, self._cie, self._initial,
            entries.fde, self._order, entries.base, int(entries.overlap), self._state, self._stack, self._expressions,
            self._expression_slots, self._words, self._rule_slots, self.addresses, self.rules, self._first_rows,
            self._problems, *self._pools,
        )  # fmt: skip
        return ProgramRows(
            entries.base, self.addresses[:row_count], self.rules[:row_count], self._first_rows, self._words,
            self._rule_slots, self._expressions, self._expression_slots,
            self._problems.reshape(-1, frame_section.PROBLEM_COLUMNS)[:problem_count],
        )  # fmt: skip


def _run_part(
    entries: SectionEntries, order: _Integers, pool: int, memory: WorkMemory, use_compiled: bool
) -> tuple[_Part, ProgramRows]:
    """A part and its rows. Its arrays are made here, by the thread that fills them: what it clears is in its cache."""
    part = _Part(entries, order, pool, memory)
    return part, part.run(use_compiled)


def _join(entries: SectionEntries, into: _Part, parts: Sequence[ProgramRows], use_compiled: bool) -> ProgramRows:
    """The parts put behind one another in the arrays of the first, with the ids of its pools."""
    first = parts[0]
    count = len(first.addresses)
    for part in parts[1:]:
        numbers = np.arange(int(part.words[0]), dtype=np.int64)
        run_hot(
            rule_pool.merge_rules, use_compiled, entries.data, part.words, part.expressions, first.words,
            first.rule_slots, first.expressions, first.expression_slots, numbers,
        )  # fmt: skip
        count = run_hot(
            row_sequence.append_rows, use_compiled, into.addresses, into.rules, count, part.addresses, part.rules,
            numbers,
        )  # fmt: skip
    problems: Any = np.concatenate([part.problems for part in parts])
    return ProgramRows(
        first.base, into.addresses[:count], into.rules[:count], first.first_rows, first.words, first.rule_slots,
        first.expressions, first.expression_slots, problems,
    )  # fmt: skip
