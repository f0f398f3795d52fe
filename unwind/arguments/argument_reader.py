"""Arguments of a function or inlined call at a frame, each with its value or the reason why it has none.

Takes the entry of the function (DW_TAG_subprogram or DW_TAG_inlined_subroutine) and the frame's state; gives
what the reports print. Damage and missing memory cost a value, never the trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unwind.arguments.constant import constant_data
from unwind.arguments.entry_type import size_of, type_of
from unwind.arguments.expression import evaluate
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents, OptimizedOut, UnknownLocation, ValueLocation
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.type_name import type_name
from unwind.arguments.unavailable import Reason, Unavailable, damage_as_unavailable, malformed, optimized_out
from unwind.arguments.value import format_value
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Op, Tag

_DEEPEST = 8
_MOST_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; exactly one of `value` and `why` is set."""

    name: str
    type: str
    value: str | None
    why: str | None


def arguments_of(die: Die, state: FrameState) -> list[Argument]:
    """The named formal parameters of a function or inlined call, in their declared order, `this` included.

    Where the list itself is damaged, it ends with an argument named "..." that says so.
    """
    arguments: list[Argument] = []
    try:
        with damage_as_unavailable():
            for parameter in declared(die, Tag.FORMAL_PARAMETER):
                arguments.append(argument_of(parameter, state, die.tag == Tag.INLINED_SUBROUTINE))
    except Unavailable as why:
        arguments.append(Argument("...", "", None, str(why)))
    return arguments


def declared(die: Die, tag: Tag, depth: int = 0) -> Iterator[Die]:
    """Named entries of kind `tag` in a function or block; those that only its abstract instance has (optimized out)
    included."""
    own = [child for child in _children(die, tag) if child.inherited(At.NAME)]
    origin = die.reference(At.ABSTRACT_ORIGIN)
    if origin is None or depth == _DEEPEST:
        yield from own
        return
    by_origin: dict[Die, Die] = {}
    for entry in own:
        for abstract in _origins(entry):
            by_origin.setdefault(abstract, entry)
    used: set[Die] = set()
    for each in declared(origin, tag, depth + 1):
        shown = by_origin.get(each, each)
        used.add(shown)
        yield shown
    yield from (entry for entry in own if entry not in used)


def _children(die: Die, tag: Tag) -> Iterator[Die]:
    count = 0
    for child in die.children():
        if child.tag == tag:
            yield child
            count += 1
            if count == _MOST_ENTRIES:
                return


def _origins(entry: Die) -> Iterator[Die]:
    """The entries that a concrete parameter or variable stands for."""
    current: Die | None = entry
    for _ in range(_DEEPEST):
        current = current.reference(At.ABSTRACT_ORIGIN) if current else None
        if current is None:
            return
        yield current


def argument_of(entry: Die, state: FrameState, inlined: bool) -> Argument:
    """The parameter or variable that `entry` describes. `inlined`: it belongs to an inlined call."""
    name = str(entry.inherited(At.NAME))
    type_ = type_of(entry)
    try:
        with damage_as_unavailable():
            value = format_value(type_, _contents(entry, type_, state, inlined))
    except Unavailable as why:
        return Argument(name, type_name(type_), None, str(why))
    return Argument(name, type_name(type_), value, None)


def _contents(parameter: Die, type_: Die | None, state: FrameState, inlined: bool) -> Contents:
    """Where the object is. Raises Unavailable when it is nowhere, or where is not known."""
    expression = parameter.locations(At.LOCATION, state.pc)
    if expression is None:
        constant = parameter.inherited(At.CONST_VALUE)
        if constant is None:
            raise optimized_out()
        if type_ is None:
            raise malformed("an object of type void")
        return Contents(ValueLocation(constant_data(constant, size_of(type_))), state)
    given_once = isinstance(parameter.get(At.LOCATION), bytes)
    if given_once and state.interrupted and _is_in_own_frame(expression, parameter, state):
        if _is_too_early(state, inlined):
            raise Unavailable(Reason.PROLOGUE)
    location = evaluate(expression, state, parameter.unit)
    if isinstance(location, OptimizedOut):
        raise optimized_out()
    if isinstance(location, UnknownLocation):
        raise location.why
    return Contents(location, state)


def _is_too_early(state: FrameState, inlined: bool) -> bool:
    """Whether the prologue has still to store what is in the frame.

    An inlined call can begin before the line rows say that the prologue ends, after its arguments were stored; only at
    the function's first instruction nothing was.
    """
    if not inlined:
        return state.in_prologue()
    function = state.function()
    return function is not None and function.get(At.LOW_PC) == state.pc


def _is_in_own_frame(expression: bytes, parameter: Die, state: FrameState) -> bool:
    """Whether a place that is given once for the whole function lies in the frame that the prologue makes.

    Compilers give such places without regard to the prologue. Arguments that the caller pushed lie above the CFA and
    are there at once, where the frame base is the CFA; another frame base is a register that the prologue has yet to
    set.
    """
    if not expression:
        return False
    operands = OperandReader(expression, parameter.unit)
    operation = operands.fixed(1)
    architecture = state.architecture
    if operation in (Op.BREG0 + architecture.frame_pointer, Op.BREG0 + architecture.cfi.stack_pointer):
        return True
    if operation != Op.FBREG:
        return False
    function = state.function()
    base = function.get(At.FRAME_BASE) if function is not None else None
    return base != bytes((Op.CALL_FRAME_CFA,)) or operands.sleb128() < 0
