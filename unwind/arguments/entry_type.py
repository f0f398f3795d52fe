"""Reading type entries: what they are under their names and qualifiers, and their sizes (DWARF 5 §5)."""

from __future__ import annotations

from unwind.arguments.unavailable import malformed
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import C_PLUS_PLUS_LANGUAGES, ONE_BASED_LANGUAGES, RUST_LANGUAGE, At, Encoding, Tag

QUALIFIERS = (Tag.CONST_TYPE, Tag.VOLATILE_TYPE, Tag.RESTRICT_TYPE, Tag.ATOMIC_TYPE)
REFERENCES = (Tag.REFERENCE_TYPE, Tag.RVALUE_REFERENCE_TYPE)
CLASSES = (Tag.STRUCTURE_TYPE, Tag.CLASS_TYPE, Tag.UNION_TYPE)
_DEEPEST = 64


def type_of(die: Die) -> Die | None:
    """The entry that DW_AT_type names, along the entries that `die` completes; None is void."""
    return complete(die.inherited_reference(At.TYPE))


def complete(type_: Die | None) -> Die | None:
    """The type itself where an entry stands for one in a type unit (DWARF 5 §5.7.1, DW_AT_signature)."""
    return type_ if type_ is None else type_.reference(At.SIGNATURE) or type_


def is_cplusplus(die: Die) -> bool:
    """Whether the entry's unit is C++."""
    return die.unit.language in C_PLUS_PLUS_LANGUAGES


def is_rust(die: Die) -> bool:
    """Whether the entry's unit is Rust."""
    return die.unit.language == RUST_LANGUAGE


def stripped(type_: Die | None) -> Die | None:
    """The type under typedefs and qualifiers; None is void. Raises Unavailable on a cycle."""
    for _ in range(_DEEPEST):
        if type_ is None or (type_.tag != Tag.TYPEDEF and type_.tag not in QUALIFIERS):
            return type_
        type_ = type_of(type_)
    raise malformed("a type refers to itself")


def size_of(type_: Die | None, depth: int = 0) -> int:
    """Size in bytes of an object of the type. Raises Unavailable when it has none."""
    if depth > _DEEPEST:
        raise malformed("a type refers to itself")
    type_ = stripped(type_)
    if type_ is None:
        raise malformed("an object of type void")
    size = type_.get(At.BYTE_SIZE)
    if isinstance(size, int) and size >= 0:
        return size
    # decltype(nullptr), the one unspecified type of objects, is a pointer in all but name.
    if type_.tag in (Tag.POINTER_TYPE, Tag.UNSPECIFIED_TYPE) or type_.tag in REFERENCES:
        return type_.unit.address_size
    if type_.tag == Tag.PTR_TO_MEMBER_TYPE:
        return member_pointer_size(type_)
    if type_.tag == Tag.ARRAY_TYPE:
        count = 1
        for bound in array_bounds(type_):
            count *= bound or 0
        return count * size_of(type_of(type_), depth + 1)
    if type_.tag == Tag.ENUMERATION_TYPE and type_of(type_) is not None:
        return size_of(type_of(type_), depth + 1)
    raise malformed("a type has no size")


def is_method_pointer(type_: Die) -> bool:
    """Whether a DW_TAG_ptr_to_member_type points to a member function."""
    target = stripped(type_of(type_))
    return target is not None and target.tag == Tag.SUBROUTINE_TYPE


def member_pointer_size(type_: Die) -> int:
    """Size of a pointer to member, which DWARF leaves to the C++ ABI (Itanium C++ ABI §2.3): an offset, or two."""
    return type_.unit.address_size * (2 if is_method_pointer(type_) else 1)


def dimensions(array: Die) -> list[Die]:
    """The entries of an array's dimensions. Raises Unavailable when there is no end of them."""
    found = []
    for child in array.children():
        if child.tag in (Tag.SUBRANGE_TYPE, Tag.GENERIC_SUBRANGE):
            found.append(child)
            if len(found) > _DEEPEST:
                raise malformed("an array of too many dimensions")
    return found


def default_lower_bound(array: Die) -> int:
    """The index of the first element where nothing is said (DWARF 5 table 7.17)."""
    return 1 if array.unit.language in ONE_BASED_LANGUAGES else 0


def array_bounds(array: Die) -> list[int | None]:
    """Number of elements in each dimension; None where it is not a constant."""
    bounds: list[int | None] = []
    for child in dimensions(array):
        count, upper, lower = (child.get(which) for which in (At.COUNT, At.UPPER_BOUND, At.LOWER_BOUND))
        first = lower if type(lower) is int else default_lower_bound(array)
        if type(count) is int:
            bounds.append(max(count, 0))
        elif type(upper) is int:
            # gcc writes the bound of `char a[0]` as -1, in whatever size of form.
            none = first == 0 and upper in (-1, 0xFF, 0xFFFF_FFFF, (1 << 64) - 1)
            bounds.append(0 if none else max(upper - first + 1, 0))
        else:
            bounds.append(None)
    return bounds


def encoding_of(type_: Die) -> int:
    """DW_ATE of a base type, 0 when it has none."""
    encoding = type_.get(At.ENCODING)
    return encoding if isinstance(encoding, int) else 0


def character_prefix(type_: Die | None) -> str | None:
    """ "" for plain characters, "u", "U", "L" for wide ones, None for what is no character type.

    As in gdb: one-byte types with a character encoding, and wchar_t, char16_t, char32_t by their names.
    """
    prefixes = {"wchar_t": "L", "char16_t": "u", "char32_t": "U"}
    for _ in range(_DEEPEST):
        if type_ is None:
            return None
        name = type_.get(At.NAME)
        if type_.tag in (Tag.TYPEDEF, Tag.BASE_TYPE) and isinstance(name, str) and name in prefixes:
            return prefixes[name]
        if type_.tag == Tag.BASE_TYPE:
            character = encoding_of(type_) in (Encoding.SIGNED_CHAR, Encoding.UNSIGNED_CHAR)
            if encoding_of(type_) == Encoding.UTF:
                return {1: "", 2: "u", 4: "U"}.get(size_of(type_))
            return "" if character and size_of(type_) == 1 else None
        if type_.tag != Tag.TYPEDEF and type_.tag not in QUALIFIERS:
            return None
        type_ = type_of(type_)
    return None
