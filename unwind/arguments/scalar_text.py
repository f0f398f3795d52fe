"""Scalars in the form that gdb prints them: numbers, characters, bools, enumerators, pointers and floats."""

from __future__ import annotations

from unwind.arguments import floating_point
from unwind.arguments.character_text import ELEMENT_LIMIT, Characters, character, string
from unwind.arguments.entry_type import (
    character_prefix,
    encoding_of,
    is_cplusplus,
    is_rust,
    size_of,
    stripped,
    type_of,
)
from unwind.arguments.frame_state import FrameState
from unwind.arguments.type_name import owner_of, qualified_name
from unwind.arguments.typed_value import sign_extended
from unwind.arguments.unavailable import Reason, Unavailable, malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding, Tag

_QUAD_NAMES = ("_Float128", "__float128")
_QUAD_SIZE = 16


def base_value(declared: Die, bits: int, width: int, quad_long_double: bool = False) -> str:
    """A DW_TAG_base_type (`declared` may be a typedef of it) of `width` bits, which a bit-field makes
    fewer. `quad_long_double`: one of 16 bytes is of quadruple precision on this architecture.
    """
    type_ = stripped(declared)
    if type_ is None:
        raise malformed("an object of type void")
    encoding = encoding_of(type_)
    size = size_of(type_)
    if encoding == Encoding.FLOAT:
        quad = type_.get(At.NAME) in _QUAD_NAMES or (quad_long_double and size == _QUAD_SIZE)
        return floating_point.formatted(bits, size, floating_point.QUAD if quad else None)
    if encoding == Encoding.COMPLEX_FLOAT:
        half = 4 * size
        layout = floating_point.QUAD if quad_long_double and size == 2 * _QUAD_SIZE else None
        parts = (bits & ((1 << half) - 1), bits >> half)
        real, imaginary = (floating_point.formatted(part, size // 2, layout) for part in parts)
        return f"{real} + {imaginary}i"
    signed = sign_extended(bits, width)
    if encoding == Encoding.BOOLEAN:
        return {0: "false", 1: "true"}.get(bits) or str(bits)
    prefix = character_prefix(declared)
    if prefix is not None:
        prefix = "" if is_rust(type_) else prefix
        number = signed if encoding in (Encoding.SIGNED, Encoding.SIGNED_CHAR) else bits
        return f"{number} {character(signed & ((1 << 8 * size) - 1) if number < 0 else bits, size, prefix)}"
    if encoding == Encoding.SIGNED:
        return str(signed)
    if encoding in (Encoding.UNSIGNED, Encoding.ADDRESS):
        return str(bits)
    raise unsupported(f"the base type encoding {encoding:#x}")


def enumeration_value(type_: Die, bits: int, width: int) -> str:
    """An enumerator's name, `(A | B)` of flags, or the number that no enumerator has."""
    members = [
        (child, value & ((1 << width) - 1))
        for child in type_.children()
        if child.tag == Tag.ENUMERATOR and isinstance(value := child.get(At.CONST_VALUE), int)
    ]
    for child, value in members:
        if value == bits:
            return _enumerator_name(type_, child)
    # Flags are single bits (and perhaps zero), none negative: as gdb tells them from other enumerations.
    values = [child.get(At.CONST_VALUE) for child, _ in members]
    if members and all(isinstance(v, int) and v >= 0 and v.bit_count() <= 1 for v in values):
        return _flags(type_, members, bits)
    signed = _is_signed(type_, values)
    return str(sign_extended(bits, width) if signed else bits)


def _is_signed(type_: Die, values: list[int | bool | str | bytes | None]) -> bool:
    underlying = stripped(type_of(type_))
    if underlying is not None:
        return encoding_of(underlying) in (Encoding.SIGNED, Encoding.SIGNED_CHAR)
    return any(isinstance(value, int) and value < 0 for value in values)


def _flags(type_: Die, members: list[tuple[Die, int]], bits: int) -> str:
    names, left = [], bits
    for child, value in members:
        if left & value:
            names.append(_enumerator_name(type_, child))
            left &= ~value
    if left:
        names.append(f"unknown: {left:#x}")
    return f"({' | '.join(names)})" if names else "0"


def _enumerator_name(type_: Die, member: Die) -> str:
    name = member.get(At.NAME)
    if not isinstance(name, str):
        return "?"
    if is_rust(type_):
        return f"{qualified_name(type_)}::{name}"
    if not is_cplusplus(type_):
        return name
    # A scoped enumeration is a scope of its own; the names of others belong to what holds them.
    scope = type_ if type_.get(At.ENUM_CLASS) else owner_of(type_)
    if scope is None or scope.tag not in (
        Tag.NAMESPACE, Tag.ENUMERATION_TYPE, Tag.STRUCTURE_TYPE, Tag.CLASS_TYPE, Tag.UNION_TYPE,
    ):  # fmt: skip
        return name
    return f"{qualified_name(scope)}::{name}"


def pointer_value(type_: Die, address: int, state: FrameState) -> str:
    """`0x…`, with the symbol that it points to, and the text for pointers to characters."""
    declared = type_of(type_)
    target = stripped(declared)
    text = f"{address:#x}"
    if address == 0:
        return text
    symbol = state.symbol(address)
    if symbol is not None:
        text += f" <{symbol}>"
    prefix = character_prefix(declared) if target is not None else None
    if target is None or prefix is None:
        return text
    return f"{text} {_text_at(address, size_of(target), prefix, state)}"


def _text_at(address: int, width: int, prefix: str, state: FrameState) -> str:
    """The string at an address up to its terminator, the limit, or the end of what was captured."""
    data = _readable(address, (ELEMENT_LIMIT + 1) * width, state)
    terminator = bytes(width)
    for at in range(0, len(data) - width + 1, width):
        if data[at : at + width] == terminator:
            return string(data[:at], width, prefix)
    whole = len(data) // width * width
    if len(data) == (ELEMENT_LIMIT + 1) * width:
        return string(data[: ELEMENT_LIMIT * width], width, prefix, cut=True)
    missing = f"<memory at {address + whole:#x} not captured>"
    return f"{string(data[:whole], width, prefix, cut=True)} {missing}" if whole else missing


def text_of_length(text: Characters, state: FrameState) -> str:
    """A text whose length is known: as much of it as gdb shows. Raises Unavailable when none of it is there."""
    shown = min(text.length, ELEMENT_LIMIT)
    data = _readable(text.address, shown * text.width, state)
    whole = len(data) // text.width * text.width
    if whole < shown * text.width:
        missing = f"memory at {text.address + whole:#x} not captured"
        if not whole:
            raise Unavailable(Reason.MEMORY, missing)
        return f"{string(data[:whole], text.width, text.prefix, cut=True)} <{missing}>"
    return string(data, text.width, text.prefix, cut=text.length > shown)


def _readable(address: int, size: int, state: FrameState) -> bytes:
    """What can be read of `[address, address + size)` from its start on."""
    size = min(size, (1 << 64) - address)
    data = bytes(state.read(address, size)[:size])
    # A reader may refuse a range whose end is missing: page by page gives the part that is there.
    while len(data) < size:
        at = address + len(data)
        more = bytes(state.read(at, min(size - len(data), 4096 - at % 4096)))[: size - len(data)]
        if not more:
            break
        data += more
    return data


def integer_bits(data: int, width: int) -> int:
    """`data` reduced to `width` bits."""
    if width <= 0:
        raise Unavailable(Reason.MALFORMED, "damaged debug information: an object of no bits")
    return data & ((1 << width) - 1)
