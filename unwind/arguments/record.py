"""Structs, unions and classes as text, in the form of gdb: bases first, then members in their declared order.

Static members are shown like gdb's default, `static count = 3`.
"""

from __future__ import annotations

from unwind.arguments.entry_type import size_of, stripped, type_of
from unwind.arguments.expression import evaluate
from unwind.arguments.location import Contents, MemoryLocation
from unwind.arguments.printing import DEEPEST, Printing
from unwind.arguments.scalar import scalar_value
from unwind.arguments.static_member import is_static, static_contents
from unwind.arguments.type_name import qualified_name
from unwind.arguments.unavailable import Reason, Unavailable, malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Op, Tag

_MEMBERS = (Tag.MEMBER, Tag.VARIABLE)
_RECORDS = (Tag.STRUCTURE_TYPE, Tag.CLASS_TYPE)


def record_value(type_: Die, contents: Contents, printing: Printing, depth: int) -> str:
    """An object of a DW_TAG_structure_type, class_type or union_type."""
    if type_.get(At.DECLARATION):
        printing.failed(Unavailable(Reason.UNSUPPORTED, "the type is declared, not defined, here"))
        return "<incomplete type>"
    if depth >= DEEPEST:
        return "{...}"
    bases: list[str] = []
    members: list[str] = []
    for child in type_.children():
        if printing.full:
            members.append("...")
            break
        if child.tag == Tag.INHERITANCE:
            text = _base(child, contents, printing, depth)
            if text is not None:
                bases.append(text)
        elif child.tag in _MEMBERS:
            name = child.get(At.NAME)
            static = is_static(child)
            text = _static(child, printing, depth) if static else field_text(child, contents, printing, depth)
            label = f"{'static ' if static else ''}{name} = " if isinstance(name, str) and name else ""
            members.append(label + text)
    if not members:
        # As gdb has it: the bases' members do not count.
        members.append("<No data fields>")
        printing.known += not bases
    return "{" + ", ".join(bases + members) + "}"


def _static(member: Die, printing: Printing, depth: int) -> str:
    """A static member. It does not tell anything of the object."""
    type_ = stripped(type_of(member))
    known = printing.known
    try:
        if type_ is not None and type_.tag in _RECORDS:
            if member in printing.static_members:
                return "<same as static member of an already seen type>"
            printing.static_members.add(member)
        text = printing.value(type_of(member), static_contents(member, printing.state), printing, depth + 1)
    except Unavailable as why:
        text = f"<{why}>"
    printing.known = known
    return text


def _base(inheritance: Die, contents: Contents, printing: Printing, depth: int) -> str | None:
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
        part = placed(inheritance, contents)
    except Unavailable as why:
        return f"<{name}> = {printing.failed(why)}"
    return f"<{name}> = {printing.part(base, part, depth + 1)}"


def placed(member: Die, contents: Contents) -> Contents:
    """The contents from a member's or base's first byte on (DWARF 5 §5.7.3, §5.7.6). Raises Unavailable."""
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
    if not isinstance(location, MemoryLocation) or (address is None and where[:1] != bytes((Op.PLUS_UCONST,))):
        raise unsupported("a base class whose place depends on an object that is not in memory")
    return contents.part(8 * (location.address - origin))


def field_text(member: Die, contents: Contents, printing: Printing, depth: int) -> str:
    """The text of a member that each object has, at `depth` of the object."""
    type_ = type_of(member)
    try:
        width = member.get(At.BIT_SIZE)
        if not isinstance(width, int):
            return printing.part(type_, placed(member, contents), depth + 1)
        bare = stripped(type_)
        if type_ is None or bare is None:
            raise malformed("a bit-field of type void")
        text = scalar_value(type_, bare, _bit_field(member, contents, width, size_of(bare)), width, printing)
    except Unavailable as why:
        return printing.failed(why)
    printing.known += 1
    return text


def _bit_field(member: Die, contents: Contents, width: int, type_size: int) -> Contents:
    if not 0 < width <= 8 * type_size:
        raise malformed("a bit-field is larger than its type")
    data_bit_offset = member.get(At.DATA_BIT_OFFSET)
    if isinstance(data_bit_offset, int):
        return contents.part(data_bit_offset)
    in_storage = placed(member, contents)
    bit_offset = member.get(At.BIT_OFFSET)
    if not isinstance(bit_offset, int):
        return in_storage
    # DWARF 2-3 count from the most significant bit of a storage unit (DWARF 3 §5.6.6).
    size = member.get(At.BYTE_SIZE)
    storage = size if isinstance(size, int) else type_size
    return in_storage.part(8 * storage - bit_offset - width)
