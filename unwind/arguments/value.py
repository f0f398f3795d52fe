"""Values of any C and C++ type as text, in the form of gdb's `info args` (print pretty off, print address
on).

Takes a type entry and the Contents at the object's location. Structs, unions, classes and arrays are built
here
from their members; `scalar_text` prints what has no members. A member that is not known shows its cause in
angle brackets; only when nothing of the object is known is the whole unavailable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unwind.arguments.character_text import ELEMENT_LIMIT, REPEAT_THRESHOLD, string
from unwind.arguments.entry_type import (
    CLASSES,
    REFERENCES,
    array_bounds,
    character_prefix,
    size_of,
    stripped,
    type_of,
)
from unwind.arguments.expression import evaluate
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents, ImplicitPointerLocation, MemoryLocation, ValueLocation
from unwind.arguments.member_pointer import member_pointer_value
from unwind.arguments.scalar_text import base_value, enumeration_value, integer_bits, pointer_value
from unwind.arguments.type_name import qualified_name
from unwind.arguments.unavailable import Reason, Unavailable, damage_as_unavailable, malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag

# gdb's default of `print max-depth`.
_DEEPEST = 20
_MOST_ELEMENTS_COMPARED = 1 << 16
_MOST_LEAVES = 4_000


@dataclass(slots=True)
class _Printing:
    """What one outermost value has met so far."""

    state: FrameState
    known: int = 0
    leaves: int = 0
    first_failure: Unavailable | None = None
    virtual_bases: set[Die] = field(default_factory=set)


def format_value(type_: Die | None, contents: Contents) -> str:
    """The text of the object of type `type_`. Raises Unavailable when none of it is known."""
    printing = _Printing(contents.state)
    with damage_as_unavailable():
        text = _value(type_, contents, printing, 0)
    if printing.first_failure is not None and not printing.known:
        raise printing.first_failure
    return text


def _member(type_: Die | None, contents: Contents, printing: _Printing, depth: int) -> str:
    """A part of an object: a failure is shown and remembered, the other parts go on."""
    try:
        with damage_as_unavailable():
            return _value(type_, contents, printing, depth)
    except Unavailable as why:
        printing.first_failure = printing.first_failure or why
        return f"<{why}>"


def _value(declared: Die | None, contents: Contents, printing: _Printing, depth: int) -> str:
    type_ = stripped(declared)
    if declared is None or type_ is None:
        raise malformed("an object of type void")
    printing.leaves += 1
    if printing.leaves > _MOST_LEAVES:
        return "..."
    if type_.tag in CLASSES:
        return _class(type_, contents, printing, depth)
    if type_.tag == Tag.ARRAY_TYPE:
        return _array(type_, contents, printing, depth)
    if type_.tag in REFERENCES:
        return _reference(type_, contents, printing, depth)
    text = _scalar(declared, type_, contents, 8 * size_of(type_), printing)
    printing.known += 1
    return text


def _scalar(declared: Die, type_: Die, contents: Contents, width: int, printing: _Printing) -> str:
    if type_.tag == Tag.POINTER_TYPE:
        if contents.implicit_pointer is not None:
            return "<synthetic pointer>"
        return pointer_value(type_, contents.bits(width), printing.state)
    if type_.tag == Tag.PTR_TO_MEMBER_TYPE:
        return member_pointer_value(declared, type_, contents.bits(width), printing.state)
    bits = integer_bits(contents.bits(width), width)
    if type_.tag == Tag.BASE_TYPE:
        return base_value(declared, bits, width)
    if type_.tag == Tag.ENUMERATION_TYPE:
        return enumeration_value(type_, bits, width)
    if type_.tag == Tag.UNSPECIFIED_TYPE:
        # decltype(nullptr) is the one that C++ objects have.
        return f"{bits:#x}"
    raise unsupported(f"a value of DWARF type {type_.tag:#x}")


def _reference(type_: Die, contents: Contents, printing: _Printing, depth: int) -> str:
    target = type_of(type_)
    implicit = contents.implicit_pointer
    if implicit is not None:
        referred = _implicit_target(implicit, printing.state)
        return f"<synthetic pointer>: {_member(target, referred, printing, depth)}"
    address = contents.bits(64)
    printing.known += 1
    try:
        text = format_value(target, Contents(MemoryLocation(address), printing.state))
    except Unavailable as why:
        text = f"<{why}>"
    return f"@{address:#x}: {text}"


def _implicit_target(pointer: ImplicitPointerLocation, state: FrameState) -> Contents:
    """The contents of the object that a pointer which was optimized away would point to."""
    target = pointer.target
    expression = target.locations(At.LOCATION, state.pc)
    if expression is not None:
        location = evaluate(expression, state, target.unit)
        return Contents(location, state, 8 * pointer.offset)
    constant = target.inherited(At.CONST_VALUE)
    if constant is None:
        raise Unavailable(Reason.OPTIMIZED_OUT)
    data = constant_data(constant, size_of(type_of(target)))
    return Contents(ValueLocation(data), state, 8 * pointer.offset)


def constant_data(constant: int | str | bytes, size: int) -> bytes:
    """The bytes of an object of `size` bytes that DW_AT_const_value gives. Raises Unavailable."""
    if isinstance(constant, str):
        data = constant.encode("utf-8", "surrogateescape") + b"\0"
    elif isinstance(constant, bytes):
        data = constant
    else:
        return (int(constant) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if len(data) < size:
        raise malformed("a constant is smaller than its type")
    return data[:size]


def _class(type_: Die, contents: Contents, printing: _Printing, depth: int) -> str:
    if type_.get(At.DECLARATION):
        printing.first_failure = printing.first_failure or Unavailable(
            Reason.UNSUPPORTED, "the type is declared, not defined, here"
        )
        return "<incomplete type>"
    if depth >= _DEEPEST:
        return "{...}"
    bases: list[str] = []
    members: list[str] = []
    for child in type_.children():
        if child.tag == Tag.INHERITANCE:
            text = _base(child, contents, printing, depth)
            if text is not None:
                bases.append(text)
        elif child.tag == Tag.MEMBER and not _is_static(child):
            name = child.get(At.NAME)
            text = _field(child, contents, printing, depth)
            members.append(f"{name} = {text}" if isinstance(name, str) and name else text)
    if not members:
        # As gdb has it: the bases' members do not count.
        members.append("<No data fields>")
        printing.known += not bases
    return "{" + ", ".join(bases + members) + "}"


def _is_static(member: Die) -> bool:
    """A static member: a DW_TAG_member that is only declared (DWARF 2-4), or has no place in the object."""
    return bool(member.get(At.EXTERNAL)) or bool(member.get(At.DECLARATION))


def _base(inheritance: Die, contents: Contents, printing: _Printing, depth: int) -> str | None:
    base = stripped(type_of(inheritance))
    if base is None:
        return None
    if inheritance.get(At.VIRTUALITY):
        # One virtual base serves every class that names it; it is shown with the first.
        if base in printing.virtual_bases:
            return None
        printing.virtual_bases.add(base)
    name = qualified_name(base)
    try:
        part = _placed(inheritance, contents)
    except Unavailable as why:
        printing.first_failure = printing.first_failure or why
        return f"<{name}> = <{why}>"
    return f"<{name}> = {_member(base, part, printing, depth + 1)}"


def _placed(member: Die, contents: Contents) -> Contents:
    """The contents from a member's first byte on (DWARF 5 §5.7.3, §5.7.6)."""
    where = member.get(At.DATA_MEMBER_LOCATION)
    if where is None:
        return contents
    if isinstance(where, int):
        return contents.part(8 * where)
    if not isinstance(where, bytes):
        raise malformed("a member without a place")
    # DWARF 2 writes a constant as an expression on the object's address; a virtual base needs the real one.
    address = contents.address
    origin = 0 if address is None else address
    location = evaluate(where, contents.state, member.unit, (origin,), address)
    if not isinstance(location, MemoryLocation) or (address is None and where[:1] != b"\x23"):
        raise unsupported("a base class whose place depends on an object that is not in memory")
    return contents.part(8 * (location.address - origin))


def _field(member: Die, contents: Contents, printing: _Printing, depth: int) -> str:
    type_ = type_of(member)
    try:
        width = member.get(At.BIT_SIZE)
        if not isinstance(width, int):
            return _member(type_, _placed(member, contents), printing, depth + 1)
        bare = stripped(type_)
        if type_ is None or bare is None:
            raise malformed("a bit-field of type void")
        text = _scalar(type_, bare, _bit_field(member, contents, width, size_of(bare)), width, printing)
    except Unavailable as why:
        printing.first_failure = printing.first_failure or why
        return f"<{why}>"
    printing.known += 1
    return text


def _bit_field(member: Die, contents: Contents, width: int, type_size: int) -> Contents:
    data_bit_offset = member.get(At.DATA_BIT_OFFSET)
    if isinstance(data_bit_offset, int):
        return contents.part(data_bit_offset)
    placed = _placed(member, contents)
    bit_offset = member.get(At.BIT_OFFSET)
    if not isinstance(bit_offset, int):
        return placed
    # DWARF 2-3 count from the most significant bit of a storage unit (DWARF 3 §5.6.6).
    size = member.get(At.BYTE_SIZE)
    storage = size if isinstance(size, int) else type_size
    return placed.part(8 * storage - bit_offset - width)


def _array(type_: Die, contents: Contents, printing: _Printing, depth: int) -> str:
    bounds = array_bounds(type_)
    element = type_of(type_)
    if None in bounds or not bounds:
        # The size of a flexible array member is nowhere; gdb shows it as an empty array.
        if bounds in ([], [None]) and depth:
            return "0x0" if contents.address is None else f"{contents.address:#x}"
        raise unsupported("an array of variable length")
    return _dimension(element, [bound or 0 for bound in bounds], contents, printing, depth)


def _dimension(element: Die | None, bounds: list[int], contents: Contents, printing: _Printing, depth: int) -> str:
    length, inner = bounds[0], bounds[1:]
    stride = size_of(element)
    for bound in inner:
        stride *= bound
    if not inner:
        prefix = character_prefix(element)
        if prefix is not None and stride in (1, 2, 4) and length:
            return _character_array(contents, length, stride, prefix, printing)
    if depth >= _DEEPEST:
        return "{...}"
    parts: list[str] = []
    index = shown = 0
    while index < length and shown < ELEMENT_LIMIT:
        part = contents.part(8 * stride * index)
        text = (
            _dimension(element, inner, part, printing, depth + 1)
            if inner
            else _member(element, part, printing, depth + 1)
        )
        count = _equal_elements(contents, index, length, stride)
        if count > REPEAT_THRESHOLD:
            parts.append(f"{text} <repeats {count} times>")
            index += count
            shown += REPEAT_THRESHOLD
        else:
            parts.append(text)
            index += 1
            shown += 1
    printing.known += not length
    return "{" + ", ".join(parts) + ("..." if index < length else "") + "}"


def _equal_elements(contents: Contents, index: int, length: int, stride: int) -> int:
    """How many elements from `index` on have the same bytes; 1 when they cannot be read."""
    try:
        first = contents.part(8 * stride * index).data(stride)
        count = 1
        while index + count < length and count < _MOST_ELEMENTS_COMPARED:
            if contents.part(8 * stride * (index + count)).data(stride) != first:
                break
            count += 1
    except Unavailable:
        return 1
    return count


def _character_array(contents: Contents, length: int, width: int, prefix: str, printing: _Printing) -> str:
    data = contents.data(min(length, _MOST_ELEMENTS_COMPARED) * width)
    printing.known += 1
    # One terminator is not shown.
    if len(data) == length * width and data[-width:] == bytes(width):
        data = data[:-width]
    return string(data, width, prefix, cut=length > _MOST_ELEMENTS_COMPARED)
