"""Rust's structs, tuples, enumerations and strings as text, in the form of gdb: `Point {x: 1, y: 2}`, `Some(3)`.

An enumeration that holds data is a struct with a DW_TAG_variant_part: its discriminant, an integer or a pointer that is
never null in another variant, selects the DW_TAG_variant whose one member is the object (DWARF 5 §5.7.10).
"""

from __future__ import annotations

from unwind.arguments.character_text import Characters
from unwind.arguments.entry_type import size_of, stripped, type_of
from unwind.arguments.location import Contents
from unwind.arguments.printing import DEEPEST, Printing
from unwind.arguments.record import field_text, placed
from unwind.arguments.scalar_text import text_of_length
from unwind.arguments.static_member import is_static
from unwind.arguments.type_name import qualified_name
from unwind.arguments.typed_object import TypedObject
from unwind.arguments.unavailable import malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag


def rust_record_value(type_: Die, contents: Contents, printing: Printing, depth: int) -> str:
    """An object of a struct, tuple, union or enumeration of Rust. Raises Unavailable."""
    if depth >= DEEPEST:
        return "{...}"
    name = type_.get(At.NAME)
    if name == "&str":
        value = TypedObject(type_, contents)
        text = Characters(value.member("data_ptr").integer, value.member("length").integer, 1, "")
        shown = text_of_length(text, printing.state)
        printing.known += 1
        return shown
    for child in type_.children():
        if child.tag == Tag.VARIANT_PART:
            return _variant(child, contents, printing, depth)
    is_tuple = isinstance(name, str) and name.startswith("(")
    return _fields(type_, "" if is_tuple else qualified_name(type_), " ", contents, printing, depth)


def _variant(part: Die, contents: Contents, printing: Printing, depth: int) -> str:
    held = _selected(part, contents)
    type_ = stripped(type_of(held))
    if type_ is None:
        raise malformed("a variant of type void")
    return _fields(type_, qualified_name(type_), "", placed(held, contents), printing, depth)


def _selected(part: Die, contents: Contents) -> Die:
    """The member of the variant that the discriminant selects. Raises Unavailable."""
    discriminant = part.reference(At.DISCR)
    bits = mask = 0
    if discriminant is not None:
        size = size_of(type_of(discriminant))
        if not 0 < size <= 16:
            raise malformed("a discriminant of no such size")
        mask = (1 << 8 * size) - 1
        bits = placed(discriminant, contents).bits(8 * size)
    other: Die | None = None
    for variant in part.children():
        if variant.tag != Tag.VARIANT:
            continue
        if variant.has(At.DISCR_LIST):
            raise unsupported("a variant of several discriminants")
        value = variant.get(At.DISCR_VALUE)
        if value is None:
            other = variant
        elif isinstance(value, int) and value & mask == bits:
            return _member(variant)
    if other is None:
        raise malformed("no variant has this discriminant")
    return _member(other)


def _member(variant: Die) -> Die:
    for child in variant.children():
        if child.tag == Tag.MEMBER:
            return child
    raise malformed("a variant without a member")


def _fields(type_: Die, name: str, space: str, contents: Contents, printing: Printing, depth: int) -> str:
    parts: list[str] = []
    positional = not name
    for child in type_.children():
        if child.tag != Tag.MEMBER or is_static(child):
            continue
        if printing.full:
            parts.append("...")
            break
        label = str(child.inherited(At.NAME))
        positional = positional or label == "__0"
        text = field_text(child, contents, printing, depth)
        parts.append(text if positional else f"{label}: {text}")
    printing.known += not parts
    if not parts:
        return name or "()"
    opening, closing = "()" if positional else "{}"
    return f"{name}{space if name else ''}{opening}{', '.join(parts)}{closing}"
