"""Arithmetic of 32-bit machines for the walk's hot loops, which keep every value in a 64-bit integer.

Addresses and registers are kept as they are, zero-extended: they compare as addresses do. Values on a DWARF
expression's stack are kept sign-extended, since most operations on them are signed (DWARF 5 §2.5.1.4).
"""

from __future__ import annotations

from cfi_tables.hot_loop import hot_loop

_MASK = (1 << 32) - 1
_SIGN = 1 << 31


@hot_loop
def wrap_address_32(value: int) -> int:
    """`value` reduced to an address."""
    return value & _MASK


@hot_loop
def wrap_value_32(value: int) -> int:
    """`value` reduced to a signed value of the generic type."""
    return ((value + _SIGN) & _MASK) - _SIGN


@hot_loop
def logical_shift_right_32(value: int, count: int) -> int:
    """DW_OP_shr."""
    if count < 0 or count > 31:
        return 0
    return wrap_value_32((value & _MASK) >> count)


@hot_loop
def shift_left_32(value: int, count: int) -> int:
    """DW_OP_shl."""
    if count < 0 or count > 31:
        return 0
    return wrap_value_32((value & _MASK) << count)


@hot_loop
def unsigned_modulo_32(left: int, right: int) -> int:
    """DW_OP_mod; the caller refuses a divisor of zero."""
    return wrap_value_32((left & _MASK) % (right & _MASK))
