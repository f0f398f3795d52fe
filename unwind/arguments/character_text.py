"""Characters and strings as C literals, in the form that gdb prints.

Control and unprintable characters are octal escapes, runs of more than ten equal characters become
`'x' <repeats N times>`, and `...` follows where ELEMENT_LIMIT cut the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# gdb's defaults of `print elements` and `print repeats`.
ELEMENT_LIMIT = 200
REPEAT_THRESHOLD = 10

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\033"}
_CODECS = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}
_LONGEST_CHARACTER = {1: 4, 2: 4, 4: 4}


@dataclass(frozen=True, slots=True)
class Characters:
    """A text of known length in memory."""

    address: int
    length: int
    """Characters."""
    width: int
    """Bytes of each."""
    prefix: str
    """That of a literal of its type: "", "u", "U" or "L"."""


def character(code: int, width: int, prefix: str) -> str:
    """A character literal; `code` is the unsigned value of a character of `width` bytes."""
    unit = next(_characters(code.to_bytes(width, "little"), width))
    return f"{prefix}'{_escaped(unit, width, quote=chr(39))}'"


def string(data: bytes, width: int, prefix: str, *, cut: bool = False) -> str:
    """A string literal of characters of `width` bytes; the caller has dropped the terminator.

    `cut` tells that the text goes on after `data`.
    """
    pieces: list[str] = []
    literal: list[str] = []
    counted, complete = 0, True
    for unit, count in _runs(data, width):
        if counted >= ELEMENT_LIMIT:
            complete = False
            break
        # Single characters up to the limit; a run is shown whole, however long.
        counted += count
        if count > REPEAT_THRESHOLD:
            if literal:
                pieces.append(f'{prefix}"{"".join(literal)}"')
                literal = []
            shown = _escaped(unit, width, quote="'")
            pieces.append(f"{prefix}'{shown}' <repeats {count} times>")
        else:
            literal += [_escaped(unit, width, quote='"')] * count
    if literal or not pieces:
        pieces.append(f'{prefix}"{"".join(literal)}"')
    return ", ".join(pieces) + ("..." if cut or not complete else "")


def _runs(data: bytes, width: int) -> Iterator[tuple[bytes | str, int]]:
    previous: bytes | str | None = None
    count = 0
    for unit in _characters(data, width):
        if previous is not None and unit == previous:
            count += 1
            continue
        if previous is not None:
            yield previous, count
        previous, count = unit, 1
    if previous is not None:
        yield previous, count


def _characters(data: bytes, width: int) -> Iterator[bytes | str]:
    """Characters of the text: str where they decode, else the bytes of one element."""
    codec, position = _CODECS[width], 0
    while position < len(data):
        for size in range(width, _LONGEST_CHARACTER[width] + 1, width):
            try:
                decoded = data[position : position + size].decode(codec)
            except UnicodeDecodeError:
                continue
            if decoded:
                yield decoded
                position += size
                break
        else:
            yield data[position : position + width]
            position += width


def _escaped(unit: bytes | str, width: int, quote: str) -> str:
    if isinstance(unit, str):
        code = ord(unit)
        if code in _ESCAPES:
            return _ESCAPES[code]
        if unit in (quote, "\\"):
            return "\\" + unit
        if unit.isprintable():
            return unit
        unit = unit.encode(_CODECS[width])
    elements = (int.from_bytes(unit[at : at + width], "little") for at in range(0, len(unit), width))
    return "".join(f"\\{element:03o}" if element <= 0o777 else f"\\x{element:x}" for element in elements)
