"""Texts and sequences of libstdc++: strings of both ABIs, views, vector, deque, initializer_list, tuple.

Members are found by their names (bits/stl_vector.h, bits/basic_string.h, bits/stl_deque.h, tuple); where they are not
there, the class is not what its name says and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from unwind.arguments.character_text import Characters
from unwind.arguments.container_parts import Child, Container, checked, counted, numbered
from unwind.arguments.entry_type import character_prefix, encoding_of, size_of, stripped, type_of
from unwind.arguments.location import Contents, ValueLocation
from unwind.arguments.typed_object import TypedObject
from unwind.arguments.unavailable import malformed, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding, Tag

_COPY_ON_WRITE_HEADER = 3
"""Words of std::string::_Rep in front of the text: length, capacity, reference count (the ABI before GCC 5)."""
_DEQUE_BUFFER = 512


def _string(name: str, value: TypedObject) -> Container:
    pointer = value.member("_M_dataplus", "_M_p")
    if value.has("_M_string_length"):
        length = value.member("_M_string_length").integer
    else:
        state = value.contents.state
        word = state.architecture.address_size
        length = int.from_bytes(state.memory(pointer.integer - _COPY_ON_WRITE_HEADER * word, word), "little")
    return _characters(pointer, length)


def _string_view(name: str, value: TypedObject) -> Container:
    return _characters(value.member("_M_str"), value.member("_M_len").integer)


def _characters(pointer: TypedObject, length: int) -> Container:
    width, prefix = size_of(pointer.target_type), character_prefix(pointer.target_type)
    if prefix is None or width not in (1, 2, 4):
        raise unsupported("a text of such characters")
    return Container("", characters=Characters(pointer.integer, checked(length), width, prefix))


def _vector(name: str, value: TypedObject) -> Container:
    start, finish, end = (value.member("_M_impl", each) for each in ("_M_start", "_M_finish", "_M_end_of_storage"))
    if stripped(start.declared) is not None and start.type.tag != Tag.POINTER_TYPE:
        return _vector_of_bool(name, start, finish, end)
    size = size_of(start.target_type)
    length = _distance(start.integer, finish.integer, size)
    capacity = _distance(start.integer, end.integer, size)
    if length > capacity:
        raise malformed("a vector that is not in a valid state")
    title = f"{name} of length {length}, capacity {capacity}"
    return Container(title, numbered(_run(start, start.integer, length, size)), is_array=True)


def _distance(low: int, high: int, size: int) -> int:
    """Elements between two pointers. Raises Unavailable."""
    if not size or high < low or (high - low) % size:
        raise malformed("a container that is not in a valid state")
    return checked((high - low) // size)


def _run(pointer: TypedObject, address: int, count: int, size: int) -> Iterator[TypedObject]:
    for at in range(count):
        yield pointer.at(address + at * size, pointer.target_type)


def _vector_of_bool(name: str, start: TypedObject, finish: TypedObject, end: TypedObject) -> Container:
    first, last = start.member("_M_p"), finish.member("_M_p")
    word = size_of(first.target_type)
    length = 8 * word * _distance(first.integer, last.integer, word) + finish.member("_M_offset").integer
    capacity = 8 * word * _distance(first.integer, end.integer, word)
    if checked(length) > capacity:
        raise malformed("a vector that is not in a valid state")

    def bits() -> Iterator[Child]:
        address, state = first.integer, first.contents.state
        for at in range(length):
            byte = state.memory(address + at // 8, 1)[0]
            yield f"[{at}]", "true" if byte >> at % 8 & 1 else "false"

    return Container(f"{name}<bool> of length {length}, capacity {capacity}", bits(), is_array=True)


def _deque(name: str, value: TypedObject) -> Container:
    start, finish = value.member("_M_impl", "_M_start"), value.member("_M_impl", "_M_finish")
    current = start.member("_M_cur")
    size = size_of(current.target_type)
    in_buffer = max(_DEQUE_BUFFER // size, 1) if size else 1
    state = value.contents.state
    word = state.architecture.address_size
    node, last_node = start.member("_M_node").integer, finish.member("_M_node").integer
    ahead = _distance(current.integer, start.member("_M_last").integer, size)
    behind = _distance(finish.member("_M_first").integer, finish.member("_M_cur").integer, size)
    if node == last_node:
        length = _distance(current.integer, finish.member("_M_cur").integer, size)
    else:
        length = in_buffer * (_distance(node, last_node, word) - 1) + ahead + behind

    def elements() -> Iterator[TypedObject]:
        yield from _run(current, current.integer, min(ahead, length), size)
        for at in range(max(length - ahead, 0)):
            buffer = state.memory(node + word * (1 + at // in_buffer), word)
            yield current.at(int.from_bytes(buffer, "little") + size * (at % in_buffer), current.target_type)

    return Container(counted(name, length), numbered(elements()), is_array=True)


def _initializer_list(name: str, value: TypedObject) -> Container:
    pointer, length = value.member("_M_array"), checked(value.member("_M_len").integer)
    title = f"{name} of length {length}"
    elements = _run(pointer, pointer.integer, length, size_of(pointer.target_type))
    return Container(title, numbered(elements), is_array=True)


def tuple_elements(value: TypedObject) -> Iterator[TypedObject]:
    """The elements of a std::tuple: each _Tuple_impl has the rest and the _Head_base of its own as bases."""
    level = next(value.bases(), None)
    while level is not None:
        rest: TypedObject | None = None
        head: TypedObject | None = None
        for base in level.bases():
            name = base.type.get(At.NAME)
            if isinstance(name, str) and name.startswith("_Tuple_impl<"):
                rest = base
            elif isinstance(name, str) and name.startswith("_Head_base<"):
                head = base
            else:
                raise unsupported("such a std::tuple")
        if head is None:
            raise unsupported("such a std::tuple")
        yield head.member("_M_head_impl") if head.has("_M_head_impl") else next(head.bases(), head)
        level = rest


def _tuple(name: str, value: TypedObject) -> Container:
    elements = list(tuple_elements(value))
    if not elements:
        return Container(f"empty {name}")
    return Container(f"{name} containing", numbered(iter(elements), 1))


def _pair(name: str, value: TypedObject) -> Container:
    children: list[Child] = [(each, value.member(each)) for each in ("first", "second")]
    return Container("", iter(children))


def _bitset(name: str, value: TypedObject) -> Container:
    if not value.has("_M_w"):
        return Container(name)
    words = value.member("_M_w")
    size = size_of(words.type)
    element = type_of(words.type) if words.type.tag == Tag.ARRAY_TYPE else words.type
    in_word = words.contents.state.architecture.address_size
    integer = _unsigned_integer(element, in_word)

    def ones() -> Iterator[Child]:
        for at in range(0, size * 8, 8 * in_word):
            word = words.contents.bits(8 * in_word, at)
            for bit in range(8 * in_word):
                if word >> bit & 1:
                    one = Contents(ValueLocation((1).to_bytes(in_word, "little")), words.contents.state)
                    yield f"[{at + bit}]", TypedObject(integer, one)

    return Container(name, ones())


def _unsigned_integer(type_: Die | None, size: int) -> Die:
    if type_ is None or size_of(type_) != size:
        raise unsupported("such a std::bitset")
    bare = stripped(type_)
    if bare is None or encoding_of(bare) != Encoding.UNSIGNED:
        raise unsupported("such a std::bitset")
    return bare


SEQUENCES: dict[str, Callable[[str, TypedObject], Container]] = {
    "basic_string": _string,
    "basic_string_view": _string_view,
    "vector": _vector,
    "deque": _deque,
    "initializer_list": _initializer_list,
    "tuple": _tuple,
    "pair": _pair,
    "bitset": _bitset,
}
