"""Type names as C and C++ declare them, in the form that gdb's `whatis` prints.

`const char *`, `struct point *`, `int (*)(int)`, `char *[3]`, `enum color`; typedefs keep their names; C++
leaves out the keywords and qualifies names with their namespaces and classes. An anonymous type is `struct
{...}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from unwind.arguments.entry_type import CLASSES, array_bounds, complete, dimensions, is_cplusplus, is_rust, type_of
from unwind.arguments.unavailable import Unavailable
from unwind.dwarf.damage import DwarfError
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag

_DEEPEST = 40
_MOST_TYPES = 1_000
_KEYWORDS = {
    Tag.STRUCTURE_TYPE: "struct",
    Tag.CLASS_TYPE: "class",
    Tag.UNION_TYPE: "union",
    Tag.ENUMERATION_TYPE: "enum",
}
_POINTERS = {
    Tag.POINTER_TYPE: "*",
    Tag.REFERENCE_TYPE: "&",
    Tag.RVALUE_REFERENCE_TYPE: "&&",
}
_QUALIFIER_WORDS = {
    Tag.CONST_TYPE: "const",
    Tag.VOLATILE_TYPE: "volatile",
    Tag.RESTRICT_TYPE: "restrict",
    Tag.ATOMIC_TYPE: "_Atomic",
}
_WORD = "(?:unsigned|signed|long|short|int|char)"
_INTEGER_WORDS = re.compile(rf"\b{_WORD}(?: {_WORD})*\b(?! double)")
_SCOPES = (Tag.NAMESPACE, *CLASSES)


@dataclass(slots=True)
class _Level:
    """How deep a type is in others, and what the whole name may still cost: damage nests without end."""

    depth: int = 0
    left: list[int] = field(default_factory=lambda: [_MOST_TYPES])

    def deeper(self) -> _Level:
        return _Level(self.depth + 1, self.left)

    def exhausted(self) -> bool:
        self.left[0] -= 1
        return self.depth > _DEEPEST or self.left[0] < 0


@lru_cache(maxsize=4096)
def type_name(type_: Die | None) -> str:
    """The name of a type; None is `void`. Never fails: what is too deep or damaged is `...` or `?`."""
    try:
        return _declaration(type_, "", _Level())
    except (DwarfError, Unavailable):
        return "?"


def _declaration(type_: Die | None, declarator: str, level: _Level) -> str:
    """A declaration of `declarator` (which may be empty) with the type, read from the inside out."""
    if level.exhausted():
        return "..."
    if type_ is not None and is_rust(type_):
        return _rust_name(type_, level)
    qualifiers: list[str] = []
    for _ in range(_DEEPEST):
        if type_ is None or type_.tag not in _QUALIFIER_WORDS:
            break
        word = _QUALIFIER_WORDS[Tag(type_.tag)]
        if word not in qualifiers:
            qualifiers.append(word)
        type_ = type_of(type_)
    else:
        return "..."
    # gdb prints const before volatile, whatever their order in the debug information.
    prefix = " ".join(sorted(qualifiers, key=list(_QUALIFIER_WORDS.values()).index))
    if type_ is not None and type_.tag in (*_POINTERS, Tag.PTR_TO_MEMBER_TYPE):
        return _pointer(type_, prefix, declarator, level)
    if type_ is not None and type_.tag == Tag.ARRAY_TYPE:
        return _array(type_, prefix, declarator, level)
    if type_ is not None and type_.tag == Tag.SUBROUTINE_TYPE:
        return _declaration(type_of(type_), f"{declarator}({_parameters(type_, level)})", level.deeper())
    name = "void" if type_ is None else _own_name(type_, level)
    text = f"{prefix} {name}" if prefix else name
    return f"{text} {declarator}" if declarator else text


def _rust_name(type_: Die, level: _Level) -> str:
    """Rust's types have the names that Rust gives them, pointers too; all but arrays."""
    name = type_.get(At.NAME)
    if type_.tag == Tag.ARRAY_TYPE:
        bounds = array_bounds(type_)
        return f"[{_declaration(type_of(type_), '', level.deeper())}; {bounds[0] if bounds else '?'}]"
    if not isinstance(name, str):
        return "<unknown type>"
    nested = type_.tag in CLASSES or type_.tag == Tag.ENUMERATION_TYPE
    return qualified_name(type_) if nested and not name.startswith(("(", "&")) else name


def _pointer(type_: Die, qualifiers: str, declarator: str, level: _Level) -> str:
    target = type_of(type_)
    if type_.tag == Tag.PTR_TO_MEMBER_TYPE:
        owner = complete(type_.reference(At.CONTAINING_TYPE))
        symbol = f"{qualified_name(owner) if owner else '?'}::*"
    else:
        symbol = _POINTERS[Tag(type_.tag)]
    if qualifiers:
        # gdb's spacing: `char * const *`, but `char * const&`.
        space = " " if declarator and not declarator.startswith("&") else ""
        symbol += f" {qualifiers}{space}"
    declarator = symbol + declarator
    bare = target
    for _ in range(_DEEPEST):
        if bare is None or bare.tag not in _QUALIFIER_WORDS:
            break
        bare = type_of(bare)
    if bare is not None and bare.tag in (Tag.ARRAY_TYPE, Tag.SUBROUTINE_TYPE):
        declarator = f"({declarator})"
    return _declaration(target, declarator, level.deeper())


def _array(type_: Die, qualifiers: str, declarator: str, level: _Level) -> str:
    bounds = array_bounds(type_)
    if type_.get(At.GNU_VECTOR):
        suffix = f" __attribute__ ((vector_size({bounds[0] if bounds else ''})))"
    else:
        suffix = "".join(f"[{_length(bound, at)}]" for bound, at in zip(bounds, dimensions(type_), strict=True))
    element = _declaration(type_of(type_), f"{declarator}{suffix}".strip(), level.deeper())
    return f"{qualifiers} {element}" if qualifiers else element


def _length(bound: int | None, dimension: Die) -> str:
    if bound is not None:
        return str(bound)
    # The bound of a variable length array is there, as an expression or a reference; only the frame can tell it.
    return "variable length" if any(dimension.has(each) for each in (At.COUNT, At.UPPER_BOUND)) else ""


def _parameters(function: Die, level: _Level) -> str:
    names: list[str] = []
    for child in function.children():
        if child.tag == Tag.FORMAL_PARAMETER:
            names.append(_declaration(type_of(child), "", level.deeper()))
        elif child.tag == Tag.UNSPECIFIED_PARAMETERS:
            # An unprototyped `int f()` has nothing but the dots.
            if not names and not function.get(At.PROTOTYPED) and not is_cplusplus(function):
                return ""
            names.append("...")
    if not names and (function.get(At.PROTOTYPED) or is_cplusplus(function)):
        return "void"
    return ", ".join(names)


def _canonical(name: str) -> str:
    """The name with integer types spelled the short way: gcc's `long unsigned int` is `unsigned long`."""
    return _INTEGER_WORDS.sub(_short_integer, name)


def _short_integer(match: re.Match[str]) -> str:
    words = match[0].split(" ")
    if len(words) == 1:
        return match[0]
    sign = [word for word in words if word in ("unsigned", "signed")]
    size = [word for word in words if word in ("long", "short", "char")]
    if sign == ["signed"] and "char" not in size:
        sign = []
    return " ".join(sign + (size or ["int"]))


def _own_name(type_: Die, level: _Level) -> str:
    keyword = _KEYWORDS.get(Tag(type_.tag)) if type_.tag in _KEYWORDS else None
    name = type_.inherited(At.NAME)
    if keyword is None:
        if not isinstance(name, str):
            return "<unknown type>"
        return qualified_name(type_) if is_cplusplus(type_) else _canonical(name)
    if not isinstance(name, str):
        return f"{keyword} {{...}}"
    return qualified_name(type_) if is_cplusplus(type_) else f"{keyword} {name}"


def qualified_name(die: Die) -> str:
    """The C++ name with the namespaces and classes that hold it."""
    parts: list[str] = []
    current: Die | None = die
    for _ in range(_DEEPEST):
        if current is None:
            break
        # clang tells the name of a class only in its type unit.
        name = (complete(current) or current).inherited(At.NAME)
        if isinstance(name, str):
            parts.append(_canonical(name))
        elif current.tag == Tag.NAMESPACE:
            parts.append("(anonymous namespace)")
        current = owner_of(current)
        if current is None or current.tag not in _SCOPES:
            break
    return "::".join(reversed(parts))


def owner_of(die: Die) -> Die | None:
    """The scope that declares an entry; a definition outside its class names the declaration."""
    declaration = die.reference(At.SPECIFICATION)
    return (declaration or die).parent()
