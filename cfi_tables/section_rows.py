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

from cfi_tables import cfi_program, fde_order, frame_section, layout, program_automaton, rule_pool
from cfi_tables.architecture import Architecture
from cfi_tables.elf_image import EM_AARCH64
from cfi_tables.hot_loop import compiled, plain_view
from cfi_tables.rule_record import Rule, pooled_rules

COMPILED_FROM = 256 << 10
"""Bytes of a section from which loading numba (0.5 s) pays: the plain form decodes about 400 KB a second."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_POOL = 1 << 16


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
    ranges = np.array([signed(bound) for bounds in section.ranges for bound in bounds], dtype=np.int64)
    found, problem_count = form(fde_order.keep_live)(view(fde), found, view(ranges), view(problems), problem_count)
    left_out = _problems(section.name, problems, problem_count)
    order, apart = _order(fde, found, form, view)

    # Every row costs at least one instruction byte, besides the first and the gap of each FDE.
    room = len(section.data) + 2 * found
    addresses = np.empty(room, dtype=np.int64)
    rule_ids = np.empty(room, dtype=np.int64)
    first_row = np.zeros(found + 1 if apart else 0, dtype=np.int64)
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
    row_count, problem_count = form(program_automaton.run_fdes)(
        data, parameters_view, view(cie), view(initial), view(fde), view(order), int(apart), view(state), view(stack),
        view(expressions), view(expression_slots), view(words), view(rule_slots), view(addresses),
        view(rule_ids), view(first_row), view(problems),
        *(view(each) for each in program_automaton.pools(cie_count, rule_pool.state_size(parameters_view))),
    )  # fmt: skip
    left_out += _problems(section.name, problems, problem_count)
    rows = Rows(addresses[:row_count], rule_ids[:row_count])
    if apart:
        columns = fde.reshape(-1, frame_section.FDE_COLUMNS)[order]
        rows = normalize(_resolve_overlaps(rows, columns, first_row))
    elif row_count and rule_ids[0] == rule_pool.RULE_INVALID:
        rows = Rows(rows.addresses[1:], rows.rules[1:])
    return rows, pooled_rules(words, expressions, section.data, len(architecture.register_names)), left_out


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


def _order(
    fde: NDArray[np.int64], count: int, form: Callable[[Any], Any], view: Callable[[Any], Any]
) -> tuple[NDArray[np.int64], bool]:
    """(indices of the FDEs in the order of their rows, whether any two of them overlap)."""
    order = np.arange(count, dtype=np.int64)
    if not form(fde_order.is_sorted)(view(fde), view(order)):
        columns = fde.reshape(-1, frame_section.FDE_COLUMNS)[:count]
        starts, ends = columns[:, frame_section.FDE_START], columns[:, frame_section.FDE_END]
        order = np.argsort(starts, kind="stable")
        if not form(fde_order.is_sorted)(view(fde), view(order)):
            order = np.lexsort((-ends, starts))
    return order, bool(form(fde_order.overlap)(view(fde), view(order)))


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
