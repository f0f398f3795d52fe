"""Floating-point objects in registers of the x87, which holds all of them in its extended format."""

from __future__ import annotations

from unwind.arguments import floating_point
from unwind.arguments.entry_type import encoding_of, size_of
from unwind.arguments.location import Contents, RegisterLocation
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import Encoding, Tag

_EXTENDED = 10
"""Bytes of st(0)-st(7)."""


def x87_bits(type_: Die, contents: Contents) -> int | None:
    """The bits of an object of a floating-point type as in memory; None where it is in no register of the x87.

    As gdb does: what the register holds in the type's own format, a long double without its padding. Raises
    Unavailable.
    """
    location = contents.location
    if type_.tag != Tag.BASE_TYPE or not isinstance(location, RegisterLocation) or contents.bit_offset:
        return None
    if not contents.state.architecture.vector_names.get(location.number, "").startswith("st"):
        return None
    size = size_of(type_)
    if encoding_of(type_) != Encoding.FLOAT:
        return None
    bits = contents.bits(8 * _EXTENDED)
    if size >= _EXTENDED:
        return bits
    return floating_point.encode(floating_point.decode(bits, _EXTENDED), size)
