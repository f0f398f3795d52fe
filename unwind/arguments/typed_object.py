"""An object with its type: reading members, pointers and base classes by name, as code that knows a library does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unwind.arguments.entry_type import CLASSES, complete, encoding_of, size_of, stripped, type_of
from unwind.arguments.location import Contents, MemoryLocation
from unwind.arguments.record import placed
from unwind.arguments.static_member import is_static
from unwind.arguments.typed_value import sign_extended
from unwind.arguments.unavailable import malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding, Tag

_DEEPEST = 16
_MOST_ARGUMENTS = 200


@dataclass(frozen=True, slots=True)
class TypedObject:
    """Contents and the type they have. Every method raises Unavailable for what is not there."""

    declared: Die
    contents: Contents

    @property
    def type(self) -> Die:
        """The type under its names and qualifiers."""
        type_ = stripped(self.declared)
        if type_ is None:
            raise malformed("an object of type void")
        return type_

    def member(self, *path: str) -> TypedObject:
        """A member by name, of the class or its bases; then a member of that, and so on."""
        found: TypedObject | None = self
        for name in path:
            found = found._own(name, 0) if found is not None else None
        if found is None:
            raise unsupported(f"a class without the member {'.'.join(path)}")
        return found

    def has(self, name: str) -> bool:
        """Whether the class or one of its bases has a member of this name."""
        return self.type.tag in CLASSES and self._own(name, 0) is not None

    def _own(self, name: str, depth: int) -> TypedObject | None:
        if depth > _DEEPEST:
            return None
        bases = []
        for child in self.type.children():
            if child.tag == Tag.MEMBER and child.get(At.NAME) == name and not is_static(child):
                return _part(child, self.contents)
            if child.tag == Tag.INHERITANCE and not child.get(At.VIRTUALITY):
                bases.append(child)
        for base in bases:
            found = _part(base, self.contents)._own(name, depth + 1)
            if found is not None:
                return found
        return None

    def bases(self) -> Iterator[TypedObject]:
        """The parts of the object that are its base classes, in order."""
        for child in self.type.children():
            if child.tag == Tag.INHERITANCE:
                yield _part(child, self.contents)

    def members(self) -> Iterator[TypedObject]:
        """The members that are not static, in order."""
        for child in self.type.children():
            if child.tag == Tag.MEMBER and not is_static(child):
                yield _part(child, self.contents)

    @property
    def integer(self) -> int:
        """The value of an integer, enumeration or pointer."""
        size = size_of(self.type)
        if self.type.tag not in (Tag.BASE_TYPE, Tag.POINTER_TYPE, Tag.ENUMERATION_TYPE) or size > 8:
            raise unsupported("another type than an integer here")
        bits = self.contents.bits(8 * size)
        signed = encoding_of(self.type) in (Encoding.SIGNED, Encoding.SIGNED_CHAR)
        return sign_extended(bits, 8 * size) if signed else bits

    @property
    def target_type(self) -> Die:
        """What a pointer points to."""
        target = type_of(self.type) if self.type.tag == Tag.POINTER_TYPE else None
        if target is None:
            raise unsupported("another type than a pointer here")
        return target

    def pointed(self) -> TypedObject:
        """The object that a pointer points to."""
        return self.at(self.integer, self.target_type)

    def at(self, address: int, type_: Die) -> TypedObject:
        """An object in memory."""
        return TypedObject(type_, Contents(MemoryLocation(address & 0xFFFF_FFFF_FFFF_FFFF), self.contents.state))

    def template_argument(self, index: int) -> Die:
        """A type argument of the class template."""
        arguments = template_arguments(self.type)
        if index >= len(arguments) or arguments[index] is None:
            raise unsupported("a template whose arguments are not described")
        found = arguments[index]
        assert found is not None
        return found


def _part(member: Die, contents: Contents) -> TypedObject:
    type_ = complete(type_of(member))
    if type_ is None:
        raise malformed("a member of type void")
    return TypedObject(type_, placed(member, contents))


def template_arguments(type_: Die) -> list[Die | None]:
    """The arguments of a class template; None for those that are no types. A pack is its elements."""
    found: list[Die | None] = []
    for child in type_.children():
        if child.tag == Tag.GNU_TEMPLATE_PARAMETER_PACK:
            found += [type_of(each) for each in child.children() if each.tag == Tag.TEMPLATE_TYPE_PARAMETER]
        elif child.tag == Tag.TEMPLATE_TYPE_PARAMETER:
            found.append(type_of(child))
        elif child.tag == Tag.TEMPLATE_VALUE_PARAMETER:
            found.append(None)
        if len(found) > _MOST_ARGUMENTS:
            raise malformed("a template of too many arguments")
    return found
