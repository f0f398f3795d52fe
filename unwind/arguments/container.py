"""Containers of the C++ standard library as text, by their elements: `std::vector of length 2, capacity 4 = {1, 2}`.

The form is that of libstdc++'s printers for gdb. How each container lies in memory stands in standard_sequence,
standard_tree and standard_holder; this owns which of them a class is read by, and the text. A class of another layout,
or whose memory was not captured, is printed as any other class.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import lru_cache

from unwind.arguments.character_text import ELEMENT_LIMIT
from unwind.arguments.container_parts import Container
from unwind.arguments.location import Contents
from unwind.arguments.printing import DEEPEST, Printing
from unwind.arguments.scalar_text import text_of_length
from unwind.arguments.standard_holder import HOLDERS
from unwind.arguments.standard_node import NODE_CONTAINERS
from unwind.arguments.standard_sequence import SEQUENCES
from unwind.arguments.type_name import qualified_name
from unwind.arguments.typed_object import TypedObject
from unwind.arguments.unavailable import Reason, Unavailable
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At

Reader = Callable[[str, TypedObject], Container]
_READERS: dict[str, Reader] = {**SEQUENCES, **NODE_CONTAINERS, **HOLDERS}
_STANDARD = re.compile(r"std::(?:__cxx11::)?(\w+)(?:<.*>)?", re.DOTALL)
_NOT_THIS_LAYOUT = (Reason.UNSUPPORTED, Reason.MALFORMED)


def container_value(type_: Die, contents: Contents, printing: Printing, depth: int) -> str | None:
    """The text of an object of a library's container class; None for what is none, or is laid out otherwise."""
    name = standard_name(type_)
    if name is None:
        return None
    try:
        container = described(name, TypedObject(type_, contents))
    except Unavailable as why:
        if why.reason in _NOT_THIS_LAYOUT:
            return None
        raise
    return _text(container, printing, depth)


def described(name: str, value: TypedObject) -> Container:
    """A container by its qualified name without template arguments. Raises Unavailable."""
    return _READERS[name.rpartition("::")[2]](name, value)


@lru_cache(maxsize=4096)
def standard_name(type_: Die) -> str | None:
    """`std::vector` for an instance of it, None for what is no container of namespace std that is known here."""
    if type_.get(At.DECLARATION) or not isinstance(type_.get(At.NAME), str):
        return None
    match = _STANDARD.fullmatch(qualified_name(type_))
    if match is None or match[1] not in _READERS:
        return None
    return match[0].partition("<")[0]


def _text(container: Container, printing: Printing, depth: int) -> str:
    if container.characters is not None:
        text = text_of_length(container.characters, printing.state)
        printing.known += 1
        return text
    if depth >= DEEPEST:
        return "{...}"
    printing.known += 1
    parts: list[str] = []
    cut = False
    try:
        for at, (label, part) in enumerate(itertools.islice(container.children, ELEMENT_LIMIT + 1)):
            if at == ELEMENT_LIMIT or printing.full:
                cut = True
                break
            text = part if isinstance(part, str) else printing.part(part.declared, part.contents, depth + 1)
            if container.is_map and at % 2:
                parts[-1] += f"] = {text}"
            elif container.is_map:
                parts.append(f"[{text}")
            else:
                parts.append(text if container.is_array else f"{label} = {text}")
    except Unavailable as why:
        parts.append(printing.failed(why))
    if not parts:
        return container.title or "{}"
    text = "{" + ", ".join(parts) + ("..." if cut else "") + "}"
    return f"{container.title} = {text}" if container.title else text
