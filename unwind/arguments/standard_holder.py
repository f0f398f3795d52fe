"""Classes of libstdc++ that hold one object or own it: smart pointers, optional, variant, atomic, and adaptors.

Members by their names: bits/unique_ptr.h, bits/shared_ptr_base.h, optional, variant, bits/stl_stack.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from unwind.arguments.container_parts import Container, short_type_name
from unwind.arguments.entry_type import CLASSES, stripped
from unwind.arguments.standard_sequence import tuple_elements
from unwind.arguments.type_name import type_name
from unwind.arguments.typed_object import TypedObject, template_arguments
from unwind.arguments.unavailable import unsupported
from unwind.dwarf.enumeration import At

_NO_ALTERNATIVE = 0xFF


def _unique_pointer(name: str, value: TypedObject) -> Container:
    held = value.member("_M_t")
    if not _is_tuple(held):
        held = held.member("_M_t")
    pointer = next(tuple_elements(held), None)
    if pointer is None:
        raise unsupported("such a std::unique_ptr")
    return Container(f"{name}<{type_name(value.template_argument(0))}>", iter([("get()", pointer)]))


def _is_tuple(value: TypedObject) -> bool:
    name = value.type.get(At.NAME)
    return isinstance(name, str) and name.startswith("tuple<")


def _shared_pointer(name: str, value: TypedObject) -> Container:
    pointer, control = value.member("_M_ptr"), value.member("_M_refcount", "_M_pi")
    state = "empty"
    if control.integer:
        counts = control.pointed()
        used, weak = counts.member("_M_use_count").integer, counts.member("_M_weak_count").integer
        state = f"use count {used}, weak count {weak - 1}" if used else f"expired, weak count {weak}"
    title = f"{name}<{type_name(value.template_argument(0))}> ({state})"
    return Container(title, iter([("get()", pointer)]))


def _optional(name: str, value: TypedObject) -> Container:
    title = f"{name}<{short_type_name(value.template_argument(0))}>"
    payload = value.member("_M_payload")
    if not payload.member("_M_engaged").integer:
        return Container(f"{title} [no contained value]")
    held = payload.member("_M_payload")
    return _holding(title, held.member("_M_value") if held.has("_M_value") else held)


def _variant(name: str, value: TypedObject) -> Container:
    alternatives = template_arguments(value.type)
    title = f"{name}<{', '.join(short_type_name(each) for each in alternatives)}>"
    index = value.member("_M_index").integer & _NO_ALTERNATIVE
    if index >= len(alternatives):
        return Container(f"{title} [no contained value]")
    type_ = alternatives[index]
    if type_ is None:
        raise unsupported("such a std::variant")
    return _holding(f"{title} [index {index}]", TypedObject(type_, value.member("_M_u").contents), is_array=True)


def _holding(title: str, held: TypedObject, is_array: bool = False) -> Container:
    """What holds one object: a container shows its own elements, any other object stands for itself."""
    inner = _container_of(held)
    if inner is not None and inner.characters is None:
        return replace(inner, title=f"{title} containing {inner.title}")
    return Container(title, iter([("[contained value]", held)]), is_array=is_array)


def _container_of(held: TypedObject) -> Container | None:
    from unwind.arguments.container import described, standard_name

    type_ = stripped(held.declared)
    if type_ is None or type_.tag not in CLASSES:
        return None
    name = standard_name(type_)
    return None if name is None else described(name, held)


def _adaptor(name: str, value: TypedObject) -> Container:
    inner = _container_of(value.member("c"))
    if inner is None:
        raise unsupported(f"such a {name}")
    return replace(inner, title=f"{name} wrapping: {inner.title}")


HOLDERS: dict[str, Callable[[str, TypedObject], Container]] = {
    "unique_ptr": _unique_pointer,
    "shared_ptr": _shared_pointer,
    "weak_ptr": _shared_pointer,
    "optional": _optional,
    "variant": _variant,
    "stack": _adaptor,
    "queue": _adaptor,
    "priority_queue": _adaptor,
}
