"""DWARF expressions in the walk of a 32-bit machine against those of variables, which know the size of their type."""

from __future__ import annotations

import random
from array import array

import pytest

from cfi_tables.i386 import ARCHITECTURE
from unwind.architecture.specialised_walk import hot_loop_of
from unwind.arguments.typed_value import GENERIC_32, binary, typed, unary
from unwind.expression import BAD_EXPRESSION, EVALUATED, STACK_DEPTH, evaluate
from unwind.walk import STATE_WIDTH

_BINARY = [0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x2E]
_UNARY = [0x19, 0x1F, 0x20]
_DIVISIONS = (0x1B, 0x1D)
_SHIFT_RIGHT_SIGNED = 0x26
_EDGES = [0, 1, 2, 31, 32, 33, 63, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFE, 0xFFFF_FFFF]


def _evaluate(
    code: bytes, registers: dict[int, int] | None = None, memory: bytes = b"", at: int = 0
) -> tuple[int, int]:
    """Run an expression as the walk of i386 does."""
    run = hot_loop_of(evaluate, ARCHITECTURE.machine)
    state = array("q", bytes(8 * STATE_WIDTH))
    for register, value in (registers or {}).items():
        state[register] = value
    known = sum(1 << register for register in registers or {})
    slices = array("q", (at, 0, len(memory), 0))
    stack = array("q", bytes(8 * STACK_DEPTH))
    status, value = run(code, 0, len(code), state, known, memory or b"\0", slices, 0, 1, 0, False, stack)
    return status, value


def _constant(value: int) -> bytes:
    return b"\x0c" + value.to_bytes(4, "little")


@pytest.mark.parametrize("op", _BINARY)
def test_binary_operations(op):
    chance = random.Random(op)
    values = _EDGES + [chance.getrandbits(32) for _ in range(12)]
    for first in values:
        for second in values:
            status, value = _evaluate(_constant(first) + _constant(second) + bytes((op,)))
            if op in _DIVISIONS and second == 0:
                assert status == BAD_EXPRESSION
                continue
            if op == _SHIFT_RIGHT_SIGNED and second >> 31:
                continue  # a negative count, of which no document says what it means
            expected = binary(op, typed(first, GENERIC_32), typed(second, GENERIC_32)).bits
            assert (status, value) == (EVALUATED, expected), (hex(first), hex(second))


@pytest.mark.parametrize("op", _UNARY)
def test_unary_operations(op):
    for value in _EDGES:
        expected = unary(op, typed(value, GENERIC_32)).bits
        assert _evaluate(_constant(value) + bytes((op,))) == (EVALUATED, expected)


def test_sums_wrap_to_addresses():
    # breg4 16 at the end of the address space, and what is read there.
    assert _evaluate(b"\x74\x10", {4: 0xFFFF_FFF8}) == (EVALUATED, 8)
    memory = bytes(range(0x80, 0x90))
    assert _evaluate(b"\x74\x00\x06", {4: 0xFFFF_FFF0}, memory, 0xFFFF_FFF0) == (EVALUATED, 0x83828180)
    # DW_OP_addr has four bytes, and eight are no register's number but operations that follow.
    assert _evaluate(b"\x03\x00\x00\x00\xf0\x32\x22") == (EVALUATED, 0xF000_0002)
