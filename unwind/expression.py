"""The small bounded evaluator for DWARF expressions in call frame information (DWARF 5 §2.5, §6.4.2).

PLT entries, hand-written assembly, realigned stacks and signal frames have rules that are expressions. They come
from the expression pool of a compact table and are run here during the walk, on the registers of the frame and on
captured memory. The full language of variable locations is `unwind.arguments.location`.

Bounded: branches go forward only, the stack has a fixed depth, and every operand is checked against the end.
"""

from __future__ import annotations

from cfi_tables.hot_loop import FlatArray, hot_loop, wrap64
from cfi_tables.scalars import read_sleb, read_uleb
from unwind.memory import READ, read_integer

STACK_DEPTH = 64

# What depends on the architecture, here for x86-64 (see `architecture.specialised_walk`).
STATE_REGISTERS = 17
"""Registers of a state, the program counter included."""
ADDRESS_SIZE = 8
wrap_address = wrap64
"""Takes a sum to an address, or to what a register holds."""
wrap_value = wrap64
"""Takes a sum to a value of the generic type, as a signed integer."""

# What an evaluation came to.
EVALUATED = 0
BAD_EXPRESSION = 1
MEMORY_MISSING = 2
REGISTER_UNKNOWN = 3


@hot_loop
def _operand(code: FlatArray, at: int, size: int, signed: bool) -> int:
    value = 0
    for byte in range(size):
        value |= code[at + byte] << (8 * byte)
    if signed and size < 8 and value >> (8 * size - 1):
        value -= 1 << (8 * size)
    return wrap64(value)


@hot_loop
def _operand_size(op: int) -> int:
    """Bytes of fixed-size operand after `op`; 0 for none (LEB128 operands are read where they are used)."""
    if op == 0x08 or op == 0x09 or op == 0x15 or op == 0x94:  # const1u/s, pick, deref_size
        return 1
    if op == 0x0A or op == 0x0B or op == 0x28 or op == 0x2F:  # const2u/s, bra, skip
        return 2
    if op == 0x0C or op == 0x0D:  # const4u/s
        return 4
    if op == 0x0E or op == 0x0F:  # const8u/s
        return 8
    return ADDRESS_SIZE if op == 0x03 else 0  # addr


@hot_loop
def _logical_shift_right(value: int, count: int) -> int:
    if count == 0:
        return value
    if count < 0 or count > 63:
        return 0
    return (value >> count) & ~(-1 << (64 - count))


@hot_loop
def _shift_left(value: int, count: int) -> int:
    if count < 0 or count > 63:
        return 0
    return wrap_value(value << count)


@hot_loop
def _unsigned_modulo(left: int, right: int) -> int:
    """`left` modulo `right`, both as unsigned 64-bit integers (DW_OP_mod), in signed arithmetic only."""
    if right < 0:  # The divisor is 2^63 or more: the quotient is 0 or 1.
        if left < 0 and left >= right:
            return wrap64(left - right)
        return left
    if left >= 0:
        return left % right
    # Halve to stay in range, then double the remainder without leaving it: numba takes it that signed sums do not
    # wrap, and would turn a comparison of one that did into an endless loop.
    remainder = _logical_shift_right(left, 1) % right
    rest = right - remainder
    doubled = remainder - rest if remainder >= rest else remainder + remainder
    doubled += left & 1
    return 0 if doubled == right else doubled


@hot_loop
def _signed_quotient(left: int, right: int) -> int:
    """Division rounded towards zero (DW_OP_div)."""
    if right == -1:  # the one quotient that may not fit
        return wrap_value(-left)
    quotient = left // right
    return quotient + 1 if quotient < 0 and quotient * right != left else quotient


@hot_loop
def _binary(op: int, left: int, right: int) -> int:
    """The binary operations of DWARF 5 §2.5.1.4 and §2.5.1.5; division by zero is refused by the caller."""
    if op == 0x1A:
        return left & right
    if op == 0x1B:
        return _signed_quotient(left, right)
    if op == 0x1C:
        return wrap_value(left - right)
    if op == 0x1D:
        return _unsigned_modulo(left, right)
    if op == 0x1E:
        return wrap_value(left * right)
    if op == 0x21:
        return left | right
    if op == 0x22:
        return wrap_value(left + right)
    if op == 0x24:
        return _shift_left(left, right)
    if op == 0x25:
        return _logical_shift_right(left, right)
    if op == 0x26:
        return left >> min(max(right, 0), 63)
    if op == 0x27:
        return left ^ right
    if op == 0x29:
        return 1 if left == right else 0
    if op == 0x2A:
        return 1 if left >= right else 0
    if op == 0x2B:
        return 1 if left > right else 0
    if op == 0x2C:
        return 1 if left <= right else 0
    if op == 0x2D:
        return 1 if left < right else 0
    return 1 if left != right else 0


@hot_loop
def _is_binary(op: int) -> bool:
    return (0x1A <= op <= 0x1E) or op == 0x21 or op == 0x22 or (0x24 <= op <= 0x27) or (0x29 <= op <= 0x2E)


@hot_loop
def _rearrange(op: int, operand: int, stack: FlatArray, depth: int) -> int:
    """The stack operations of DWARF 5 §2.5.1.3: the new depth, or -1 when the stack is too short."""
    if op == 0x12 and depth >= 1:  # dup
        stack[depth] = stack[depth - 1]
        return depth + 1
    if op == 0x13 and depth >= 1:  # drop
        return depth - 1
    if op == 0x14 and depth >= 2:  # over
        stack[depth] = stack[depth - 2]
        return depth + 1
    if op == 0x15 and operand < depth:  # pick
        stack[depth] = stack[depth - 1 - operand]
        return depth + 1
    if op == 0x16 and depth >= 2:  # swap
        top = stack[depth - 1]
        stack[depth - 1] = stack[depth - 2]
        stack[depth - 2] = top
        return depth
    if op == 0x17 and depth >= 3:  # rot
        top = stack[depth - 1]
        stack[depth - 1] = stack[depth - 2]
        stack[depth - 2] = stack[depth - 3]
        stack[depth - 3] = top
        return depth
    return -1


@hot_loop
def _unary(op: int, value: int) -> int:
    if op == 0x19:
        return wrap_value(abs(value))
    if op == 0x1F:
        return wrap_value(-value)
    return ~value


@hot_loop
def evaluate(
    code: FlatArray,
    start: int,
    length: int,
    registers: FlatArray,
    known: int,
    content: FlatArray,
    slices: FlatArray,
    first: int,
    last: int,
    initial: int,
    has_initial: bool,
    stack: FlatArray,
) -> tuple[int, int]:
    """Run the expression `code[start:start + length]`; (EVALUATED, value) or (why not, address or register).

    `registers` are STATE_REGISTERS int64 in DWARF order, bit r of `known` says which hold a value. `initial` is pushed
    first for register rules (the CFA, DWARF 5 §6.4.2). `stack` is int64 scratch of STACK_DEPTH entries.
    """
    at = start
    end = start + length
    depth = 0
    if has_initial:
        stack[0] = wrap_value(initial)
        depth = 1
    while at < end:
        op = code[at] + 0
        at += 1
        size = _operand_size(op)
        if at + size > end or depth >= STACK_DEPTH - 1:
            return BAD_EXPRESSION, 0
        operand = _operand(code, at, size, op == 0x09 or op == 0x0B or op == 0x0D or op == 0x28 or op == 0x2F)
        at += size
        if 0x30 <= op <= 0x4F:  # lit0-31
            stack[depth] = op - 0x30
            depth += 1
        elif op == 0x03 or 0x08 <= op <= 0x0F:
            stack[depth] = wrap_value(operand)
            depth += 1
        elif op == 0x10 or op == 0x11:  # constu, consts
            operand, at = read_uleb(code, at, end) if op == 0x10 else read_sleb(code, at, end)
            stack[depth] = wrap_value(operand)
            depth += 1
        elif 0x70 <= op <= 0x8F or op == 0x92:  # breg0-31, bregx
            register = op - 0x70
            if op == 0x92:
                register, at = read_uleb(code, at, end)
            offset, at = read_sleb(code, at, end)
            if register < 0 or register >= STATE_REGISTERS or (known >> register) & 1 == 0:
                return REGISTER_UNKNOWN, register
            stack[depth] = wrap_value(registers[register] + offset)
            depth += 1
        elif op == 0x06 or op == 0x94:  # deref, deref_size
            size = operand if op == 0x94 else ADDRESS_SIZE
            if depth < 1 or size < 1 or size > ADDRESS_SIZE:
                return BAD_EXPRESSION, 0
            address = wrap_address(stack[depth - 1])
            status, value = read_integer(content, slices, first, last, address, size)
            if status != READ:
                return MEMORY_MISSING, address
            stack[depth - 1] = wrap_value(value)
        elif 0x12 <= op <= 0x17:
            depth = _rearrange(op, operand, stack, depth)
            if depth < 0:
                return BAD_EXPRESSION, 0
        elif _is_binary(op):
            if depth < 2 or ((op == 0x1B or op == 0x1D) and stack[depth - 1] == 0):
                return BAD_EXPRESSION, 0
            stack[depth - 2] = _binary(op, stack[depth - 2], stack[depth - 1])
            depth -= 1
        elif op == 0x19 or op == 0x1F or op == 0x20:  # abs, neg, not
            if depth < 1:
                return BAD_EXPRESSION, 0
            stack[depth - 1] = _unary(op, stack[depth - 1])
        elif op == 0x23:  # plus_uconst
            addend, at = read_uleb(code, at, end)
            if depth < 1:
                return BAD_EXPRESSION, 0
            stack[depth - 1] = wrap_value(stack[depth - 1] + addend)
        elif op == 0x2F or op == 0x28:  # skip, bra
            taken = True
            if op == 0x28:
                if depth < 1:
                    return BAD_EXPRESSION, 0
                depth -= 1
                taken = stack[depth] != 0
            if taken:
                if operand < 0 or at + operand > end:
                    return BAD_EXPRESSION, 0
                at += operand
        elif op != 0x96:  # nop
            return BAD_EXPRESSION, 0
        if at < 0:
            return BAD_EXPRESSION, 0
    if depth < 1:
        return BAD_EXPRESSION, 0
    return EVALUATED, wrap_address(stack[depth - 1])
