"""Floating-point values in registers of the x87, which holds all of them in its extended format."""

from __future__ import annotations

from unwind.arguments import floating_point
from unwind.arguments.entry_type import encoding_of, size_of
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents, RegisterLocation
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import Encoding, Tag

_EXTENDED = 10
"""Bytes of st(0)-st(7)."""


def is_x87(state: FrameState, register: int) -> bool:
    """Whether a DWARF register is one of st(0)-st(7)."""
    return state.architecture.vector_names.get(register, "").startswith("st")


def float_in_register(state: FrameState, register: int, size: int) -> int:
    """The bits of a float of `size` bytes in a register of the x87, as in memory: gdb converts it, too.

    A long double has no padding here. Raises Unavailable.
    """
    bits = int.from_bytes(state.register_bytes(register), "little")
    if size >= _EXTENDED:
        return bits
    return floating_point.encode(floating_point.decode(bits, _EXTENDED), size)


def x87_bits(type_: Die, contents: Contents) -> int | None:
    """The bits of a floating-point object in a register of the x87; None of any other object. Raises Unavailable."""
    location = contents.location
    if type_.tag != Tag.BASE_TYPE or not isinstance(location, RegisterLocation) or contents.bit_offset:
        return None
    if encoding_of(type_) != Encoding.FLOAT or not is_x87(contents.state, location.number):
        return None
    return float_in_register(contents.state, location.number, size_of(type_))
