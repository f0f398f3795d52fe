"""Containers of libstdc++ that keep each element in a node of its own: lists, trees and hash tables.

A node is its links and behind them the element, at the element's alignment (bits/stl_tree.h, bits/stl_list.h,
bits/forward_list.h, bits/hashtable_policy.h). Links that lead in a circle end at the number of elements shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from unwind.arguments.character_text import ELEMENT_LIMIT
from unwind.arguments.container_parts import Child, Container, checked, counted, numbered
from unwind.arguments.entry_type import CLASSES, encoding_of, size_of, stripped, type_of
from unwind.arguments.static_member import is_static
from unwind.arguments.typed_object import TypedObject
from unwind.arguments.unavailable import malformed
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding, Tag

_DEEPEST = 24
_DEEPEST_TREE = 128
_MOST_SHOWN = ELEMENT_LIMIT + 1


def _element(pointer: TypedObject, node: int, links: int, type_: Die, member: bool = True) -> TypedObject:
    """The element of a node: behind its links, at the alignment of its type.

    `member`: at that of a member of this type. It is less on i386 for what has eight bytes (supplement 1.1, §2.1.1).
    """
    word = _word(pointer)
    alignment = _alignment(type_, word, 0)
    if not member and word == 4 and _is_wide(type_):
        alignment = size_of(type_)
    return pointer.at(node + -(-links // alignment) * alignment, type_)


def _word(value: TypedObject) -> int:
    """Bytes of a pointer."""
    return value.contents.state.architecture.address_size


def _is_wide(type_: Die) -> bool:
    """Whether it is a number of eight bytes itself, not a class that has one."""
    bare = stripped(type_)
    return bare is not None and bare.tag in (Tag.BASE_TYPE, Tag.ENUMERATION_TYPE) and size_of(bare) == 8


def _alignment(type_: Die | None, word: int, depth: int) -> int:
    """The alignment of a type as a member, where words have `word` bytes.

    That of x86-64 (System V ABI AMD64 §3.1.2) and aarch64 (AAPCS64 §5.1); no more than a word on i386.
    """
    bare = stripped(type_)
    if bare is None or depth > _DEEPEST:
        raise malformed("an element of type void")
    declared = bare.get(At.ALIGNMENT)
    if isinstance(declared, int) and declared > 0:
        return declared
    if bare.tag == Tag.ARRAY_TYPE:
        return _alignment(type_of(bare), word, depth + 1)
    if bare.tag in CLASSES:
        parts = [
            _alignment(type_of(child), word, depth + 1)
            for child in bare.children()
            if child.tag in (Tag.MEMBER, Tag.INHERITANCE) and not is_static(child)
        ]
        return max([1, *parts])
    if bare.tag == Tag.PTR_TO_MEMBER_TYPE:
        return word
    size = size_of(bare)
    natural = max(size // 2 if encoding_of(bare) == Encoding.COMPLEX_FLOAT else size, 1)
    return min(natural, 4) if word == 4 else natural


def _list(name: str, value: TypedObject) -> Container:
    head = value.member("_M_impl", "_M_node")
    first, end = head.member("_M_next"), head.contents.address
    if end is None:
        raise malformed("a list that is not in memory")
    type_ = value.template_argument(0)
    nodes = _chain(first, end)
    elements = (_element(first, node, 2 * _word(first), type_) for node in nodes)
    return Container(f"empty {name}" if first.integer == end else name, numbered(elements))


def _forward_list(name: str, value: TypedObject) -> Container:
    first = value.member("_M_impl", "_M_head", "_M_next")
    type_ = value.template_argument(0)
    elements = (_element(first, node, _word(first), type_) for node in _chain(first, 0))
    return Container(name if first.integer else f"empty {name}", numbered(elements))


def _chain(first: TypedObject, end: int) -> Iterator[int]:
    """Addresses of nodes, each with the link to the next as its first word."""
    node = first.integer
    for _ in range(_MOST_SHOWN):
        if node == end:
            return
        yield node
        node = int.from_bytes(first.contents.state.memory(node, _word(first)), "little")


def _map(name: str, value: TypedObject) -> Container:
    elements, count = _tree(value)
    return Container(counted(name, count), _keys_and_values(elements), is_map=True)


def _set(name: str, value: TypedObject) -> Container:
    elements, count = _tree(value)
    return Container(counted(name, count), numbered(elements))


def _keys_and_values(elements: Iterator[TypedObject]) -> Iterator[Child]:
    for element in elements:
        yield "", element.member("first")
        yield "", element.member("second")


def _tree(value: TypedObject) -> tuple[Iterator[TypedObject], int]:
    """The elements of an _Rb_tree in order, and their number."""
    tree = value.member("_M_t")
    type_ = tree.template_argument(1)
    header = tree.member("_M_impl", "_M_header")
    count = checked(tree.member("_M_impl", "_M_node_count").integer)
    root = header.member("_M_parent")
    links = size_of(root.target_type)
    return (_element(root, node.integer, links, type_) for node in _in_order(root, count)), count


def _in_order(root: TypedObject, count: int) -> Iterator[TypedObject]:
    """Pointers to the nodes of a binary tree from left to right."""
    path: list[TypedObject] = []
    node = root
    shown = 0
    while shown < min(count, _MOST_SHOWN):
        while node.integer:
            if len(path) > _DEEPEST_TREE:
                raise malformed("a tree that is not in a valid state")
            path.append(node)
            node = node.pointed().member("_M_left")
        if not path:
            raise malformed("a tree that is not in a valid state")
        node = path.pop()
        yield node
        shown += 1
        node = node.pointed().member("_M_right")


def _unordered_map(name: str, value: TypedObject) -> Container:
    elements, count = _hash_table(value)
    return Container(counted(name, count), _keys_and_values(elements), is_map=True)


def _unordered_set(name: str, value: TypedObject) -> Container:
    elements, count = _hash_table(value)
    return Container(counted(name, count), numbered(elements))


def _hash_table(value: TypedObject) -> tuple[Iterator[TypedObject], int]:
    """The elements of a _Hashtable along its one list of nodes, and their number."""
    table = value.member("_M_h")
    type_ = table.template_argument(1)
    first = table.member("_M_before_begin", "_M_nxt")
    count = checked(table.member("_M_element_count").integer)
    # Such a node's element is aligned as an object of its type (ext/aligned_buffer.h).
    return (_element(first, node, _word(first), type_, member=False) for node in _chain(first, 0)), count


NODE_CONTAINERS: dict[str, Callable[[str, TypedObject], Container]] = {
    "list": _list,
    "forward_list": _forward_list,
    "map": _map,
    "multimap": _map,
    "set": _set,
    "multiset": _set,
    "unordered_map": _unordered_map,
    "unordered_multimap": _unordered_map,
    "unordered_set": _unordered_set,
    "unordered_multiset": _unordered_set,
}
