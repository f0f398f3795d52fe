"""Types that cannot be meant: the text is short, and what it cannot tell has a reason."""

from __future__ import annotations

import random

import pytest

from tests.arguments.test_expression import StandInDie, StandInUnit, base, state
from unwind.arguments.argument_reader import arguments_of
from unwind.arguments.location import Contents, MemoryLocation
from unwind.arguments.type_name import type_name
from unwind.arguments.unavailable import Unavailable
from unwind.arguments.value import format_value
from unwind.dwarf.enumeration import At, Encoding, Tag

LONGEST = 1 << 20
INT = base(1, 4, Encoding.SIGNED)
BYTE = base(2, 1, Encoding.SIGNED_CHAR)


class Type(StandInDie):
    """A stand-in with children and references."""

    def __init__(self, tag, *children, type_=None, **attributes):
        super().__init__(id(self), tag, {At[name.upper()]: value for name, value in attributes.items()})
        self.own, self.type = list(children), type_
        StandInUnit(self, *children)

    def children(self):
        return iter(self.own)

    def parent(self):
        return None

    def has(self, attribute):
        return attribute in self.attributes

    def locations(self, attribute, pc):
        value = self.attributes.get(attribute)
        return value if isinstance(value, bytes) else None

    def reference(self, attribute):
        return self.type if attribute == At.TYPE else None

    inherited = StandInDie.get
    inherited_reference = reference


for each in (INT, BYTE):
    StandInUnit(each)
    each.__class__ = type("Base", (Type,), {"own": [], "type": None})
    each.attributes[At.NAME] = "number"


def itself(tag, *children, **attributes):
    found = Type(tag, *children, **attributes)
    found.type = found
    return found


def array(count, element, **more):
    return Type(Tag.ARRAY_TYPE, Type(Tag.SUBRANGE_TYPE, count=count), type_=element, **more)


def containing_itself(members):
    found = Type(Tag.STRUCTURE_TYPE, name="endless", byte_size=8)
    found.own = [Type(Tag.MEMBER, type_=found, name=f"m{at}", data_member_location=0) for at in range(members)]
    return found


def function_of_itself():
    found = Type(Tag.SUBROUTINE_TYPE, prototyped=True)
    found.own = [Type(Tag.FORMAL_PARAMETER, type_=found) for _ in range(12)]
    return Type(Tag.POINTER_TYPE, type_=found)


def array_of_itself():
    found = array(3, None)
    found.type = found
    return found


def bit_field(**attributes):
    member = Type(Tag.MEMBER, type_=INT, name="field", **attributes)
    return Type(Tag.STRUCTURE_TYPE, member, name="fields", byte_size=4)


DAMAGED = {
    "typedef of itself": itself(Tag.TYPEDEF, name="loop"),
    "const of itself": itself(Tag.CONST_TYPE),
    "reference to itself": itself(Tag.REFERENCE_TYPE),
    "pointer to itself": itself(Tag.POINTER_TYPE),
    "array of itself": array_of_itself(),
    "enumeration of itself": itself(Tag.ENUMERATION_TYPE),
    "struct in itself": containing_itself(1),
    "struct twice in itself": containing_itself(2),
    "struct often in itself": containing_itself(50),
    "function of itself": function_of_itself(),
    "number of 2**60 bytes": Type(Tag.BASE_TYPE, byte_size=1 << 60, encoding=5, name="huge"),
    "struct of 2**60 bytes": Type(Tag.STRUCTURE_TYPE, name="huge", byte_size=1 << 60),
    "array of 2**40": array(1 << 40, INT),
    "array of 2**40 characters": array(1 << 40, BYTE),
    "array of 2**62 arrays": array(1 << 62, array(1 << 62, INT)),
    "array of large structs": array(1 << 40, Type(Tag.STRUCTURE_TYPE, name="huge", byte_size=1 << 60)),
    "array of no structs": array(1 << 40, Type(Tag.STRUCTURE_TYPE, name="empty", byte_size=0)),
    "array of a negative count": array(-5, INT),
    "array of many dimensions": Type(
        Tag.ARRAY_TYPE, *(Type(Tag.SUBRANGE_TYPE, count=1 << 40) for _ in range(500)), type_=INT
    ),
    "bit-field beyond its type": bit_field(bit_size=1 << 40),
    "bit-field of a negative size": bit_field(bit_size=-3),
    "bit-field far away": bit_field(bit_size=3, data_bit_offset=1 << 62),
    "member of nothing": Type(Tag.STRUCTURE_TYPE, Type(Tag.MEMBER, name="m"), name="void member", byte_size=8),
    "member before its object": Type(
        Tag.STRUCTURE_TYPE, Type(Tag.MEMBER, type_=INT, name="m", data_member_location=-(1 << 62)), byte_size=8
    ),
    "unknown encoding": Type(Tag.BASE_TYPE, byte_size=4, encoding=0x77, name="odd"),
    "no type at all": None,
    "a unit as a type": Type(Tag.COMPILE_UNIT),
}


@pytest.mark.parametrize("memory", ["there", "missing"])
@pytest.mark.parametrize("what", DAMAGED)
def test_damage_costs_a_value_and_has_a_reason(what, memory):
    read = (lambda address, size: bytes(min(size, 1 << 24))) if memory == "there" else (lambda address, size: b"")
    try:
        text = format_value(DAMAGED[what], Contents(MemoryLocation(0x1000), state(read=read)))
    except Unavailable as why:
        text = str(why)
    assert 0 < len(text) < LONGEST
    assert 0 < len(type_name(DAMAGED[what])) < LONGEST


def test_random_bytes_as_locations_give_a_value_or_a_reason():
    chance = random.Random(7)
    known = 0
    for _ in range(4_000):
        code = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 16)))
        parameter = Type(Tag.FORMAL_PARAMETER, type_=INT, name="p", location=code)
        (argument,) = arguments_of(Type(Tag.SUBPROGRAM, parameter), state())
        assert (argument.value is None) != (argument.why is None)
        assert len(argument.value or argument.why or "") < LONGEST
        known += argument.value is not None
    assert 0 < known < 4_000


def test_bounds_that_are_expressions_are_bounded():
    chance = random.Random(8)
    for _ in range(1_000):
        code = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 12)))
        endless = Type(Tag.ARRAY_TYPE, Type(Tag.SUBRANGE_TYPE, upper_bound=code), type_=INT)
        try:
            text = format_value(endless, Contents(MemoryLocation(0x1000), state()))
        except Unavailable as why:
            text = str(why)
        assert 0 < len(text) < LONGEST
