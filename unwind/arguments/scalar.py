"""A value without parts, of any type, as text in gdb's form."""

from __future__ import annotations

from unwind.arguments.location import Contents
from unwind.arguments.member_pointer import member_pointer_value
from unwind.arguments.printing import Printing
from unwind.arguments.scalar_text import base_value, enumeration_value, integer_bits, pointer_value
from unwind.arguments.unavailable import malformed, unsupported
from unwind.arguments.x87_register import x87_bits
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import Tag

_WIDEST = 8 * 64


def scalar_value(declared: Die, type_: Die, contents: Contents, width: int, printing: Printing) -> str:
    """An object of `width` bits, whose type is `declared` and under its names `type_`. Raises Unavailable."""
    if not 0 < width <= _WIDEST:
        raise malformed("a scalar of no such size")
    if contents.implicit_pointer is not None:
        return "<synthetic pointer>"
    if type_.tag == Tag.POINTER_TYPE:
        return pointer_value(type_, contents.bits(width), printing.state)
    if type_.tag == Tag.PTR_TO_MEMBER_TYPE:
        return member_pointer_value(declared, type_, contents.bits(width), printing.state)
    bits = x87_bits(type_, contents)
    if bits is None:
        bits = integer_bits(contents.bits(width), width)
    if type_.tag == Tag.BASE_TYPE:
        return base_value(declared, bits, width, printing.state.architecture.quad_long_double)
    if type_.tag == Tag.ENUMERATION_TYPE:
        return enumeration_value(type_, bits, width)
    if type_.tag == Tag.UNSPECIFIED_TYPE:
        # decltype(nullptr) is the one that C++ objects have.
        return f"{bits:#x}"
    raise unsupported(f"a value of DWARF type {type_.tag:#x}")
