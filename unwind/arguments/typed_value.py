"""Values on the DWARF expression stack and their arithmetic (DWARF 5 §2.5.1).

A value is a bit pattern and its type. The *generic type* has the size of an address, wraps, and has no
signedness of its own: each operation says how it takes it (§2.5.1.4: div, shra and comparisons are signed,
mod and shr unsigned). Base types come from const_type, regval_type, deref_type, convert and reinterpret
(§2.5.1.6).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from unwind.arguments import floating_point
from unwind.arguments.unavailable import malformed, unsupported
from unwind.dwarf.enumeration import Encoding, Op

_SIGNED = (Encoding.SIGNED, Encoding.SIGNED_CHAR)


@dataclass(frozen=True, slots=True)
class BaseType:
    """What of a DW_TAG_base_type counts in arithmetic."""

    size: int
    """Bytes."""
    encoding: int
    """DW_ATE."""

    @property
    def is_float(self) -> bool:
        """An IEEE (or x87) binary floating-point type."""
        return self.encoding == Encoding.FLOAT


GENERIC_32 = BaseType(4, 0)
"""The generic type where addresses have 4 bytes; no base type has this encoding."""


@dataclass(frozen=True, slots=True)
class TypedValue:
    """`bits` as an unsigned integer; `type` None is the generic type of 8 bytes, GENERIC_32 that of 4."""

    bits: int
    type: BaseType | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.type.size if self.type else 8

    @property
    def is_generic(self) -> bool:
        """Of the generic type."""
        return self.type is None or self.type is GENERIC_32

    @property
    def unsigned(self) -> int:
        """The pattern as an unsigned integer."""
        return self.bits

    @property
    def signed(self) -> int:
        """The pattern as a two's complement integer."""
        return sign_extended(self.bits, 8 * self.size)

    @property
    def integer(self) -> int:
        """The integer that the type says; the generic type is taken as signed, as gdb does."""
        if self.is_generic or (self.type is not None and self.type.encoding in _SIGNED):
            return self.signed
        return self.unsigned


def sign_extended(bits: int, width: int) -> int:
    """`width` low bits as a two's complement integer; 0 for no bits."""
    if width <= 0:
        return 0
    bits &= (1 << width) - 1
    return bits - (1 << width) if bits >> (width - 1) else bits


def typed(value: int, type_: BaseType | None = None) -> TypedValue:
    """An integer reduced to the type's size."""
    size = type_.size if type_ else 8
    return TypedValue(value & ((1 << 8 * size) - 1), type_)


def _truncated_quotient(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


_BITWISE: dict[int, Callable[[int, int], int]] = {
    Op.AND: operator.and_,
    Op.OR: operator.or_,
    Op.XOR: operator.xor,
}
_RING: dict[int, Callable[[Any, Any], Any]] = {
    Op.PLUS: operator.add,
    Op.MINUS: operator.sub,
    Op.MUL: operator.mul,
}
_COMPARISONS: dict[int, Callable[[Any, Any], bool]] = {
    Op.EQ: operator.eq,
    Op.GE: operator.ge,
    Op.GT: operator.gt,
    Op.LE: operator.le,
    Op.LT: operator.lt,
    Op.NE: operator.ne,
}
_SHIFTS = (Op.SHL, Op.SHR, Op.SHRA)
BINARY_OPERATIONS = frozenset({*_BITWISE, *_RING, *_COMPARISONS, *_SHIFTS, Op.DIV, Op.MOD})


def binary(op: int, first: TypedValue, second: TypedValue) -> TypedValue:
    """`first op second`, where `second` was the top of the stack. Raises Unavailable."""
    if op in _SHIFTS:
        return _shifted(op, first, second)
    if first.type != second.type:
        raise malformed("an operation on values of different types")
    if first.type is not None and first.type.is_float:
        return _float_binary(op, first, second, first.type)
    if op in _COMPARISONS:
        return typed(int(_COMPARISONS[op](first.integer, second.integer)))
    if op in _BITWISE:
        return typed(_BITWISE[op](first.bits, second.bits), first.type)
    if op in _RING:
        return typed(_RING[op](first.integer, second.integer), first.type)
    if second.bits == 0:
        raise malformed("a division by zero in an expression")
    if op == Op.DIV:
        return typed(_truncated_quotient(first.integer, second.integer), first.type)
    # Of the generic type, mod alone is unsigned (DWARF 5 §2.5.1.4).
    a, b = (first.bits, second.bits) if first.is_generic else (first.integer, second.integer)
    return typed(a - b * _truncated_quotient(a, b), first.type)


def _shifted(op: int, first: TypedValue, second: TypedValue) -> TypedValue:
    if (first.type and first.type.is_float) or (second.type and second.type.is_float):
        raise malformed("a shift of a floating-point value")
    width = 8 * first.size
    # A count that is negative as a signed number is a huge one: everything is shifted out.
    count = min(second.bits, width)
    if op == Op.SHL:
        return typed(first.bits << count, first.type)
    if op == Op.SHR:
        return typed(first.bits >> count, first.type)
    return typed(first.signed >> count, first.type)


def _float_binary(op: int, first: TypedValue, second: TypedValue, type_: BaseType) -> TypedValue:
    a, b = (floating_point.decode(v.bits, v.size) for v in (first, second))
    if op in _COMPARISONS:
        return typed(int(_COMPARISONS[op](a, b)))
    if floating_point.format_of(type_.size).precision > 53:
        a, b = _exact(a), _exact(b)
    if op in _RING:
        return TypedValue(floating_point.encode(_RING[op](a, b), type_.size), type_)
    if op == Op.DIV:
        if b == 0:
            raise unsupported("a floating-point division by zero in an expression")
        return TypedValue(floating_point.encode(a / b, type_.size), type_)
    raise malformed("a bit operation on a floating-point value")


def _exact(number: floating_point.Number) -> Fraction:
    if isinstance(number, float) and (not math.isfinite(number) or str(number) == "-0.0"):
        raise unsupported("arithmetic on a long double infinity, NaN or negative zero")
    return Fraction(number)


def unary(op: int, value: TypedValue) -> TypedValue:
    """DW_OP_abs, neg or not. Raises Unavailable."""
    type_ = value.type
    if type_ is not None and type_.is_float:
        sign = 1 << floating_point.sign_bit(type_.size)
        if op == Op.NEG:
            return TypedValue(value.bits ^ sign, type_)
        if op == Op.ABS:
            return TypedValue(value.bits & ~sign, type_)
        raise malformed("a bit operation on a floating-point value")
    if op == Op.NOT:
        return typed(~value.bits, type_)
    if op == Op.NEG:
        return typed(-value.bits, type_)
    return typed(abs(value.integer), type_)


def converted(value: TypedValue, target: BaseType | None) -> TypedValue:
    """DW_OP_convert: the same number in another type, truncated towards zero or wrapped. Raises
    Unavailable.
    """
    source_float = value.type is not None and value.type.is_float
    if target is not None and target.is_float:
        if source_float and value.type is not None:
            if value.type.size == target.size:
                return TypedValue(value.bits, target)
            number = floating_point.decode(value.bits, value.size)
        else:
            number = Fraction(value.integer)
        return TypedValue(floating_point.encode(number, target.size), target)
    if source_float:
        number = floating_point.decode(value.bits, value.size)
        if isinstance(number, float) and not math.isfinite(number):
            raise unsupported("a conversion of a floating-point infinity or NaN to an integer")
        return typed(math.trunc(number), target)
    return typed(value.integer, target)


def reinterpreted(value: TypedValue, target: BaseType | None) -> TypedValue:
    """DW_OP_reinterpret: the same bits as another type of the same size. Raises Unavailable."""
    if (target.size if target else 8) != value.size:
        raise malformed("DW_OP_reinterpret between types of different sizes")
    return TypedValue(value.bits, target)
