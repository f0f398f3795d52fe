"""Pointers to members as text, in the form that gdb prints (Itanium C++ ABI §2.3).

A pointer to a data member is its offset in the class, -1 for none. A pointer to a member function is two words: the
function's address, or one more than its offset in the virtual table; and what is added to `this`.
"""

from __future__ import annotations

from collections.abc import Iterator

from unwind.arguments.entry_type import complete, is_method_pointer, size_of, type_of
from unwind.arguments.frame_state import FrameState
from unwind.arguments.operand_reader import OperandReader
from unwind.arguments.type_name import qualified_name, type_name
from unwind.arguments.typed_value import sign_extended
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Op, Tag

_DEEPEST = 32


def member_pointer_value(declared: Die, type_: Die, bits: int, state: FrameState) -> str:
    """The text of a DW_TAG_ptr_to_member_type with the content `bits`. Raises Unavailable."""
    owner = complete(type_.reference(At.CONTAINING_TYPE))
    width = 8 * type_.unit.address_size
    if not is_method_pointer(type_):
        offset = sign_extended(bits, width)
        if offset == -1:
            return "NULL"
        name = _data_member(owner, offset, 0) if owner is not None else None
        return f"&{name}" if name is not None else str(offset)
    function, adjustment = bits & ((1 << width) - 1), sign_extended(bits >> width, width)
    is_virtual = bool(function & 1)
    if state.architecture.virtual_in_adjustment:
        is_virtual, adjustment = bool(adjustment & 1), adjustment >> 1
    elif is_virtual:
        function -= 1
    if function == 0 and not is_virtual:
        return "NULL"
    if is_virtual:
        slot = function // state.architecture.address_size
        name = _virtual_function(owner, slot, adjustment, 0) if owner is not None else None
        if name is not None:
            return f"&virtual {name}"
        text = f"&virtual table offset {function}"
    else:
        symbol = state.symbol(function)
        text = f"({type_name(declared)}) {function:#x}" + (f" <{symbol}>" if symbol is not None else "")
    return f"{text}, this adjustment {adjustment}" if adjustment else text


def _data_member(owner: Die, offset: int, depth: int) -> str | None:
    """`class::member` of what lies at an offset, in the class or its bases."""
    for child in owner.children():
        place = child.get(At.DATA_MEMBER_LOCATION)
        if child.tag != Tag.MEMBER or child.get(At.EXTERNAL) or child.get(At.DECLARATION):
            continue
        # The members of a union have no place of their own: all are at its start.
        if (place if isinstance(place, int) else 0 if place is None else None) == offset:
            name = child.get(At.NAME)
            return f"{qualified_name(owner)}::{name if isinstance(name, str) else '<anonymous>'}"
    for base, begin in _bases(owner):
        if begin <= offset < begin + size_of(base) and depth < _DEEPEST:
            found = _data_member(base, offset - begin, depth + 1)
            if found is not None:
                return found
    return None


def _virtual_function(owner: Die, slot: int, adjustment: int, depth: int) -> str | None:
    """The member function in a slot of the virtual table, of the class or of its base at `adjustment`."""
    for child in owner.children():
        if child.tag == Tag.SUBPROGRAM and child.get(At.VIRTUALITY) and _slot(child) == slot:
            linkage = child.get(At.LINKAGE_NAME) or child.get(At.MIPS_LINKAGE_NAME)
            if isinstance(linkage, str):
                from unwind.symbolize.function_name import demangled

                return demangled(linkage)
            name = child.get(At.NAME)
            return f"{qualified_name(owner)}::{name if isinstance(name, str) else '<anonymous>'}"
    for base, begin in _bases(owner):
        if begin <= adjustment < begin + size_of(base) and depth < _DEEPEST:
            found = _virtual_function(base, slot, adjustment - begin, depth + 1)
            if found is not None:
                return found
    return None


def _bases(owner: Die) -> Iterator[tuple[Die, int]]:
    """Base classes at a fixed place, with their offsets; a virtual base's depends on the object."""
    for child in owner.children():
        place = child.get(At.DATA_MEMBER_LOCATION)
        base = type_of(child)
        if child.tag == Tag.INHERITANCE and isinstance(place, int) and base is not None:
            yield base, place


def _slot(function: Die) -> int | None:
    """The index in the virtual table, from `DW_OP_constu N` (clang and gcc write nothing else)."""
    where = function.get(At.VTABLE_ELEM_LOCATION)
    if not isinstance(where, bytes) or where[:1] != bytes((Op.CONSTU,)):
        return None
    return OperandReader(where[1:], function.unit).uleb128()
