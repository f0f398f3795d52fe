"""How many elements an array has in each dimension, and where they begin (DWARF 5 §5.5, §5.13).

A bound is a constant, an expression on the frame and the object (variable length arrays; DW_OP_push_object_address), or
another entry whose value is the bound.
"""

from __future__ import annotations

from unwind.arguments.entry_type import (
    array_bounds,
    default_lower_bound,
    dimensions,
    encoding_of,
    size_of,
    stripped,
    type_of,
)
from unwind.arguments.expression import evaluate, evaluate_value
from unwind.arguments.location import Contents, MemoryLocation
from unwind.arguments.typed_value import sign_extended
from unwind.arguments.unavailable import malformed, optimized_out, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding

_MOST_ELEMENTS = 1 << 62


def bounds_at(array: Die, contents: Contents) -> list[int | None]:
    """`array_bounds`, with those that the frame tells; None where there is no bound. Raises Unavailable."""
    bounds = array_bounds(array)
    for at, child in enumerate(dimensions(array)):
        if bounds[at] is None:
            bounds[at] = _told_bound(array, child, contents)
        if (bounds[at] or 0) > _MOST_ELEMENTS:
            raise malformed("an array of more elements than memory has bytes")
    return bounds


def elements(array: Die, contents: Contents) -> Contents:
    """The contents from the first element on, which a descriptor may tell. Raises Unavailable."""
    where = array.get(At.DATA_LOCATION)
    if not isinstance(where, bytes):
        return contents
    if contents.address is None:
        raise unsupported("an array whose descriptor is not in memory")
    location = evaluate(where, contents.state, array.unit, (), contents.address)
    if not isinstance(location, MemoryLocation):
        raise unsupported("an array whose place is not known")
    return Contents(location, contents.state)


def _told_bound(array: Die, dimension: Die, contents: Contents) -> int | None:
    count = _told(dimension, At.COUNT, contents)
    if count is not None:
        return max(count, 0)
    upper = _told(dimension, At.UPPER_BOUND, contents)
    if upper is None:
        return None
    lower = _told(dimension, At.LOWER_BOUND, contents)
    return max(upper - (default_lower_bound(array) if lower is None else lower) + 1, 0)


def _told(dimension: Die, attribute: At, contents: Contents) -> int | None:
    """The value of an attribute that may be a constant, an expression or a reference (§2.19); None without one."""
    constant = dimension.get(attribute)
    if type(constant) is int:
        return constant
    state = contents.state
    expression = dimension.locations(attribute, state.pc)
    if expression is not None:
        value = evaluate_value(expression, state, dimension.unit, contents.address)
        return sign_extended(value.bits, 8 * value.size)
    entry = dimension.reference(attribute)
    return None if entry is None else _variable(entry, contents)


def _variable(entry: Die, contents: Contents) -> int:
    """The value of the variable (clang's `__vla_expr0`) that is a bound."""
    constant = entry.inherited(At.CONST_VALUE)
    if type(constant) is int:
        return constant
    type_ = stripped(type_of(entry))
    place = entry.locations(At.LOCATION, contents.state.pc)
    if not place or type_ is None:
        raise optimized_out()
    bits = Contents(evaluate(place, contents.state, entry.unit), contents.state).bits(8 * size_of(type_))
    signed = encoding_of(type_) in (Encoding.SIGNED, Encoding.SIGNED_CHAR)
    return sign_extended(bits, 8 * size_of(type_)) if signed else bits
