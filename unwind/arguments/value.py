"""Values of any type as text, in the form of gdb's `info args` with its default settings.

Takes a type entry and the Contents at the object's location. What has parts is printed by record, array, container and
rust_record, what has none by scalar. Containers of the C++ library are shown by their elements, as libstdc++'s printers
for gdb show them.
"""

from __future__ import annotations

from unwind.arguments.array import array_value
from unwind.arguments.constant import constant_data
from unwind.arguments.container import container_value
from unwind.arguments.entry_type import CLASSES, REFERENCES, is_rust, size_of, stripped, type_of
from unwind.arguments.expression import evaluate
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents, ImplicitPointerLocation, MemoryLocation, ValueLocation
from unwind.arguments.printing import Printing
from unwind.arguments.record import record_value
from unwind.arguments.rust_record import rust_record_value
from unwind.arguments.scalar import scalar_value
from unwind.arguments.unavailable import Unavailable, damage_as_unavailable, malformed, optimized_out
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Tag


def format_value(type_: Die | None, contents: Contents) -> str:
    """The text of the object of type `type_`. Raises Unavailable when none of it is known."""
    printing = Printing(contents.state, _value)
    with damage_as_unavailable():
        text = _value(type_, contents, printing, 0)
    if printing.first_failure is not None and not printing.known:
        raise printing.first_failure
    return text


def _value(declared: Die | None, contents: Contents, printing: Printing, depth: int) -> str:
    type_ = stripped(declared)
    if declared is None or type_ is None:
        raise malformed("an object of type void")
    printing.leaves += 1
    if printing.full:
        return "..."
    if type_.tag in CLASSES and is_rust(type_):
        return rust_record_value(type_, contents, printing, depth)
    if type_.tag in CLASSES:
        text = container_value(type_, contents, printing, depth)
        return record_value(type_, contents, printing, depth) if text is None else text
    if type_.tag == Tag.ARRAY_TYPE:
        return array_value(type_, contents, printing, depth, "[]" if is_rust(type_) else "{}")
    if type_.tag in REFERENCES:
        return _reference(type_, contents, printing, depth)
    text = scalar_value(declared, type_, contents, 8 * size_of(type_), printing)
    printing.known += 1
    return text


def _reference(type_: Die, contents: Contents, printing: Printing, depth: int) -> str:
    """A reference: its address, and unless it is a part of another object what is there."""
    target = type_of(type_)
    referred_type = stripped(target)
    if referred_type is not None and referred_type.tag in REFERENCES:
        raise malformed("a reference to a reference")
    implicit = contents.implicit_pointer
    if implicit is not None:
        referred = _implicit_target(implicit, printing.state)
        text = _container(target, referred, printing, depth)
        return f"<synthetic pointer>: {printing.part(target, referred, depth)}" if text is None else text
    address = contents.bits(8 * contents.state.architecture.address_size)
    printing.known += 1
    referred = Contents(MemoryLocation(address), printing.state)
    # The printers that come with libstdc++ follow `&` but not `&&`.
    text = _container(target, referred, printing, depth) if type_.tag == Tag.REFERENCE_TYPE else None
    if text is not None:
        return text
    if depth:
        return f"@{address:#x}"
    try:
        text = format_value(target, referred)
    except Unavailable as why:
        text = f"<{why}>"
    return f"@{address:#x}: {text}"


def _container(declared: Die | None, contents: Contents, printing: Printing, depth: int) -> str | None:
    """The text of a container of a library, for which gdb does not tell that it is behind a reference."""
    type_ = stripped(declared)
    if type_ is None or type_.tag not in CLASSES:
        return None
    return container_value(type_, contents, printing, depth)


def _implicit_target(pointer: ImplicitPointerLocation, state: FrameState) -> Contents:
    """The contents of the object that a pointer which was optimized away would point to."""
    target = pointer.target
    expression = target.locations(At.LOCATION, state.pc)
    if expression is not None:
        location = evaluate(expression, state, target.unit)
        return Contents(location, state, 8 * pointer.offset)
    constant = target.inherited(At.CONST_VALUE)
    if constant is None:
        raise optimized_out()
    data = constant_data(constant, size_of(type_of(target)))
    return Contents(ValueLocation(data), state, 8 * pointer.offset)
