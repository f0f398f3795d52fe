"""The value that a function returned, read where the System V ABI for AMD64 puts it (§3.2.3, "Returning of
Values").

The state is that of the caller's frame just after the return: rax, rdx and, when they are captured, xmm0 and
xmm1.
"""

from __future__ import annotations

from unwind.architecture.frame_architecture import is_x86_64
from unwind.architecture.x86_64 import FIRST_VECTOR_REGISTER
from unwind.arguments.argument_reader import Argument
from unwind.arguments.entry_type import (
    CLASSES,
    REFERENCES,
    array_bounds,
    encoding_of,
    is_cplusplus,
    size_of,
    stripped,
    type_of,
)
from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import (
    Contents,
    Location,
    MemoryLocation,
    Piece,
    PiecesLocation,
    RegisterLocation,
)
from unwind.arguments.type_name import type_name
from unwind.arguments.unavailable import Reason, Unavailable, damage_as_unavailable, malformed, unsupported
from unwind.arguments.value import format_value
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Encoding, Tag

_RAX, _RDX = 0, 1
_DEEPEST = 32
# DW_CC_pass_by_reference: C++ classes with a non-trivial copy constructor or destructor are returned in
# memory.
_PASS_BY_REFERENCE = 4
_PASS_BY_VALUE = 5


def return_value(die: Die, state: FrameState) -> Argument:
    """What the function `die` returned; `$return` is its name, and void has no value and `why` "void"."""
    name = "?"
    try:
        with damage_as_unavailable():
            type_ = type_of(die)
            name = type_name(type_)
            if stripped(type_) is None:
                raise Unavailable(Reason.VOID)
            value = format_value(type_, Contents(_place(type_, state), state))
    except Unavailable as why:
        return Argument("$return", name, None, str(why))
    return Argument("$return", name, value, None)


def _place(type_: Die | None, state: FrameState) -> Location:
    if not is_x86_64(state.architecture):
        raise unsupported(f"a return value on {state.architecture.cfi.name}")
    classes = _classify(type_)
    if classes is None:
        return MemoryLocation(state.register(_RAX))
    if classes == ["X87"]:
        raise Unavailable(Reason.VECTOR_REGISTER)
    general = iter((_RAX, _RDX))
    vector = iter((FIRST_VECTOR_REGISTER, FIRST_VECTOR_REGISTER + 1))
    size = size_of(type_)
    if classes == ["SSE", "SSEUP"]:
        return RegisterLocation(FIRST_VECTOR_REGISTER)
    pieces = [
        Piece(
            RegisterLocation(next(vector if class_ == "SSE" else general)),
            8 * min(8, size - 8 * at),
            0,
        )
        for at, class_ in enumerate(classes)
    ]
    return PiecesLocation(tuple(pieces))


def _classify(type_: Die | None) -> list[str] | None:
    """The class of each eightbyte; None is class MEMORY. Raises Unavailable for what is not told by DWARF."""
    size = size_of(type_)
    if size == 0:
        return []
    bare = stripped(type_)
    if bare is not None and bare.tag == Tag.BASE_TYPE:
        encoding = encoding_of(bare)
        if size == 16 and encoding == Encoding.FLOAT:
            return ["SSE", "SSEUP"] if bare.get(At.NAME) in ("_Float128", "__float128") else ["X87"]
        if size == 32 and encoding == Encoding.COMPLEX_FLOAT:
            return ["X87"]
    if bare is not None and bare.tag == Tag.ARRAY_TYPE and bare.get(At.GNU_VECTOR):
        if size not in (8, 16):
            raise unsupported("a vector of this size as a return value")
        return ["SSE"] if size == 8 else ["SSE", "SSEUP"]
    if size > 16:
        return None
    eightbytes = [""] * ((size + 7) // 8)
    if not _merge(type_, 0, eightbytes, 0):
        return None
    # Padding alone (class NO_CLASS) is passed in no register.
    if "" in eightbytes:
        if _is_empty(bare):
            return []
        raise unsupported("a returned object with eight bytes of padding")
    return eightbytes


def _is_empty(type_: Die | None) -> bool:
    return type_ is not None and not any(c.tag in (Tag.MEMBER, Tag.INHERITANCE) for c in type_.children())


def _merge(type_: Die | None, offset: int, eightbytes: list[str], depth: int) -> bool:
    """Add an object at `offset` to the classes; False when the whole is class MEMORY. Raises Unavailable."""
    type_ = stripped(type_)
    if type_ is None or depth > _DEEPEST:
        raise malformed("a returned object of type void")
    if type_.tag in CLASSES:
        return _merge_class(type_, offset, eightbytes, depth)
    if type_.tag == Tag.ARRAY_TYPE:
        element = type_of(type_)
        count = 1
        for bound in array_bounds(type_):
            count *= bound or 0
        stride = size_of(element)
        return all(_merge(element, offset + at * stride, eightbytes, depth + 1) for at in range(count))
    size = size_of(type_)
    alignment = size
    class_ = "INTEGER"
    if type_.tag == Tag.BASE_TYPE and encoding_of(type_) in (Encoding.FLOAT, Encoding.COMPLEX_FLOAT):
        if encoding_of(type_) == Encoding.COMPLEX_FLOAT:
            alignment //= 2
        if alignment > 8:
            return False
        class_ = "SSE"
    elif type_.tag not in (Tag.BASE_TYPE, Tag.POINTER_TYPE, Tag.ENUMERATION_TYPE, *REFERENCES):
        raise unsupported("a return value of this type")
    if alignment and offset % alignment:
        return False
    for at in range(offset // 8, (offset + size + 7) // 8):
        if at >= len(eightbytes):
            raise malformed("a member lies outside its object")
        eightbytes[at] = "INTEGER" if "INTEGER" in (eightbytes[at], class_) else class_
    return True


def _merge_class(type_: Die, offset: int, eightbytes: list[str], depth: int) -> bool:
    if type_.get(At.DECLARATION):
        raise unsupported("a return value whose type is only declared here")
    convention = type_.get(At.CALLING_CONVENTION)
    if convention == _PASS_BY_REFERENCE:
        return False
    if is_cplusplus(type_) and convention != _PASS_BY_VALUE and _may_be_nontrivial(type_):
        raise unsupported("the return value of a class with its own copy constructor or destructor")
    for child in type_.children():
        if child.tag == Tag.INHERITANCE and child.get(At.VIRTUALITY):
            return False
        if child.tag not in (Tag.MEMBER, Tag.INHERITANCE) or child.get(At.EXTERNAL) or child.get(At.DECLARATION):
            continue
        width = child.get(At.BIT_SIZE)
        if isinstance(width, int):
            _merge_bit_field(child, width, offset, eightbytes)
            continue
        place = child.get(At.DATA_MEMBER_LOCATION)
        if place is not None and not isinstance(place, int):
            raise unsupported("a member whose place is an expression")
        bare = stripped(type_of(child))
        if bare is not None and bare.tag in CLASSES and _is_empty(bare):
            continue
        if not _merge(type_of(child), offset + (place or 0), eightbytes, depth + 1):
            return False
    return True


def _merge_bit_field(member: Die, width: int, offset: int, eightbytes: list[str]) -> None:
    start = member.get(At.DATA_BIT_OFFSET)
    if not isinstance(start, int):
        place, counted = member.get(At.DATA_MEMBER_LOCATION), member.get(At.BIT_OFFSET)
        size = member.get(At.BYTE_SIZE)
        storage = size if isinstance(size, int) else size_of(type_of(member))
        base = 8 * place if isinstance(place, int) else 0
        start = base + (8 * storage - counted - width if isinstance(counted, int) else 0)
    for at in range((8 * offset + start) // 64, (8 * offset + start + width + 63) // 64):
        if at >= len(eightbytes):
            raise malformed("a bit-field lies outside its object")
        eightbytes[at] = "INTEGER"


def _may_be_nontrivial(type_: Die) -> bool:
    """Without DW_AT_calling_convention (before DWARF 5): constructors by the class's name, or a
    destructor.
    """
    name = type_.get(At.NAME)
    if not isinstance(name, str):
        return False
    plain = name.split("<")[0]
    return any(
        child.tag == Tag.SUBPROGRAM
        and not child.get(At.ARTIFICIAL)
        and child.get(At.NAME) in (plain, name, f"~{plain}", f"~{name}")
        for child in type_.children()
    )
