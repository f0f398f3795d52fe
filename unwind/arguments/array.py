"""Arrays as text, in the form of gdb: 200 elements, runs of equal ones counted, arrays of characters as strings."""

from __future__ import annotations

from unwind.arguments.array_shape import bounds_at, elements
from unwind.arguments.character_text import ELEMENT_LIMIT, REPEAT_THRESHOLD, string
from unwind.arguments.entry_type import character_prefix, size_of, type_of
from unwind.arguments.location import Contents
from unwind.arguments.printing import DEEPEST, Printing
from unwind.arguments.unavailable import Unavailable, unsupported
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At

_COMPARED = 1 << 20
"""Bytes of equal elements that are looked at, at most."""
_CHUNK = 1 << 14
_LARGEST_ELEMENT = 1 << 20
"""Bytes of an element that are read to compare it with the next; larger ones count as different."""
_MOST_CHARACTERS = 1 << 16


def array_value(type_: Die, contents: Contents, printing: Printing, depth: int, brackets: str = "{}") -> str:
    """A DW_TAG_array_type. Raises Unavailable."""
    bounds = bounds_at(type_, contents)
    element = type_of(type_)
    if bounds in ([], [None], [0]):
        # What has no length is where it begins to gdb; so is an array of no elements.
        if depth:
            printing.known += 1
            return "0x0" if contents.address is None else f"{contents.address:#x}"
        raise unsupported("an array of no known length")
    if None in bounds:
        raise unsupported("an array of no known length")
    if type_.get(At.BYTE_STRIDE) is not None or type_.get(At.BIT_STRIDE) is not None:
        raise unsupported("an array whose elements lie apart")
    lengths = [bound or 0 for bound in bounds]
    return _dimension(element, lengths, elements(type_, contents), printing, depth, brackets)


def _dimension(
    element: Die | None, bounds: list[int], contents: Contents, printing: Printing, depth: int, brackets: str
) -> str:
    length, inner = bounds[0], bounds[1:]
    stride = size_of(element)
    for bound in inner:
        stride *= bound
    if not inner and brackets == "{}":
        prefix = character_prefix(element)
        if prefix is not None and stride in (1, 2, 4) and length:
            return _character_array(contents, length, stride, prefix, printing)
    if depth >= DEEPEST:
        return "{...}"
    parts: list[str] = []
    index = shown = 0
    while index < length and shown < ELEMENT_LIMIT and not printing.full:
        part = contents.part(8 * stride * index)
        if inner:
            text = _dimension(element, inner, part, printing, depth + 1, brackets)
        else:
            text = printing.part(element, part, depth + 1)
        count = _equal_elements(contents, index, length, stride)
        if count > REPEAT_THRESHOLD:
            parts.append(f"{text} <repeats {count} times>")
            index += count
            shown += REPEAT_THRESHOLD
            if count * stride >= _COMPARED and index < length:
                break  # where the run ends was not looked at
        else:
            parts.append(text)
            index += 1
            shown += 1
    printing.known += not length
    return brackets[0] + ", ".join(parts) + ("..." if index < length else "") + brackets[1]


def _equal_elements(contents: Contents, index: int, length: int, stride: int) -> int:
    """How many elements from `index` on have the same bytes; 1 when they cannot be read."""
    if not stride or stride > _LARGEST_ELEMENT:
        return length - index if not stride else 1
    most = min(length - index, max(_COMPARED // stride, 2))
    try:
        first = contents.part(8 * stride * index).data(stride)
        count = 1
        while count < most:
            # A few at first: most elements differ from the next.
            some = min(most - count, max(_CHUNK // stride, 1), count)
            found = contents.part(8 * stride * (index + count)).data(some * stride)
            if found != first * some:
                return count + next(at for at in range(some) if found[at * stride : (at + 1) * stride] != first)
            count += some
    except Unavailable:
        return 1
    return count


def _character_array(contents: Contents, length: int, width: int, prefix: str, printing: Printing) -> str:
    data = contents.data(min(length, _MOST_CHARACTERS) * width)
    printing.known += 1
    # One terminator is not shown.
    if len(data) == length * width and data[-width:] == bytes(width):
        data = data[:-width]
    return string(data, width, prefix, cut=length > _MOST_CHARACTERS)
