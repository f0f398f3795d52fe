"""The walk: from registers and raw stack to frames, by compact unwind tables.

Hot loops over flat arrays only; `unwind.stack_walker` prepares the arrays and reads the results. One step finds the
mapping of the pc, the rule in its module's table, the CFA, and the caller's registers (DWARF 5 §6.4.4).

A walk is resumable: all that it knows stands in its state array, so that a source which reads the target's memory
on demand can supply what was missing and go on, and a bounded output array can be emptied and filled again.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_DEREF,
    CFA_KIND_END,
    CFA_KIND_EXPRESSION,
    CFA_KIND_OVERFLOW,
    CFA_KIND_REGISTER_OFFSET,
    REGISTER_KIND_AT_CFA,
    REGISTER_KIND_CFA_PLUS,
    REGISTER_KIND_EXPRESSION,
    REGISTER_KIND_IN_REGISTER,
    REGISTER_KIND_SAME,
    REGISTER_KIND_UNDEFINED,
    REGISTER_KIND_VAL_EXPRESSION,
    RULE_CFA_REGISTER,
    RULE_CFA_VALUE,
    RULE_FLAG_SIGNAL_FRAME,
    STOP_REASON_BAD_CFA,
    STOP_REASON_BAD_EXPRESSION,
    STOP_REASON_END_OF_STACK,
    STOP_REASON_MEMORY_NOT_CAPTURED,
    STOP_REASON_NO_MAPPING,
    STOP_REASON_NO_REGISTERS,
    STOP_REASON_NO_ROW,
    STOP_REASON_NO_TABLE,
    STOP_REASON_OVERFLOW,
    STOP_REASON_RETURN_TRAMPOLINE,
    STOP_REASON_STACK_CUT,
    STOP_REASON_TOO_DEEP,
    STOP_REASON_UNKNOWN_REGISTER,
)
from cfi_tables.lookup import expression_pool, find_rule, register_list
from cfi_tables.scalars import read_i16, read_i32, read_u16
from unwind.expression import (
    ADDRESS_SIZE,
    EVALUATED,
    MEMORY_MISSING,
    REGISTER_UNKNOWN,
    STACK_DEPTH,
    evaluate,
    wrap_address,
)
from unwind.memory import BEYOND_CUT, READ, read_integer

# What depends on the architecture, here for x86-64: `architecture.specialised_walk` makes the walk of others.
REGISTER_COUNT = 17
FRAME_POINTER = 6
STACK_POINTER = 7
RETURN_ADDRESS = 16
"""Where a frame's program counter stands among its registers."""
RETURN_COLUMN = 16
"""The register whose rule gives the return address; another one than RETURN_ADDRESS where calls put it there."""
# rbx, rbp, r12-r15: preserved across calls (System V ABI AMD64 §3.2.1), so unchanged where no rule names them.
CALLEE_SAVED = (1 << 3) | (1 << 6) | (0xF << 12)
SIGNAL_FRAMES_ASIDE = 0
"""1: what a signal frame's rules say is not enough, and the caller of the walk steps over it."""

MOST_REGISTERS = 33
"""No architecture's state has more."""

# Columns of the state array (int64), after the registers of the current frame, of which there are REGISTER_COUNT.
STATE_KNOWN = 33
"""Bit r: register r holds a value."""
STATE_EXACT = 34
"""1: the pc was interrupted and is looked up as it is; 0: it is a return address, looked up minus one."""
STATE_PREVIOUS_CFA = 35
"""The CFA of the frame before; the next one must be above it, but where the stack is switched."""
STATE_DETAIL = 36
"""What the stop reason speaks of: an address, or a register's number."""
STATE_ON_DEMAND = 37
"""1: stop at any missing memory, since the caller can supply it; 0: a register that cannot be read is unknown."""
STATE_FRAMES = 38
"""Frames found since the walk began, over all resumptions."""
STATE_CARRIED = 39
"""Bit r: no rule told what became of register r, so the value is an inner frame's; known only if no call changed it."""
STATE_SIGNATURE = 40
"""The bits of a return address that are no part of it, where RETURN_COLUMN is a register of its own."""
STATE_WIDTH = 41

NO_PREVIOUS_CFA = -(1 << 63)
KERNEL_STACK_BITS = 14
"""Of an address inside one of the kernel's stacks (THREAD_SIZE of x86-64)."""

# Columns of the mapping array (int64), one group an executable mapping, sorted by start.
MAPPING_START = 0
MAPPING_END = 1
MAPPING_BIAS = 2
"""Run-time address minus file virtual address."""
MAPPING_TABLE = 3
"""Arena offset of the module's compact table, or one of the NO_TABLE values."""
MAPPING_WIDTH = 4
NO_TABLE = -1
TRAMPOLINE = -2

# Columns of the frame array (int64).
FRAME_PC = 0
FRAME_CFA = 1
FRAME_MAPPING = 2
FRAME_FLAGS = 3
FRAME_KNOWN = 4
FRAME_CARRIED = 5
FRAME_WIDTH = 6

FRAME_EXACT = 1
"""Flag: the pc is exact (interrupted), not a return address."""
FRAME_SIGNAL = 2
"""Flag: a signal frame, whose caller was interrupted."""
FRAME_HAS_CFA = 4

SCRATCH_WIDTH = STACK_DEPTH + MOST_REGISTERS + 1
"""Expression stack, then the registers of the caller and their carried mask."""

_GO_ON = -1


@hot_loop
def find_mapping(mappings: FlatArray, first: int, last: int, address: int) -> int:
    """Index in [first, last) of the mapping that holds `address`, or -1. `mappings` is sorted by start."""
    low = first
    high = last
    while low < high:
        middle = (low + high) // 2
        if mappings[middle * MAPPING_WIDTH] <= address:
            low = middle + 1
        else:
            high = middle
    if low == first or address >= mappings[(low - 1) * MAPPING_WIDTH + MAPPING_END]:
        return -1
    return low - 1


@hot_loop
def _memory_reason(status: int) -> int:
    return STOP_REASON_STACK_CUT if status == BEYOND_CUT else STOP_REASON_MEMORY_NOT_CAPTURED


@hot_loop
def _expression_reason(content: FlatArray, slices: FlatArray, first: int, last: int, status: int, detail: int) -> int:
    if status == MEMORY_MISSING:
        missing, _ = read_integer(content, slices, first, last, detail, ADDRESS_SIZE)
        return _memory_reason(missing)
    return STOP_REASON_UNKNOWN_REGISTER if status == REGISTER_UNKNOWN else STOP_REASON_BAD_EXPRESSION


@hot_loop
def _run_expression(
    arena: FlatArray,
    at: int,
    state: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    first: int,
    last: int,
    initial: int,
    has_initial: bool,
    scratch: FlatArray,
) -> tuple[int, int]:
    """Evaluate the pool entry at arena offset `at`: a 16-bit length, then the expression's bytes."""
    length = read_u16(arena, at)
    return evaluate(
        arena,
        at + 2,
        length,
        state,
        state[STATE_KNOWN],
        content,
        slices,
        first,
        last,
        initial,
        has_initial,
        scratch,
    )


@hot_loop
def _canonical_frame_address(
    arena: FlatArray,
    table: int,
    rule: int,
    state: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    first: int,
    last: int,
    scratch: FlatArray,
) -> tuple[int, int]:
    """(_GO_ON, CFA) of the current frame by the rule at arena offset `rule`, or (stop reason, detail)."""
    kind = arena[rule] + 0
    if kind == CFA_KIND_EXPRESSION:
        at = expression_pool(arena, table) + read_i32(arena, rule + RULE_CFA_VALUE)
        status, value = _run_expression(arena, at, state, content, slices, first, last, 0, False, scratch)
        if status != EVALUATED:
            return _expression_reason(content, slices, first, last, status, value), value
        return _GO_ON, value
    register = arena[rule + RULE_CFA_REGISTER] + 0
    if register >= REGISTER_COUNT or (state[STATE_KNOWN] >> register) & 1 == 0:
        return STOP_REASON_UNKNOWN_REGISTER, register
    if kind == CFA_KIND_REGISTER_OFFSET:
        return _GO_ON, wrap_address(state[register] + read_i32(arena, rule + RULE_CFA_VALUE))
    address = wrap_address(state[register] + read_i16(arena, rule + RULE_CFA_VALUE))
    status, value = read_integer(content, slices, first, last, address, ADDRESS_SIZE)
    if status != READ:
        return _memory_reason(status), address
    return _GO_ON, wrap_address(value + read_i16(arena, rule + RULE_CFA_VALUE + 2))


@hot_loop
def _recover(
    arena: FlatArray,
    table: int,
    entry: int,
    cfa: int,
    state: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    first: int,
    last: int,
    scratch: FlatArray,
) -> tuple[int, int]:
    """(_GO_ON, value) of one of the caller's registers by the entry `entry` of a register list.

    Else (stop reason, detail), which is fatal only for the return address; an undefined one is an unknown register.
    """
    register = entry & 63
    kind = (entry >> 6) & 7
    value = entry >> 9
    if kind == REGISTER_KIND_AT_CFA or kind == REGISTER_KIND_EXPRESSION:
        address = wrap_address(cfa + value)
        if kind == REGISTER_KIND_EXPRESSION:
            at = expression_pool(arena, table) + value
            status, address = _run_expression(arena, at, state, content, slices, first, last, cfa, True, scratch)
            if status != EVALUATED:
                return _expression_reason(content, slices, first, last, status, address), address
        elif (
            address < state[STACK_POINTER]
            and register != RETURN_ADDRESS
            and (state[STATE_KNOWN] >> register) & 1
            and state[STATE_EXACT] == 1
        ):
            # In an epilogue, compilers do not say that a register was restored when it was popped: its slot lies
            # below the stack pointer already, and the register holds the caller's value.
            return _GO_ON, state[register] + 0
        status, loaded = read_integer(content, slices, first, last, address, ADDRESS_SIZE)
        if status != READ:
            return _memory_reason(status), address
        return _GO_ON, loaded
    if kind == REGISTER_KIND_CFA_PLUS:
        return _GO_ON, wrap_address(cfa + value)
    if kind == REGISTER_KIND_VAL_EXPRESSION:
        at = expression_pool(arena, table) + value
        status, result = _run_expression(arena, at, state, content, slices, first, last, cfa, True, scratch)
        if status != EVALUATED:
            return _expression_reason(content, slices, first, last, status, result), result
        return _GO_ON, result
    source = register
    if kind == REGISTER_KIND_IN_REGISTER:
        source = value
    elif kind != REGISTER_KIND_SAME:
        return STOP_REASON_UNKNOWN_REGISTER, register
    if source < 0 or source > RETURN_ADDRESS or (state[STATE_KNOWN] >> source) & 1 == 0:
        return STOP_REASON_UNKNOWN_REGISTER, source
    return _GO_ON, state[source] + 0


@hot_loop
def _step_registers(
    arena: FlatArray,
    table: int,
    rule: int,
    cfa: int,
    state: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    first: int,
    last: int,
    scratch: FlatArray,
    caller: FlatArray,
) -> tuple[int, int, int]:
    """Fill `caller` (int64, REGISTER_COUNT and its carried mask) with the caller's registers.

    Returns (_GO_ON, 0, known mask) or (stop reason, detail, 0).
    """
    known = state[STATE_KNOWN] & CALLEE_SAVED
    carried = (state[STATE_KNOWN] | state[STATE_CARRIED]) & ~CALLEE_SAVED & ~(1 << RETURN_ADDRESS)
    for register in range(REGISTER_COUNT):
        caller[register] = state[register]
    caller[STACK_POINTER] = cfa
    known |= 1 << STACK_POINTER
    entries = register_list(arena, table, rule)
    for index in range(arena[entries] + 0):
        entry = read_i32(arena, entries + 4 + 4 * index)
        register = entry & 63
        if register > RETURN_ADDRESS:
            continue
        carried &= ~(1 << register)
        status, value = _recover(arena, table, entry, cfa, state, content, slices, first, last, scratch)
        if status == _GO_ON:
            caller[register] = value
            known |= 1 << register
            continue
        missing = status == STOP_REASON_MEMORY_NOT_CAPTURED or status == STOP_REASON_STACK_CUT
        if register == RETURN_COLUMN or (missing and state[STATE_ON_DEMAND] == 1):
            if (entry >> 6) & 7 == REGISTER_KIND_UNDEFINED:
                return STOP_REASON_END_OF_STACK, 0, 0
            return status, value, 0
        known &= ~(1 << register)
    caller[REGISTER_COUNT] = carried & ~(1 << STACK_POINTER)
    if RETURN_COLUMN != RETURN_ADDRESS:
        if (known >> RETURN_COLUMN) & 1 == 0:
            return STOP_REASON_UNKNOWN_REGISTER, RETURN_COLUMN, 0
        caller[RETURN_ADDRESS] = caller[RETURN_COLUMN] & ~state[STATE_SIGNATURE]
        # The call has put its return address there: the register is the caller's no more.
        known = (known | 1 << RETURN_ADDRESS) & ~(1 << RETURN_COLUMN)
    if (known >> RETURN_ADDRESS) & 1 == 0:
        return STOP_REASON_UNKNOWN_REGISTER, RETURN_ADDRESS, 0
    return _GO_ON, 0, known


@hot_loop
def _may_switch_stack(arena: FlatArray, rule: int, cfa: int, previous: int) -> bool:
    """Whether the rule finds the CFA in a way that code which switches stacks declares it.

    That is in memory at the new stack's pointer, or by an expression. (A realigned frame keeps its CFA in memory too,
    but below its frame pointer.) The kernel before 5.12 keeps the old stack in rbp: from one of its stacks, which are
    aligned to their size, to another one.
    """
    kind: int = arena[rule] + 0
    register: int = arena[rule + RULE_CFA_REGISTER] + 0
    if kind == CFA_KIND_REGISTER_OFFSET:
        return register == FRAME_POINTER and cfa < 0 and cfa >> KERNEL_STACK_BITS != previous >> KERNEL_STACK_BITS
    return kind == CFA_KIND_EXPRESSION or (kind == CFA_KIND_DEREF and register == STACK_POINTER)


@hot_loop
def _put_frame(frames: FlatArray, depth: int, state: FlatArray, mapping: int, frame_registers: FlatArray) -> None:
    at = depth * FRAME_WIDTH
    frames[at + FRAME_PC] = state[RETURN_ADDRESS]
    frames[at + FRAME_CFA] = 0
    frames[at + FRAME_MAPPING] = mapping
    frames[at + FRAME_FLAGS] = state[STATE_EXACT]
    frames[at + FRAME_KNOWN] = state[STATE_KNOWN]
    frames[at + FRAME_CARRIED] = state[STATE_CARRIED]
    if len(frame_registers) >= (depth + 1) * REGISTER_COUNT:
        for register in range(REGISTER_COUNT):
            frame_registers[depth * REGISTER_COUNT + register] = state[register]


@hot_loop
def walk(
    arena: FlatArray,
    mappings: FlatArray,
    first_mapping: int,
    last_mapping: int,
    content: FlatArray,
    slices: FlatArray,
    first_slice: int,
    last_slice: int,
    state: FlatArray,
    frames: FlatArray,
    first_frame: int,
    last_frame: int,
    frame_registers: FlatArray,
    scratch: FlatArray,
) -> tuple[int, int]:
    """Walk one stack from `state`, writing frames `first_frame` on; (stop reason, index after the last frame).

    Shapes: `arena` bytes (tables); `mappings` int64, MAPPING_WIDTH each; `content` bytes and `slices` int64,
    SLICE_WIDTH each (see `unwind.memory`); `state` int64, STATE_WIDTH, read and left so that a second call goes on
    where this one stopped; `frames` int64, FRAME_WIDTH each; `frame_registers` int64, REGISTER_COUNT a frame, or
    too short when they are not wanted; `scratch` int64, SCRATCH_WIDTH.
    """
    caller = scratch[STACK_DEPTH : STACK_DEPTH + REGISTER_COUNT + 1]
    depth = first_frame
    while True:
        pc = state[RETURN_ADDRESS] + 0
        exact = state[STATE_EXACT] + 0
        state[STATE_DETAIL] = pc
        # A null return address marks the outermost frame where the start code pushed one; the first pc of a
        # stack may be null by a call through a null pointer, which is a fact about the frame, not its end.
        if pc == 0 and state[STATE_FRAMES] > 0 and exact == 0:
            return STOP_REASON_END_OF_STACK, depth
        mapping = find_mapping(mappings, first_mapping, last_mapping, pc if exact else wrap_address(pc - 1))
        if mapping < 0 and state[STATE_FRAMES] > 0:
            return STOP_REASON_NO_MAPPING, depth
        if depth >= last_frame:
            return STOP_REASON_TOO_DEEP, depth
        _put_frame(frames, depth, state, mapping, frame_registers)
        if mapping < 0:
            state[STATE_FRAMES] += 1
            return STOP_REASON_NO_MAPPING, depth + 1
        table = mappings[mapping * MAPPING_WIDTH + MAPPING_TABLE] + 0
        if table < 0:
            if table == TRAMPOLINE:
                return STOP_REASON_RETURN_TRAMPOLINE, depth
            state[STATE_FRAMES] += 1
            return STOP_REASON_NO_TABLE, depth + 1
        lookup = pc - mappings[mapping * MAPPING_WIDTH + MAPPING_BIAS] - (0 if exact else 1)
        rule = find_rule(arena, table, lookup)
        if rule < 0:
            state[STATE_FRAMES] += 1
            return STOP_REASON_NO_ROW, depth + 1
        kind = arena[rule] + 0
        signal = arena[register_list(arena, table, rule) + 1] & RULE_FLAG_SIGNAL_FRAME
        if signal:
            frames[depth * FRAME_WIDTH + FRAME_FLAGS] |= FRAME_SIGNAL
        if signal and SIGNAL_FRAMES_ASIDE:
            state[STATE_FRAMES] += 1
            return STOP_REASON_NO_ROW, depth + 1
        if kind == CFA_KIND_OVERFLOW:
            state[STATE_FRAMES] += 1
            return STOP_REASON_OVERFLOW, depth + 1
        if kind == CFA_KIND_END:
            state[STATE_FRAMES] += 1
            return STOP_REASON_END_OF_STACK, depth + 1
        status, cfa = _canonical_frame_address(
            arena, table, rule, state, content, slices, first_slice, last_slice, scratch
        )
        # The CFA of a signal frame is the interrupted stack pointer, which lies anywhere when the handler has a
        # stack of its own; every other frame lies above the one that it called.
        if status == _GO_ON and not signal and cfa <= state[STATE_PREVIOUS_CFA]:
            if cfa == state[STATE_PREVIOUS_CFA] or not _may_switch_stack(arena, rule, cfa, state[STATE_PREVIOUS_CFA]):
                status = STOP_REASON_BAD_CFA
        known = 0
        if status == _GO_ON:
            frames[depth * FRAME_WIDTH + FRAME_CFA] = cfa
            frames[depth * FRAME_WIDTH + FRAME_FLAGS] |= FRAME_HAS_CFA
            status, cfa_detail, known = _step_registers(
                arena, table, rule, cfa, state, content, slices, first_slice, last_slice, scratch, caller
            )
            if status != _GO_ON:
                state[STATE_DETAIL] = cfa_detail
        else:
            state[STATE_DETAIL] = cfa
        if status != _GO_ON:
            # The frame stands; a resumption begins with it again, which is why the state is left at it.
            return status, depth + 1
        for register in range(REGISTER_COUNT):
            state[register] = caller[register]
        state[STATE_KNOWN] = known
        state[STATE_CARRIED] = caller[REGISTER_COUNT]
        state[STATE_EXACT] = 1 if signal else 0
        state[STATE_PREVIOUS_CFA] = cfa
        state[STATE_FRAMES] += 1
        depth += 1


@hot_loop
def walk_batch(
    arena: FlatArray,
    mappings: FlatArray,
    mapping_ranges: FlatArray,
    content: FlatArray,
    slices: FlatArray,
    slice_ranges: FlatArray,
    registers: FlatArray,
    known: FlatArray,
    count: int,
    frames: FlatArray,
    capacity: int,
    max_depth: int,
    frame_ends: FlatArray,
    reasons: FlatArray,
    details: FlatArray,
    state: FlatArray,
    scratch: FlatArray,
) -> int:
    """Walk `count` samples into one frame array; the number done before `capacity` frames were full.

    `mapping_ranges` and `slice_ranges` int64: first and last index for each sample; `registers` int64,
    REGISTER_COUNT each; `known` int64 masks, 0 for a sample without user context. Results for each sample:
    `frame_ends` (index after its last frame), `reasons`, `details`.
    """
    depth = 0
    none = state[0:0]
    for sample in range(count):
        if known[sample] == 0:
            frame_ends[sample] = depth
            reasons[sample] = STOP_REASON_NO_REGISTERS
            details[sample] = 0
            continue
        for register in range(REGISTER_COUNT):
            state[register] = registers[sample * REGISTER_COUNT + register]
        state[STATE_KNOWN] = known[sample]
        state[STATE_EXACT] = 1
        state[STATE_PREVIOUS_CFA] = NO_PREVIOUS_CFA
        state[STATE_ON_DEMAND] = 0
        state[STATE_FRAMES] = 0
        state[STATE_CARRIED] = 0
        last = min(depth + max_depth, capacity)
        reason, end = walk(
            arena,
            mappings,
            mapping_ranges[sample * 2] + 0,
            mapping_ranges[sample * 2 + 1] + 0,
            content,
            slices,
            slice_ranges[sample * 2] + 0,
            slice_ranges[sample * 2 + 1] + 0,
            state,
            frames,
            depth,
            last,
            none,
            scratch,
        )
        if reason == STOP_REASON_TOO_DEEP and last == capacity and end - depth < max_depth:
            return sample
        frame_ends[sample] = end
        reasons[sample] = reason
        details[sample] = state[STATE_DETAIL]
        depth = end
    return count
