"""The programs of a section's FDEs run into rows by an automaton over their bytes, as hot loops.

Owns the pool of distinct register states and the automaton that is grown between them. An instruction leads from one
state to another; compilers write the same few thousand steps over and over, so each is interpreted once, by
`cfi_program.step`, and from then on its bytes lead through the automaton: from the node of the state before it, over a
node for each byte that the instruction goes on with, to the node of the state behind it. A row's rule is its node's.

What depends on more than the state is an action, the same from every state's node: what advances the location, and
remember_state and restore_state, whose stack holds nodes. What is rare (long expressions, set_loc) is interpreted each
time. FDEs that come when a pool is full are run by `cfi_program.run_fde`; both ways give the same rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.cfi_program import (
    CURSOR_ADVANCED,
    CURSOR_AT,
    CURSOR_DEPTH,
    CURSOR_LOCATION,
    CURSOR_SIZE,
    STATE_STACK_DEPTH,
    run_fde,
    step,
)
from cfi_tables.frame_section import (
    CIE_CODE_ALIGNMENT,
    CIE_COLUMNS,
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
from cfi_tables.row_sequence import APART, put_row
from cfi_tables.rule_pool import RULE_INVALID, STATE_MAXIMUM_SIZE, intern_rule, state_size
from cfi_tables.scalars import item, read_u8, read_u16, read_u32
from cfi_tables.work_memory import WorkMemory

# A state in the pool: these words, then the state; the first word of the array is the count.
POOLED_CIE = 0
POOLED_NODE = 1
POOLED_WORDS = 2
STATE_LIMIT = 1 << 13
STATE_SLOTS = 2 * STATE_LIMIT

# A node has 256 moves, one for each next byte: the node that it leads to, 0 where that is not known yet, or an action.
# Nodes count from 1; the first column of node 0 is the count.
NODE_STATE = 0  # the state that its instruction begins from
NODE_DEPTH = 1  # bytes of the instruction that lie behind it; 0 in a state's own node
NODE_RULE = 2  # of a state's node: its rule's id, -1 while no row has had the state
NODE_COLUMNS = 3
NODE_LIMIT = 1 << 14
_MOVES = 256

_ADVANCE = -1  # DW_CFA_advance_loc
_ADVANCE_1 = -2  # DW_CFA_advance_loc1, _loc2 and _loc4 are one below another
_ADVANCE_4 = -4
_REMEMBER = -5
_RESTORE = -6

_POOL_FULL = -1
_HASH_MASK = (1 << 40) - 1
_LONGEST = 8  # bytes of an instruction that is remembered


@hot_loop
def _intern_state(state: FlatArray, cie_index: int, size: int, states: FlatArray, slots: FlatArray) -> int:
    """The number of a CIE's state of `size` words, a new one when it is new; -1 when the pool is full."""
    pooled = POOLED_WORDS + size
    value = cie_index
    for index in range(size):
        value = (value * 1000003 ^ state[index]) & _HASH_MASK
    mask = len(slots) - 1
    slot = (value ^ (value >> 20)) & mask
    while slots[slot]:
        number: int = slots[slot] - 1
        base = 1 + number * pooled
        if states[base + POOLED_CIE] == cie_index:
            index = 0
            while index < size and states[base + POOLED_WORDS + index] == state[index]:
                index += 1
            if index == size:
                return number
        slot = (slot + 1) & mask
    count: int = states[0]
    base = 1 + count * pooled
    if base + pooled > len(states):
        return _POOL_FULL
    slots[slot] = count + 1
    states[0] = count + 1
    states[base + POOLED_CIE] = cie_index
    states[base + POOLED_NODE] = 0
    for index in range(size):
        states[base + POOLED_WORDS + index] = state[index]
    return count


@hot_loop
def _take_state(number: int, size: int, states: FlatArray, state: FlatArray) -> None:
    """Copy a state of `size` words out of the pool."""
    base = 1 + number * (POOLED_WORDS + size) + POOLED_WORDS
    for index in range(size):
        state[index] = states[base + index]


@hot_loop
def _new_node(number: int, depth: int, nodes: FlatArray, moves: FlatArray) -> int:
    """A node behind `depth` bytes of an instruction that begins from state `number`; 0 when the pool is full."""
    node: int = nodes[0] + 1
    if (node + 1) * NODE_COLUMNS > len(nodes):
        return 0
    nodes[0] = node
    nodes[node * NODE_COLUMNS + NODE_STATE] = number
    nodes[node * NODE_COLUMNS + NODE_DEPTH] = depth
    nodes[node * NODE_COLUMNS + NODE_RULE] = -1
    for byte in range(_MOVES):
        moves[node * _MOVES + byte] = 0
    return node


@hot_loop
def _node_of(
    state: FlatArray, cie_index: int, size: int, states: FlatArray, slots: FlatArray, nodes: FlatArray, moves: FlatArray
) -> int:
    """The node of a CIE's state of `size` words, or _POOL_FULL."""
    number = _intern_state(state, cie_index, size, states, slots)
    if number < 0:
        return _POOL_FULL
    place = 1 + number * (POOLED_WORDS + size) + POOLED_NODE
    if states[place] == 0:
        node = _new_node(number, 0, nodes, moves)
        if node == 0:
            return _POOL_FULL
        states[place] = node
        first = node * _MOVES
        for byte in range(0x40, 0x80):
            moves[first + byte] = _ADVANCE
        for byte in range(0x02, 0x05):
            moves[first + byte] = _ADVANCE_1 + 0x02 - byte
        moves[first + 0x00] = node  # nop
        moves[first + 0x0A] = _REMEMBER
        moves[first + 0x0B] = _RESTORE
    found: int = states[place]
    return found


@hot_loop
def _remember_move(
    data: FlatArray, begin: int, end: int, node: int, target: int, nodes: FlatArray, moves: FlatArray
) -> None:
    """Have the instruction `data[begin : end]` lead from a state's `node` to another's; not at all without room."""
    number: int = nodes[node * NODE_COLUMNS + NODE_STATE]
    for at in range(begin, end - 1):
        place = node * _MOVES + read_u8(data, at)
        if moves[place] == 0:
            moves[place] = _new_node(number, at + 1 - begin, nodes, moves)
            if moves[place] == 0:
                return
        node = 0 + moves[place]
    moves[node * _MOVES + read_u8(data, end - 1)] = target


@hot_loop
def _rule_of(
    node: int,
    flags: int,
    section: FlatArray,
    states: FlatArray,
    nodes: FlatArray,
    state: FlatArray,
    rules: FlatArray,
    slots: FlatArray,
) -> int:
    """The id of the rule that a state's node stands for."""
    place = node * NODE_COLUMNS + NODE_RULE
    if nodes[place] < 0:
        _take_state(0 + nodes[node * NODE_COLUMNS + NODE_STATE], state_size(section), states, state)
        nodes[place] = intern_rule(state, flags, section, rules, slots)
    found: int = nodes[place]
    return found


@hot_loop
def _operand(data: FlatArray, at: int, size: int) -> int:
    """An operand of 1, 2 or 4 bytes."""
    if size == 1:
        return read_u8(data, at)
    if size == 2:
        return read_u16(data, at)
    return read_u32(data, at)


@hot_loop
def _run_by_moves(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    fde_row: int,
    base: int,
    state: FlatArray,
    remembered: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    row_count: int,
    floor: int,
    states: FlatArray,
    state_slots: FlatArray,
    nodes: FlatArray,
    moves: FlatArray,
    first_nodes: FlatArray,
) -> tuple[int, int]:
    """Append the rows of one FDE and the gap behind it; gives (row count, FRAME_PROBLEM), or (_, _POOL_FULL)."""
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    cie_index = fde[fde_row + FDE_CIE]
    flags = cie[cie_index * CIE_COLUMNS + CIE_FLAGS]
    code_alignment = cie[cie_index * CIE_COLUMNS + CIE_CODE_ALIGNMENT]
    if first_nodes[cie_index] == 0:
        first_nodes[cie_index] = _node_of(
            initial[cie_index * size : (cie_index + 1) * size], cie_index, size, states, state_slots, nodes, moves
        )
    node = 0 + first_nodes[cie_index]
    if node < 0:
        return row_count, _POOL_FULL
    location = fde[fde_row + FDE_START]
    limit = fde[fde_row + FDE_END]
    end = fde[fde_row + FDE_PROGRAM_END]
    at = fde[fde_row + FDE_PROGRAM]
    depth = 0
    while at < end:
        byte = read_u8(data, at)
        move = item(moves, node * _MOVES + byte)
        at += 1
        if move > 0:
            node = move
            continue
        if move == _ADVANCE:
            advanced = location + (byte & 0x3F) * code_alignment
        elif move >= _ADVANCE_4 and move < 0:
            width = 1 << (_ADVANCE_1 - move)
            if at + width > end:
                return row_count, FRAME_PROBLEM_BAD_INSTRUCTION
            advanced = location + _operand(data, at, width) * code_alignment
            at += width
        elif move == _REMEMBER:
            if depth >= STATE_STACK_DEPTH:
                return row_count, FRAME_PROBLEM_STATE_STACK
            remembered[depth] = node
            depth += 1
            continue
        elif move == _RESTORE:
            depth -= 1
            if depth < 0:
                return row_count, FRAME_PROBLEM_STATE_STACK
            node = 0 + remembered[depth]
            continue
        else:
            begin = at - 1 - nodes[node * NODE_COLUMNS + NODE_DEPTH]
            number = 0 + nodes[node * NODE_COLUMNS + NODE_STATE]
            _take_state(number, size, states, state)
            cursor[CURSOR_AT] = begin
            cursor[CURSOR_LOCATION] = location
            cursor[CURSOR_ADVANCED] = location
            cursor[CURSOR_DEPTH] = 0
            problem = step(
                data, end, section, cie, cie_index, initial, state, remembered, cursor, expressions, expression_slots
            )
            if problem:
                return row_count, problem
            at = 0 + cursor[CURSOR_AT]
            advanced = 0 + cursor[CURSOR_ADVANCED]
            before = 0 + states[1 + number * (POOLED_WORDS + size) + POOLED_NODE]
            node = _node_of(state, cie_index, size, states, state_slots, nodes, moves)
            if node < 0:
                return row_count, _POOL_FULL
            if at - begin <= _LONGEST and read_u8(data, begin) != 0x01:  # DW_CFA_set_loc
                _remember_move(data, begin, at, before, node, nodes, moves)
        if advanced == location:
            continue
        if advanced < location:
            return row_count, FRAME_PROBLEM_BACKWARD
        if advanced >= limit:
            break
        rule = item(nodes, node * NODE_COLUMNS + NODE_RULE)
        if rule < 0:
            rule = _rule_of(node, flags, section, states, nodes, state, rules, rule_slots)
        row_count = put_row(row_addresses, row_rules, row_count, floor, location - base, rule)
        location = advanced
    if nodes[node * NODE_COLUMNS + NODE_DEPTH]:
        return row_count, FRAME_PROBLEM_BAD_INSTRUCTION
    rule = _rule_of(node, flags, section, states, nodes, state, rules, rule_slots)
    row_count = put_row(row_addresses, row_rules, row_count, floor, location - base, rule)
    return put_row(row_addresses, row_rules, row_count, floor, limit - base, RULE_INVALID), FRAME_PROBLEM_NONE


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
    nodes: FlatArray,
    moves: FlatArray,
    first_nodes: FlatArray,
) -> tuple[int, int]:
    """Append the rows of the FDEs in `order` (indices into the columns); gives (row count, problem count).

    Addresses of rows count from `base`, the lowest of the FDEs.

    `separate` 0 makes one sequence of rows of FDEs that do not overlap. With 1, each FDE has rows of its own, the gap
    behind it the last: the FDE at `order[i]` those from `fde_first_row[i]` up to `fde_first_row[i + 1]`, none when it
    is left out with a problem. The last five arrays are those of `pools`.
    """
    row_count = 0
    problem_count = 0
    floor = APART if separate else 0
    for index in range(len(order)):
        fde_row = order[index] * FDE_COLUMNS
        if separate:
            fde_first_row[index] = row_count
        problem = cie[fde[fde_row + FDE_CIE] * CIE_COLUMNS + CIE_PROBLEM]
        done = row_count
        # A row at the place where the last FDE ended takes the place of the gap there.
        last_address = 0
        last_rule = 0
        if row_count > floor:
            last_address = 0 + row_addresses[row_count - 1]
            last_rule = 0 + row_rules[row_count - 1]
        if problem == 0:
            done, problem = _run_by_moves(
                data, section, cie, initial, fde, fde_row, base, state, stack, expressions, expression_slots, rules,
                rule_slots, row_addresses, row_rules, row_count, floor, states, state_slots, nodes, moves, first_nodes,
            )  # fmt: skip
            if problem == _POOL_FULL:
                if row_count > floor:
                    row_addresses[row_count - 1] = last_address
                    row_rules[row_count - 1] = last_rule
                done, problem = run_fde(
                    data, section, cie, initial, fde, fde_row, base, state, stack, expressions, expression_slots,
                    rules, rule_slots, row_addresses, row_rules, row_count, floor,
                )  # fmt: skip
        if problem:
            if row_count > floor:
                row_addresses[row_count - 1] = last_address
                row_rules[row_count - 1] = last_rule
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_OFFSET] = fde[fde_row + FDE_OFFSET]
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_REASON] = problem
            problems[problem_count * PROBLEM_COLUMNS + PROBLEM_START] = fde[fde_row + FDE_START]
            problem_count += 1
        else:
            row_count = done
    if separate:
        fde_first_row[len(order)] = row_count
    return row_count, problem_count


POOL_BYTES = (
    8 * (1 + STATE_LIMIT * (POOLED_WORDS + STATE_MAXIMUM_SIZE) + STATE_SLOTS)
    + 4 * NODE_LIMIT * NODE_COLUMNS
    + 2 * NODE_LIMIT * _MOVES
)
"""What `pools` takes at most."""


def pools(memory: WorkMemory, cie_count: int, size: int, room: int) -> tuple[NDArray[Any], ...]:
    """What `run_fdes` keeps states (of `size` words) and nodes in: int64, of the nodes int32, of their moves int16.

    `room`: bytes of all programs at most. Each state and node took one, besides those that CIEs begin with.
    """
    state_limit = min(STATE_LIMIT, room + cie_count)
    node_limit = min(NODE_LIMIT, room + cie_count + 1)
    states = memory.take(1 + state_limit * (POOLED_WORDS + size), np.int64, cleared=False)
    slots = memory.take(min(STATE_SLOTS, 2 << state_limit.bit_length()), np.int64)
    nodes = memory.take(node_limit * NODE_COLUMNS, np.int32, cleared=False)
    moves = memory.take(node_limit * _MOVES, np.int16, cleared=False)
    states[0] = nodes[0] = 0
    return states, slots, nodes, moves, np.zeros(cie_count, dtype=np.int32)
