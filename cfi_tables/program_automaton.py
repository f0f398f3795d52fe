"""The programs of a section's FDEs run into rows by an automaton over their instructions, as hot loops.

Owns the running of FDEs; `state_pool` keeps their register states. An instruction leads from one state to another;
compilers write the same few steps over and over, so each is interpreted once, by `cfi_program.step`, and from then on
it is a move: a line of a hash table, which has the state before and the bytes of the instruction as its key, and the
state behind it.

A pooled state is one without the CFA's offset, which most instructions change and none but the row's rule depends on:
offsets are carried beside it. What depends on more than the state needs no move: what advances the location, and
remember_state and restore_state, whose stack holds states and offsets. What is rare (expressions, set_loc, long
operands) is interpreted each time. FDEs that come when the pool is full are run by `cfi_program.run_fde`; both ways
give the same rows.
"""

from __future__ import annotations

from cfi_tables.cfi_program import (
    CURSOR_ADVANCED,
    CURSOR_AT,
    CURSOR_DEPTH,
    CURSOR_LOCATION,
    CURSOR_SIZE,
    STATE_STACK_DEPTH,
    clamp,
    run_fde,
    step,
)
from cfi_tables.frame_section import (
    CIE_CODE_ALIGNMENT,
    CIE_COLUMNS,
    CIE_DATA_ALIGNMENT,
    CIE_FLAGS,
    CIE_PROBLEM,
    FDE_CIE,
    FDE_COLUMNS,
    FDE_END,
    FDE_OFFSET,
    FDE_PROGRAM,
    FDE_PROGRAM_END,
    FDE_START,
    PROBLEM_COLUMNS,
    PROBLEM_OFFSET,
    PROBLEM_REASON,
    PROBLEM_START,
)
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    FRAME_PROBLEM_BACKWARD,
    FRAME_PROBLEM_BAD_INSTRUCTION,
    FRAME_PROBLEM_NONE,
    FRAME_PROBLEM_STATE_STACK,
)
from cfi_tables.row_sequence import APART
from cfi_tables.rule_pool import RULE_INVALID, STATE_CFA_OFFSET, STATE_MAXIMUM_SIZE, intern_rule, state_size
from cfi_tables.scalars import fetch_ahead, item, put_item, read_i64, read_sleb, read_u8, read_u16, read_u32, read_uleb
from cfi_tables.state_pool import (
    KIND_ADVANCE,
    KIND_ADVANCE_1,
    KIND_CFA_OFFSET,
    KIND_CFA_OFFSET_SF,
    KIND_NOP,
    KIND_OTHER,
    KIND_REMEMBER,
    KIND_RESTORE,
    MOVE_TARGET,
    NEAR_OFFSETS,
    POOL_FULL,
    RULES_STRIDE,
    begin_states,
    intern_state,
    move_slot,
    remember_move,
    short_instruction,
    take_state,
)

_AHEAD = 8
"""FDEs before its turn that a program is fetched: in the order of addresses, those of cold code lie far apart."""


@hot_loop
def _rule_of(
    number: int,
    offset: int,
    flags: int,
    section: FlatArray,
    states: FlatArray,
    state_rules: FlatArray,
    moves: FlatArray,
    state: FlatArray,
    rules: FlatArray,
    slots: FlatArray,
) -> int:
    """The id of the rule of a state and the CFA's offset."""
    place = -1
    slot = -1
    if offset & 3 == 0 and 0 <= offset < NEAR_OFFSETS:
        place = number * RULES_STRIDE + (offset >> 2)
        rule = item(state_rules, place)
        if rule >= 0:
            return rule
    elif 0 <= offset < 1 << 24:
        slot = move_slot(number, offset << 8 | 0x0E, moves)
        if moves[slot]:
            found: int = moves[slot] & MOVE_TARGET
            return found
    take_state(number, state_size(section), states, state)
    state[STATE_CFA_OFFSET] = offset
    rule = intern_rule(state, flags, section, rules, slots)
    if place >= 0:
        state_rules[place] = rule
    elif slot >= 0:
        remember_move(number, offset << 8 | 0x0E, slot, rule, moves)
    return rule


@hot_loop
def _operand(data: FlatArray, at: int, size: int) -> int:
    """An operand of 1, 2 or 4 bytes."""
    if size == 1:
        return read_u8(data, at)
    if size == 2:
        return read_u16(data, at)
    return read_u32(data, at)


@hot_loop
def _interpret(
    data: FlatArray,
    at: int,
    end: int,
    section: FlatArray,
    cie: FlatArray,
    cie_index: int,
    initial: FlatArray,
    number: int,
    offset: int,
    location: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
) -> tuple[int, int, int, int, int]:
    """Run the instruction at `at` by the book.

    Gives the next position, the location, state and CFA's offset behind it, and a FRAME_PROBLEM or POOL_FULL.
    """
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    take_state(number, size, states, state)
    state[STATE_CFA_OFFSET] = offset
    cursor[CURSOR_AT] = at
    cursor[CURSOR_LOCATION] = location
    cursor[CURSOR_ADVANCED] = location
    cursor[CURSOR_DEPTH] = 0
    problem = step(data, end, section, cie, cie_index, initial, state, stack, cursor, expressions, expression_slots)
    if problem == FRAME_PROBLEM_NONE:
        offset = 0 + state[STATE_CFA_OFFSET]
        state[STATE_CFA_OFFSET] = 0
        number = intern_state(state, cie_index, size, states, state_slots, state_rules)
        if number < 0:
            problem = POOL_FULL
    return 0 + cursor[CURSOR_AT], 0 + cursor[CURSOR_ADVANCED], number, offset, problem


@hot_loop
def _behind_nops(data: FlatArray, at: int, end: int) -> int:
    """The position behind the DW_CFA_nop at `at`, or behind all of them where they fill up an FDE."""
    at += 1
    rest = end - at
    if rest < 8 and at + 8 <= len(data) and read_i64(data, at) & ((1 << 8 * rest) - 1) == 0:
        return end
    return at


@hot_loop
def _run_by_moves(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    order: FlatArray,
    first: int,
    base: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    fde_first_row: FlatArray,
    row_count: int,
    floor: int,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
    first_states: FlatArray,
    moves: FlatArray,
    kinds: FlatArray,
) -> tuple[int, int, int]:
    """Append the rows of the FDEs in `order` from the `first` on, up to one that has a problem or finds the pool full.

    Gives that one's place in the order, the row count, and the problem or POOL_FULL. All FDEs are run by one call,
    since a call with so many arrays takes as long as a small FDE.
    """
    size = state_size(section)
    last_whole = len(data) - 4
    apart = -1 if floor else 0
    for index in range(first, len(order)):
        if index + 2 * _AHEAD < len(order):
            fetch_ahead(fde, item(order, index + 2 * _AHEAD) * FDE_COLUMNS)
            fetch_ahead(data, item(fde, item(order, index + _AHEAD) * FDE_COLUMNS + FDE_PROGRAM))
        fde_row = order[index] * FDE_COLUMNS
        cie_index = item(fde, fde_row + FDE_CIE)
        number = item(first_states, cie_index)
        if number < 0:
            return index, row_count, POOL_FULL
        if floor:
            fde_first_row[index] = row_count
        begun = row_count
        location = item(fde, fde_row + FDE_START)
        last_address = 0
        last_rule = -1
        before_rule = -1
        if row_count > floor:
            last_address = item(row_addresses, row_count - 1)
            last_rule = item(row_rules, row_count - 1)
            before_rule = last_rule
            if last_address == location - base:  # the gap behind the FDE before, which is none
                row_count -= 1
                before_rule = item(row_rules, row_count - 1) if row_count > floor else -1
        flags = item(cie, cie_index * CIE_COLUMNS + CIE_FLAGS)
        code_alignment = item(cie, cie_index * CIE_COLUMNS + CIE_CODE_ALIGNMENT)
        offset = item(initial, cie_index * size + STATE_CFA_OFFSET)
        limit = item(fde, fde_row + FDE_END)
        end = item(fde, fde_row + FDE_PROGRAM_END)
        at = item(fde, fde_row + FDE_PROGRAM)
        depth = 0
        problem = FRAME_PROBLEM_NONE
        while True:
            advanced = limit
            if at < end:
                opcode = read_u8(data, at)
                kind = read_u8(kinds, opcode)
                if kind == KIND_ADVANCE:
                    advanced = location + (opcode & 0x3F) * code_alignment
                    at += 1
                elif kind == KIND_CFA_OFFSET and at + 1 < end and read_u8(data, at + 1) < 0x80:
                    offset = read_u8(data, at + 1)
                    at += 2
                    continue
                elif kind == KIND_CFA_OFFSET and at + 2 < end and read_u8(data, at + 2) < 0x80:
                    offset = (read_u8(data, at + 1) & 0x7F) | read_u8(data, at + 2) << 7
                    at += 3
                    continue
                elif kind <= KIND_OTHER or kind == KIND_CFA_OFFSET:
                    slot = -1
                    instruction = 0
                    if kind < KIND_OTHER and at <= last_whole:
                        instruction, length = short_instruction(data, at, kind)
                        if length and at + length <= end:
                            slot = move_slot(number, instruction, moves)
                            move = item(moves, slot)
                            if move:
                                number = move & MOVE_TARGET
                                if opcode == 0x0C:  # DW_CFA_def_cfa
                                    offset, _ = read_uleb(data, at + 2, end)
                                at += length
                                continue
                    before = number
                    at, advanced, number, offset, problem = _interpret(
                        data, at, end, section, cie, cie_index, initial, number, offset, location, state, stack,
                        expressions, expression_slots, states, state_slots, state_rules,
                    )  # fmt: skip
                    if problem:
                        break
                    if slot >= 0:
                        remember_move(before, instruction, slot, number, moves)
                elif kind == KIND_NOP:
                    at = _behind_nops(data, at, end)
                    continue
                elif kind == KIND_CFA_OFFSET_SF:
                    factored, at = read_sleb(data, at + 1, end)
                    if at < 0:
                        problem = FRAME_PROBLEM_BAD_INSTRUCTION
                        break
                    alignment = item(cie, cie_index * CIE_COLUMNS + CIE_DATA_ALIGNMENT)
                    offset = clamp(clamp(factored) * alignment)
                    continue
                elif kind == KIND_REMEMBER:
                    if depth >= STATE_STACK_DEPTH:
                        problem = FRAME_PROBLEM_STATE_STACK
                        break
                    stack[2 * depth] = number
                    stack[2 * depth + 1] = offset
                    depth += 1
                    at += 1
                    continue
                elif kind == KIND_RESTORE:
                    depth -= 1
                    if depth < 0:
                        problem = FRAME_PROBLEM_STATE_STACK
                        break
                    number = 0 + stack[2 * depth]
                    offset = 0 + stack[2 * depth + 1]
                    at += 1
                    continue
                else:
                    width = 1 << (kind - KIND_ADVANCE_1)
                    if at + 1 + width > end:
                        problem = FRAME_PROBLEM_BAD_INSTRUCTION
                        break
                    advanced = location + _operand(data, at + 1, width) * code_alignment
                    at += 1 + width
                if advanced == location:
                    continue
                if advanced < location:
                    problem = FRAME_PROBLEM_BACKWARD
                    break
            rule = -1
            if offset & 3 == 0 and 0 <= offset < NEAR_OFFSETS:
                rule = item(state_rules, number * RULES_STRIDE + (offset >> 2))
            if rule < 0:
                rule = _rule_of(number, offset, flags, section, states, state_rules, moves, state, rules, rule_slots)
            put_item(row_addresses, row_count, location - base)
            put_item(row_rules, row_count, rule)
            row_count += 1 if rule != before_rule else 0
            before_rule = rule | apart
            if advanced >= limit:
                break
            location = advanced
            if at + 1 < end:  # nearly all advances have a short DW_CFA_def_cfa_offset behind them
                word = read_u16(data, at)
                follows = word & 0x80FF == 0x0E
                offset = word >> 8 if follows else offset
                at += 2 if follows else 0
        if problem:
            if begun > floor:  # a row at the place where it is the gap behind an FDE took its place
                row_addresses[begun - 1] = last_address
                row_rules[begun - 1] = last_rule
            return index, begun, problem
        put_item(row_addresses, row_count, limit - base)
        put_item(row_rules, row_count, RULE_INVALID)
        row_count += 1 if before_rule != RULE_INVALID else 0
    return len(order), row_count, FRAME_PROBLEM_NONE


@hot_loop
def run_fdes(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    order: FlatArray,
    base: int,
    separate: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    fde_first_row: FlatArray,
    problems: FlatArray,
    states: FlatArray,
    state_slots: FlatArray,
    state_rules: FlatArray,
    first_states: FlatArray,
    moves: FlatArray,
    kinds: FlatArray,
) -> tuple[int, int]:
    """Append the rows of the FDEs in `order` (indices into the columns); gives (row count, problem count).

    Addresses of rows count from `base`, the lowest of the FDEs.

    `separate` 0 makes one sequence of rows of FDEs that do not overlap. With 1, each FDE has rows of its own, the gap
    behind it the last: the FDE at `order[i]` those from `fde_first_row[i]` up to `fde_first_row[i + 1]`, none when it
    is left out with a problem. The last six arrays are those of `state_pool.pools`.
    """
    row_count = 0
    problem_count = 0
    floor = APART if separate else 0
    begin_states(cie, initial, state_size(section), state, states, state_slots, state_rules, first_states)
    index = 0
    while True:
        index, row_count, problem = _run_by_moves(
            data, section, cie, initial, fde, order, index, base, state, stack, expressions, expression_slots, rules,
            rule_slots, row_addresses, row_rules, fde_first_row, row_count, floor, states, state_slots,
            state_rules, first_states, moves, kinds,
        )  # fmt: skip
        if separate:
            fde_first_row[index] = row_count
        if index == len(order):
            return row_count, problem_count
        fde_row = order[index] * FDE_COLUMNS
        if problem == POOL_FULL:
            problem = cie[fde[fde_row + FDE_CIE] * CIE_COLUMNS + CIE_PROBLEM]
            if problem == FRAME_PROBLEM_NONE:
                row_count, problem = run_fde(
                    data, section, cie, initial, fde, fde_row, base, state, stack, expressions, expression_slots,
                    rules, rule_slots, row_addresses, row_rules, row_count, floor,
                )  # fmt: skip
        if problem:
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[fde_row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = problem
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[fde_row + FDE_START]
            problem_count += 1
        index += 1
