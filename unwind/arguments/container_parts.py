"""What is told of a container: a title, and its elements as they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from unwind.arguments.character_text import Characters
from unwind.arguments.type_name import type_name
from unwind.arguments.typed_object import TypedObject
from unwind.arguments.unavailable import malformed
from unwind.dwarf.die import Die

MOST_ELEMENTS = 1 << 48
"""A container of more elements than memory has bytes was not made yet, or is destroyed."""

Child: TypeAlias = "tuple[str, TypedObject | str]"
"""A label, and an object or the text that it is."""


@dataclass(frozen=True, slots=True)
class Container:
    """How a container is shown. Reading `children` may raise Unavailable."""

    title: str
    children: Iterator[Child] = field(default_factory=lambda: iter(()))
    is_array: bool = False
    """Elements stand without labels."""
    is_map: bool = False
    """Elements are a key and a value in turn."""
    characters: Characters | None = None
    """Set for texts, which have nothing else."""


_STRINGS = (
    ("char", "string"), ("wchar_t", "wstring"), ("char16_t", "u16string"), ("char32_t", "u32string"),
    ("char8_t", "u8string"),
)  # fmt: skip
_STRING = re.compile(
    r"std::(?:__cxx11::)?basic_(string|string_view)<(\w+), std::char_traits<\2 ?>(?:, std::allocator<\2 ?> ?)? ?>"
)


def short_type_name(type_: Die | None) -> str:
    """A type's name in a title, with `std::string` for what it is short for."""

    def short(match: re.Match[str]) -> str:
        name = dict(_STRINGS).get(match[2])
        return match[0] if name is None else f"std::{name}{match[1].removeprefix('string')}"

    return _STRING.sub(short, type_name(type_))


def counted(title: str, count: int) -> str:
    """`std::map with 2 elements`."""
    return f"{title} with {checked(count)} element{'' if count == 1 else 's'}"


def checked(count: int) -> int:
    """A number of elements. Raises Unavailable when it cannot be one."""
    if not 0 <= count <= MOST_ELEMENTS:
        raise malformed("a container that is not in a valid state")
    return count


def numbered(objects: Iterator[TypedObject], first: int = 0) -> Iterator[Child]:
    """Objects under the labels `[0]`, `[1]`, …"""
    for at, each in enumerate(objects, first):
        yield f"[{at}]", each
