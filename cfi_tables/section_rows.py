"""One call frame section decoded into rows: the hot loops of `frame_section` and `cfi_program` put in order.

Owns the choice between the plain and the compiled form, the dropping of discarded code, and what overlapping
FDEs mean. Data comes from a section's bytes; rows go to `table`.

Where FDEs overlap, the one that starts later holds up to its end, and then the earlier one again: what is nested
is the more specific. Of two with the same start the shorter holds, of two with the same range the later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cfi_tables import cfi_program, frame_section, layout, rule_pool, state_steps
from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_AARCH64
from cfi_tables.hot_loop import compiled, plain_view
from cfi_tables.rule_record import Rule, pooled_rules

COMPILED_FROM = 256 << 10
"""Bytes of a section from which loading numba (0.5 s) pays: the plain form decodes about 400 KB a second."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_POOL = 1 << 16
_FDE_LIMIT = 0xFFFFFFFF


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
    """Rows sorted by address: row i holds from `addresses[i]` to `addresses[i + 1]`; the last one is a gap."""

    addresses: NDArray[np.int64]
    rules: NDArray[np.int64]
    """Index into the list of distinct rules; rule_pool.RULE_INVALID is a gap."""


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
    section: FrameSection, use_compiled: bool | None = None
) -> tuple[Rows, list[Rule], list[FrameProblemAt]]:
    """The rows of a section, its distinct rules by id, and the FDEs that were left out.

    `use_compiled` None chooses by size.
    """
    if use_compiled is None:
        use_compiled = len(section.data) >= COMPILED_FROM
    view = _as_array if use_compiled else plain_view

    def form(function: _Function) -> _Function:
        return compiled(function) if use_compiled else function

    architecture = section.architecture
    data_array = section.data.view()
    data_array.flags.writeable = False  # one type, hence one compilation, for the compiled form
    data = view(data_array)
    parameters = np.array(
        [signed(section.address), int(section.name == ".eh_frame"), architecture.address_size,
         signed(section.text_base), signed(section.data_base), len(architecture.register_names),
         architecture.return_column, architecture.stack_pointer, architecture.same_mask,
         int(architecture.machine == EM_AARCH64)], dtype=np.int64,
    )  # fmt: skip
    parameters_view = view(parameters)

    cie_count, fde_count = form(frame_section.count_entries)(data, int(parameters[frame_section.SECTION_IS_EH]))
    cie = np.zeros(cie_count * frame_section.CIE_COLUMNS, dtype=np.int64)
    fde = np.zeros((fde_count + 1) * frame_section.FDE_COLUMNS, dtype=np.int64)
    problems = np.zeros((fde_count + 1) * frame_section.PROBLEM_COLUMNS, dtype=np.int64)
    form(frame_section.scan_cies)(data, parameters_view, view(cie))
    found, problem_count = form(frame_section.scan_fdes)(
        data, parameters_view, view(cie), cie_count, view(fde), view(problems)
    )
    left_out = _problems(section.name, problems, problem_count)

    columns = fde.reshape(-1, frame_section.FDE_COLUMNS)[:found]
    columns, dead = _drop_dead(columns, section.ranges)
    left_out += [
        FrameProblemAt(section.name, int(row[frame_section.FDE_OFFSET]), layout.FrameProblem.DEAD,
                       int(row[frame_section.FDE_START]) & (1 << 64) - 1)
        for row in dead
    ]  # fmt: skip
    order = np.lexsort((-columns[:, frame_section.FDE_END], columns[:, frame_section.FDE_START]))
    columns = np.ascontiguousarray(columns[order])
    fde = columns.reshape(-1)

    # Every row costs at least one instruction byte, besides the first and the gap of each FDE.
    room = int((columns[:, frame_section.FDE_PROGRAM_END] - columns[:, frame_section.FDE_PROGRAM]).sum())
    addresses = np.empty(room + 2 * len(columns) + 2, dtype=np.int64)
    rule_ids = np.empty(len(addresses), dtype=np.int64)
    first_row = np.zeros(len(columns) + 1, dtype=np.int64)
    initial = np.zeros(cie_count * rule_pool.STATE_MAXIMUM_SIZE, dtype=np.int64)
    state = np.zeros(rule_pool.STATE_MAXIMUM_SIZE + cfi_program.CURSOR_SIZE, dtype=np.int64)
    stack = np.zeros(cfi_program.STATE_STACK_DEPTH * rule_pool.STATE_MAXIMUM_SIZE, dtype=np.int64)
    expressions = np.zeros(1 + _POOL * rule_pool.EXPRESSION_WORDS, dtype=np.int64)
    expression_slots = np.zeros(2 * _POOL, dtype=np.int64)
    words = np.zeros(1 + (layout.MAXIMUM_RULES - 1) * rule_pool.RULE_WORDS, dtype=np.int64)
    rule_slots = np.zeros(2 * _POOL, dtype=np.int64)
    rule_pool.prepare_rules(words)
    form(cfi_program.run_cies)(
        data, parameters_view, view(cie), cie_count, view(initial), view(state), view(stack),
        view(expressions), view(expression_slots),
    )  # fmt: skip
    row_count, problem_count = form(state_steps.run_fdes)(
        data, parameters_view, view(cie), view(initial), view(fde), len(columns), view(state), view(stack),
        view(expressions), view(expression_slots), view(words), view(rule_slots), view(addresses),
        view(rule_ids), view(first_row), view(problems),
        *(view(each) for each in state_steps.pools(cie_count, rule_pool.state_size(parameters_view))),
    )  # fmt: skip
    left_out += _problems(section.name, problems, problem_count)
    rows = Rows(addresses[:row_count], rule_ids[:row_count])
    rows = _resolve_overlaps(rows, columns, first_row)
    return normalize(rows), pooled_rules(words, expressions, section.data, len(architecture.register_names)), left_out


def signed(value: int) -> int:
    """An unsigned 64-bit value as an int64 bit pattern."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _as_array(array: Any) -> Any:
    return array


def _problems(name: str, problems: NDArray[np.int64], count: int) -> list[FrameProblemAt]:
    rows = problems.reshape(-1, frame_section.PROBLEM_COLUMNS)[:count].tolist()
    return [
        FrameProblemAt(name, offset, layout.FrameProblem(reason), start & (1 << 64) - 1)
        for offset, reason, start in rows
    ]


def _drop_dead(
    columns: NDArray[np.int64], ranges: list[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(FDEs of code that is in the file, the others)."""
    starts = columns[:, frame_section.FDE_START]
    ends = columns[:, frame_section.FDE_END]
    alive = np.zeros(len(columns), dtype=np.bool_)
    for low, high in ranges:
        alive |= (starts >= signed(low)) & (starts < signed(high)) & (ends <= signed(high))
    if alive.any():  # a row's address is 32 bits from the first one
        alive &= ends - starts[alive].min() < _FDE_LIMIT
    return columns[alive], columns[~alive]


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


def _resolve_overlaps(rows: Rows, columns: NDArray[np.int64], first_row: NDArray[np.int64]) -> Rows:
    """Rows of FDEs that may overlap, made one sequence by the rule that this module states."""
    used = np.flatnonzero(np.diff(first_row))
    starts = columns[used, frame_section.FDE_START]
    ends = columns[used, frame_section.FDE_END]
    if bool((ends[:-1] <= starts[1:]).all()):
        return rows
    addresses: list[NDArray[np.int64]] = []
    rules: list[NDArray[np.int64]] = []
    for low, high, which in _visible(starts.tolist(), ends.tolist()):
        begin, end = int(first_row[used[which]]), int(first_row[used[which] + 1]) - 1
        own = rows.addresses[begin:end]
        left = int(np.searchsorted(own, low, side="right")) - 1
        right = int(np.searchsorted(own, high, side="left"))
        piece = own[left:right].copy()
        piece[0] = low
        addresses += [piece, np.array([high], dtype=np.int64)]
        rules += [
            rows.rules[begin + left : begin + right],
            np.array([rule_pool.RULE_INVALID], dtype=np.int64),
        ]
    return Rows(np.concatenate(addresses), np.concatenate(rules))


def _visible(starts: list[int], ends: list[int]) -> list[tuple[int, int, int]]:
    """(low, high, index) pieces in which the interval that starts last holds; `starts` is sorted."""
    pieces: list[tuple[int, int, int]] = []
    active: list[int] = []
    position = 0

    def move(to: int | None) -> None:
        nonlocal position
        while active:
            top = active[-1]
            if ends[top] > position:
                stop = ends[top] if to is None else min(ends[top], to)
                if stop > position:
                    pieces.append((position, stop, top))
                    position = stop
                if position == to:
                    return
            active.pop()

    for index, start in enumerate(starts):
        move(start)
        position = start
        active.append(index)
    move(None)
    return pieces
