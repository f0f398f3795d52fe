"""The stack machine that DWARF expressions run on: its state, its bounds, and the base types that operands name.

What each operation does stands in expression.py and, for values at function entry, in entry_value.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Location, Piece
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.typed_value import GENERIC_32, BaseType, TypedValue, typed
from unwind.arguments.unavailable import malformed, unsupported
from unwind.dwarf.die import Die, Unit
from unwind.dwarf.enumeration import At, Encoding, Tag

_MOST_STEPS = 10_000
_MOST_STACK = 1_000
_LARGEST_BASE_TYPE = 64


@dataclass(slots=True)
class Budget:
    """What is left to spend on one outermost expression, shared with those that it calls."""

    steps: int = _MOST_STEPS
    depth: int = 0


@dataclass(slots=True)
class Machine:
    """One expression being run."""

    state: FrameState
    unit: Unit
    reader: OperandReader
    budget: Budget
    object_address: int | None = None
    stack: list[TypedValue] = field(default_factory=list)
    place: Location | None = None
    """Set by an operation that names the whole location at once; only a piece may follow it."""
    pieces: list[Piece] = field(default_factory=list)

    def push(self, value: TypedValue | int) -> None:
        """Push a value; an integer is one of the generic type."""
        if len(self.stack) >= _MOST_STACK:
            raise malformed("an expression's stack grows without bound")
        if isinstance(value, int):
            value = typed(value, generic_type(self.unit))
        elif value.type is None and self.unit.address_size == 4:
            value = typed(value.bits, GENERIC_32)
        self.stack.append(value)

    def pop(self) -> TypedValue:
        """Pop the top. Raises Unavailable when there is none."""
        if not self.stack:
            raise malformed("an expression takes from an empty stack")
        return self.stack.pop()


def die_at(unit: Unit, offset: int) -> Die:
    """The entry at an offset of .debug_info. Raises Unavailable."""
    die = unit.die_at(offset)
    if die is None:
        raise malformed(f"no entry at {offset:#x}")
    return die


def generic_type(unit: Unit) -> BaseType | None:
    """The generic type of a unit's expressions, which has the size of its addresses."""
    return GENERIC_32 if unit.address_size == 4 else None


def base_type(machine: Machine) -> BaseType | None:
    """The type that an operand names by its offset in the unit; 0 is the generic type. Raises Unavailable."""
    return base_type_at(machine.unit, machine.reader.uleb128())


def base_type_at(unit: Unit, offset: int) -> BaseType | None:
    """The base type at an offset in its unit; 0 is the generic type. Raises Unavailable."""
    if not offset:
        return generic_type(unit)
    die = die_at(unit, unit.offset + offset)
    size, encoding = die.get(At.BYTE_SIZE), die.get(At.ENCODING)
    if (
        die.tag != Tag.BASE_TYPE
        or type(size) is not int
        or type(encoding) is not int
        or not 0 < size <= _LARGEST_BASE_TYPE
    ):
        raise malformed("an operand names no base type")
    if encoding not in _ARITHMETIC:
        raise unsupported(f"arithmetic on the base type encoding {encoding:#x} in an expression")
    return BaseType(size, encoding)


_ARITHMETIC = frozenset(Encoding) - {Encoding.COMPLEX_FLOAT}
