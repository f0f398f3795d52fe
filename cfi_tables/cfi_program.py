"""Call frame instructions run into rows (DWARF 5 §6.4.2), as hot loops.

Owns the byte-code interpreter and its register state. Data comes from the columns of `frame_section` and the
section's bytes; `program_automaton` runs whole sections with it, and each distinct rule goes to `rule_pool`. A program
with an instruction that is not known or damaged gives no row at all: what stands before it may be misread.
"""

from __future__ import annotations

from cfi_tables.frame_section import (
    CIE_CODE_ALIGNMENT,
    CIE_COLUMNS,
    CIE_DATA_ALIGNMENT,
    CIE_FLAGS,
    CIE_POINTER_ENCODING,
    CIE_PROBLEM,
    CIE_PROGRAM,
    CIE_PROGRAM_END,
    CIE_RETURN_COLUMN,
    FDE_CIE,
    FDE_END,
    FDE_PROGRAM,
    FDE_PROGRAM_END,
    FDE_START,
    SECTION_REGISTERS,
    SECTION_RETURN_COLUMN,
    SECTION_SIGNS_RETURN,
    read_pointer,
)
from cfi_tables.hot_loop import FlatArray, hot_loop
from cfi_tables.layout import (
    CFA_KIND_EXPRESSION,
    CFA_KIND_REGISTER_OFFSET,
    FRAME_PROBLEM_BACKWARD,
    FRAME_PROBLEM_BAD_CIE,
    FRAME_PROBLEM_BAD_INSTRUCTION,
    FRAME_PROBLEM_NONE,
    FRAME_PROBLEM_RETURN_COLUMN,
    FRAME_PROBLEM_STATE_STACK,
    REGISTER_KIND_AT_CFA,
    REGISTER_KIND_CFA_PLUS,
    REGISTER_KIND_EXPRESSION,
    REGISTER_KIND_IN_REGISTER,
    REGISTER_KIND_SAME,
    REGISTER_KIND_UNDEFINED,
    REGISTER_KIND_VAL_EXPRESSION,
)
from cfi_tables.row_sequence import put_row
from cfi_tables.rule_pool import (
    RULE_INVALID,
    STATE_CFA_EXPRESSION,
    STATE_CFA_KIND,
    STATE_CFA_OFFSET,
    STATE_CFA_REGISTER,
    STATE_MAXIMUM_SIZE,
    STATE_REGISTERS,
    STATE_RETURN_COLUMN,
    STATE_SIGNED,
    UNSPECIFIED,
    intern_expression,
    intern_rule,
    state_size,
)
from cfi_tables.scalars import read_sleb, read_u8, read_u16, read_u32, read_uleb

STATE_STACK_DEPTH = 32
"""How deeply remember_state may nest; compilers nest it once."""

# What an instruction works on besides the state, an int64 array.
CURSOR_AT = 0
CURSOR_LOCATION = 1
CURSOR_DEPTH = 2  # of the remembered states
CURSOR_ADVANCED = 3  # the location that the instruction moved to; equal to the location when it did not
CURSOR_SIZE = 4

_CLAMP = 1 << 32  # operands beyond ±2**32 cannot be offsets; they are kept out of range, and become OVERFLOW


@hot_loop
def clamp(value: int) -> int:
    """`value` within ±2**32, so that products stay in 64 bits and an overflow stays one."""
    if value > _CLAMP:
        return _CLAMP
    if value < -_CLAMP:
        return -_CLAMP
    return value


@hot_loop
def set_register(section: FlatArray, state: FlatArray, register: int, kind: int, value: int) -> None:
    """Give `register` a rule; registers that the table does not hold (vectors, flags) are passed over."""
    if 0 <= register < section[SECTION_REGISTERS]:
        state[STATE_REGISTERS + 2 * register] = kind
        state[STATE_REGISTERS + 2 * register + 1] = value


@hot_loop
def restore_register(section: FlatArray, state: FlatArray, initial: FlatArray, base: int, register: int) -> None:
    """Give `register` the rule that the CIE's initial instructions gave it."""
    if 0 <= register < section[SECTION_REGISTERS]:
        place = STATE_REGISTERS + 2 * register
        state[place] = initial[base + place]
        state[place + 1] = initial[base + place + 1]


@hot_loop
def _define_cfa(data: FlatArray, opcode: int, at: int, end: int, alignment: int, state: FlatArray) -> int:
    """DW_CFA_def_cfa, _register, _offset, and the _sf forms; gives the next position, -1 when damaged."""
    if opcode == 0x0C or opcode == 0x0D or opcode == 0x12:
        register, at = read_uleb(data, at, end)
        state[STATE_CFA_REGISTER] = register
        state[STATE_CFA_KIND] = CFA_KIND_REGISTER_OFFSET
    if opcode == 0x0C or opcode == 0x0E:
        offset, at = read_uleb(data, at, end)
        state[STATE_CFA_OFFSET] = clamp(offset)
    elif opcode == 0x12 or opcode == 0x13:
        offset, at = read_sleb(data, at, end)
        state[STATE_CFA_OFFSET] = clamp(clamp(offset) * alignment)
    return at


@hot_loop
def _define_register(
    data: FlatArray, opcode: int, at: int, end: int, alignment: int, section: FlatArray, state: FlatArray
) -> int:
    """The two-operand register instructions; gives the next position, -1 when damaged."""
    register, at = read_uleb(data, at, end)
    if opcode == 0x07:
        set_register(section, state, register, REGISTER_KIND_UNDEFINED, 0)
    elif opcode == 0x08:
        set_register(section, state, register, REGISTER_KIND_SAME, 0)
    elif opcode == 0x09:
        source, at = read_uleb(data, at, end)
        set_register(section, state, register, REGISTER_KIND_IN_REGISTER, clamp(source))
    elif opcode == 0x11 or opcode == 0x15:
        offset, at = read_sleb(data, at, end)
        kind = REGISTER_KIND_AT_CFA if opcode == 0x11 else REGISTER_KIND_CFA_PLUS
        set_register(section, state, register, kind, clamp(clamp(offset) * alignment))
    else:
        offset, at = read_uleb(data, at, end)
        if opcode == 0x2F:  # GNU_negative_offset_extended
            offset = -offset
        kind = REGISTER_KIND_CFA_PLUS if opcode == 0x14 else REGISTER_KIND_AT_CFA
        set_register(section, state, register, kind, clamp(clamp(offset) * alignment))
    return at


@hot_loop
def _define_expression(
    data: FlatArray,
    opcode: int,
    at: int,
    end: int,
    section: FlatArray,
    state: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
) -> int:
    """def_cfa_expression, expression, val_expression; gives the next position, -1 when damaged."""
    register = 0
    if opcode != 0x0F:
        register, at = read_uleb(data, at, end)
    length, at = read_uleb(data, at, end)
    if at < 0 or length > end - at:
        return -1
    reference = intern_expression(data, at, length, expressions, expression_slots)
    if opcode == 0x0F:
        state[STATE_CFA_KIND] = CFA_KIND_EXPRESSION
        state[STATE_CFA_EXPRESSION] = reference
    elif opcode == 0x10:
        set_register(section, state, register, REGISTER_KIND_EXPRESSION, reference)
    else:
        set_register(section, state, register, REGISTER_KIND_VAL_EXPRESSION, reference)
    return at + length


@hot_loop
def _set_signing(data: FlatArray, at: int, end: int, state: FlatArray) -> int:
    """AARCH64_set_ra_state; gives the next position, -1 when damaged or of a state that is not known.

    Its second operand tells where the signing instruction is: what checks a signature needs it, not what clears it.
    """
    signing, at = read_uleb(data, at, end)
    if at < 0 or signing > 2 or signing < 0:  # not signed, signed with sp, signed with sp and pc
        return -1
    state[STATE_SIGNED] = 1 if signing else 0
    _, at = read_sleb(data, at, end)
    return at


@hot_loop
def _move_location(
    data: FlatArray,
    opcode: int,
    at: int,
    end: int,
    cie: FlatArray,
    row: int,
    section: FlatArray,
    cursor: FlatArray,
) -> int:
    """set_loc and advance_loc1/2/4; gives the next position, -1 when damaged."""
    if opcode == 0x01:
        location, at = read_pointer(data, at, end, cie[row + CIE_POINTER_ENCODING], section)
        cursor[CURSOR_ADVANCED] = location
        return at
    size = 1 if opcode == 0x02 else (2 if opcode == 0x03 else 4)
    if at + size > end:
        return -1
    if size == 1:
        delta = read_u8(data, at)
    elif size == 2:
        delta = read_u16(data, at)
    else:
        delta = read_u32(data, at)
    cursor[CURSOR_ADVANCED] = cursor[CURSOR_LOCATION] + delta * cie[row + CIE_CODE_ALIGNMENT]
    return at + size


@hot_loop
def _copy(source: FlatArray, source_at: int, target: FlatArray, target_at: int, size: int) -> None:
    for index in range(size):
        target[target_at + index] = source[source_at + index]


@hot_loop
def step(
    data: FlatArray,
    end: int,
    section: FlatArray,
    cie: FlatArray,
    cie_index: int,
    initial: FlatArray,
    state: FlatArray,
    stack: FlatArray,
    cursor: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
) -> int:
    """Run the instruction at the cursor; gives a FRAME_PROBLEM."""
    row = cie_index * CIE_COLUMNS
    size = state_size(section)
    base = cie_index * size
    alignment = cie[row + CIE_DATA_ALIGNMENT]
    at = cursor[CURSOR_AT]
    opcode = read_u8(data, at)
    at += 1
    low = opcode & 0x3F
    high = opcode >> 6
    if high == 1:  # advance_loc
        cursor[CURSOR_ADVANCED] = cursor[CURSOR_LOCATION] + low * cie[row + CIE_CODE_ALIGNMENT]
    elif high == 2:  # offset
        offset, at = read_uleb(data, at, end)
        set_register(section, state, low, REGISTER_KIND_AT_CFA, clamp(clamp(offset) * alignment))
    elif high == 3:  # restore
        restore_register(section, state, initial, base, low)
    elif opcode == 0x00:  # nop
        pass
    elif opcode <= 0x04:
        at = _move_location(data, opcode, at, end, cie, row, section, cursor)
    elif opcode == 0x06:  # restore_extended
        register, at = read_uleb(data, at, end)
        restore_register(section, state, initial, base, register)
    elif opcode == 0x0A:  # remember_state
        depth = cursor[CURSOR_DEPTH]
        if depth >= STATE_STACK_DEPTH:
            return FRAME_PROBLEM_STATE_STACK
        _copy(state, 0, stack, depth * size, size)
        cursor[CURSOR_DEPTH] = depth + 1
    elif opcode == 0x0B:  # restore_state; the CFA is part of it
        depth = cursor[CURSOR_DEPTH] - 1
        if depth < 0:
            return FRAME_PROBLEM_STATE_STACK
        _copy(stack, depth * size, state, 0, size)
        cursor[CURSOR_DEPTH] = depth
    elif 0x0C <= opcode <= 0x0E or opcode == 0x12 or opcode == 0x13:
        at = _define_cfa(data, opcode, at, end, alignment, state)
    elif opcode == 0x0F or opcode == 0x10 or opcode == 0x16:
        at = _define_expression(data, opcode, at, end, section, state, expressions, expression_slots)
    elif (opcode == 0x2C or opcode == 0x2D) and section[SECTION_SIGNS_RETURN]:
        # AARCH64_negate_ra_state_with_pc, AARCH64_negate_ra_state: whether the bits of a signature must be cleared
        state[STATE_SIGNED] = 1 - state[STATE_SIGNED]
    elif opcode == 0x2B and section[SECTION_SIGNS_RETURN]:
        at = _set_signing(data, at, end, state)
    elif opcode == 0x2E:  # GNU_args_size: pushed arguments, which no rule needs
        _, at = read_uleb(data, at, end)
    elif opcode <= 0x15 or opcode == 0x2F:
        at = _define_register(data, opcode, at, end, alignment, section, state)
    else:
        return FRAME_PROBLEM_BAD_INSTRUCTION
    if at < 0:
        return FRAME_PROBLEM_BAD_INSTRUCTION
    cursor[CURSOR_AT] = at
    return FRAME_PROBLEM_NONE


@hot_loop
def run_cies(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    cie_count: int,
    initial: FlatArray,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
) -> None:
    """Run every CIE's initial instructions into `initial`; a failure is noted in the CIE's problem column."""
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    for index in range(cie_count):
        row = index * CIE_COLUMNS
        if cie[row + CIE_PROBLEM]:
            continue
        column = cie[row + CIE_RETURN_COLUMN]
        if column != section[SECTION_RETURN_COLUMN] and (column < 0 or column >= section[SECTION_REGISTERS]):
            cie[row + CIE_PROBLEM] = FRAME_PROBLEM_RETURN_COLUMN
            continue
        for slot in range(size):
            state[slot] = 0
        state[STATE_RETURN_COLUMN] = column
        for register in range(section[SECTION_REGISTERS]):
            state[STATE_REGISTERS + 2 * register] = UNSPECIFIED
        # Until the program is done, `restore` means "unspecified".
        _copy(state, 0, initial, index * size, size)
        cursor[CURSOR_AT] = cie[row + CIE_PROGRAM]
        cursor[CURSOR_LOCATION] = 0
        cursor[CURSOR_ADVANCED] = 0
        cursor[CURSOR_DEPTH] = 0
        end = cie[row + CIE_PROGRAM_END]
        while cursor[CURSOR_AT] < end:
            problem = step(data, end, section, cie, index, initial, state, stack, cursor, expressions, expression_slots)
            if problem or cursor[CURSOR_ADVANCED] != 0:
                cie[row + CIE_PROBLEM] = FRAME_PROBLEM_BAD_CIE
                break
        _copy(state, 0, initial, index * size, size)


@hot_loop
def run_fde(
    data: FlatArray,
    section: FlatArray,
    cie: FlatArray,
    initial: FlatArray,
    fde: FlatArray,
    fde_row: int,
    base: int,
    state: FlatArray,
    stack: FlatArray,
    expressions: FlatArray,
    expression_slots: FlatArray,
    rules: FlatArray,
    rule_slots: FlatArray,
    row_addresses: FlatArray,
    row_rules: FlatArray,
    row_count: int,
    floor: int,
) -> tuple[int, int]:
    """Append the rows of one FDE and the gap behind it, from `base` on; gives (row count, FRAME_PROBLEM).

    With a problem, the rows are those of before.
    """
    size = state_size(section)
    cursor = state[STATE_MAXIMUM_SIZE : STATE_MAXIMUM_SIZE + CURSOR_SIZE]
    cie_index = fde[fde_row + FDE_CIE]
    flags = cie[cie_index * CIE_COLUMNS + CIE_FLAGS]
    begun = row_count
    last_address = 0
    last_rule = 0
    if row_count > floor:
        last_address = 0 + row_addresses[row_count - 1]
        last_rule = 0 + row_rules[row_count - 1]
    _copy(initial, cie_index * size, state, 0, size)
    location = fde[fde_row + FDE_START]
    limit = fde[fde_row + FDE_END]
    end = fde[fde_row + FDE_PROGRAM_END]
    cursor[CURSOR_AT] = fde[fde_row + FDE_PROGRAM]
    cursor[CURSOR_LOCATION] = location
    cursor[CURSOR_ADVANCED] = location
    cursor[CURSOR_DEPTH] = 0
    problem = FRAME_PROBLEM_NONE
    while problem == FRAME_PROBLEM_NONE:
        advanced = limit
        if cursor[CURSOR_AT] < end:
            problem = step(
                data, end, section, cie, cie_index, initial, state, stack, cursor, expressions, expression_slots
            )
            advanced = 0 + cursor[CURSOR_ADVANCED]
            if problem or advanced == location:
                continue
            if advanced < location:
                problem = FRAME_PROBLEM_BACKWARD
                continue
        rule = intern_rule(state, flags, section, rules, rule_slots)
        row_count = put_row(row_addresses, row_rules, row_count, floor, location - base, rule)
        if advanced >= limit:
            return put_row(row_addresses, row_rules, row_count, floor, limit - base, RULE_INVALID), FRAME_PROBLEM_NONE
        location = advanced
        cursor[CURSOR_LOCATION] = location
    if begun > floor:  # a row at the place where it is the gap behind an FDE took its place
        row_addresses[begun - 1] = last_address
        row_rules[begun - 1] = last_rule
    return begun, problem
