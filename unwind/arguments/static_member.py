"""Static members of C++ classes: where the one object of all is (DWARF 5 §5.7.7).

The class holds a declaration: a DW_TAG_member in DWARF 2-4, a DW_TAG_variable in DWARF 5. A constant stands there;
otherwise the definition, an entry elsewhere that names the declaration by DW_AT_specification, has the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from unwind.arguments.constant import constant_data
from unwind.arguments.entry_type import size_of, type_of
from unwind.arguments.expression import evaluate
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents, MemoryLocation, ValueLocation
from unwind.arguments.unavailable import Reason, Unavailable
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag

_MOST_ENTRIES = 200_000


def is_static(member: Die) -> bool:
    """Whether a child of a class has no place in its objects."""
    return member.tag == Tag.VARIABLE or bool(member.get(At.EXTERNAL)) or bool(member.get(At.DECLARATION))


def static_contents(member: Die, state: FrameState) -> Contents:
    """The contents of the static member. Raises Unavailable."""
    constant = member.get(At.CONST_VALUE)
    if constant is not None:
        return Contents(ValueLocation(constant_data(constant, size_of(type_of(member)))), state)
    definition = _definitions(_root(member)).get(member)
    for entry in (definition, member):
        place = entry.locations(At.LOCATION, state.pc) if entry is not None else None
        if entry is not None and place:
            return Contents(evaluate(place, state, entry.unit), state)
    name = _linkage_name(member) or (_linkage_name(definition) if definition is not None else None)
    address = state.variable(name) if name is not None else None
    if address is None:
        raise Unavailable(Reason.OPTIMIZED_OUT)
    return Contents(MemoryLocation(address), state)


def _linkage_name(die: Die) -> str | None:
    for attribute in (At.LINKAGE_NAME, At.MIPS_LINKAGE_NAME):
        name = die.get(attribute)
        if isinstance(name, str):
            return name
    return None


def _root(die: Die) -> Die:
    while (owner := die.parent()) is not None:
        die = owner
    return die


@lru_cache(maxsize=32)
def _definitions(root: Die) -> dict[Die, Die]:
    """Definitions of a unit by their declarations."""
    return {
        declaration: entry
        for entry in _variables(root)
        if (declaration := entry.reference(At.SPECIFICATION)) is not None
    }


def _variables(root: Die) -> Iterator[Die]:
    """Variables of a unit's own scope and its namespaces."""
    pending = [root]
    seen = 0
    while pending:
        for child in pending.pop().children():
            seen += 1
            if seen > _MOST_ENTRIES:
                return
            if child.tag == Tag.VARIABLE:
                yield child
            elif child.tag == Tag.NAMESPACE:
                pending.append(child)
