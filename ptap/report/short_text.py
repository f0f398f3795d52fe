"""Names, values and reasons at a length that a person reads, and safe on a terminal. What is left out shows as `…`."""

from __future__ import annotations

import re

_NAME_LIMIT = 100
_VALUE_LIMIT = 160
# Private characters stand for what was left out while the rest is shortened: brackets in brackets vanish so.
_LEFT_OUT = {"<": "\ue000", "(": "\ue001"}
_CLOSING = {"<": ">", "(": ")"}
# Of `operator<` the bracket is the name; `(anonymous namespace)` and `operator()` are names too.
_INNERMOST = re.compile(r"(?<!operator)(?<!operator<)<(?!lambda)[^<>()]+>|(?<=[\w>\ue000])\([^()<>]+\)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\udc80-\udcff]")


def short_name(name: str) -> str:
    """A long C++ or Rust name, its longest template arguments and parameter lists left out as far as needed."""
    while len(name) > _NAME_LIMIT:
        found = max(_INNERMOST.finditer(name), key=_length, default=None)
        if found is None or _length(found) <= len("<…>"):
            break
        name = name[: found.start()] + _LEFT_OUT[found[0][0]] + name[found.end() :]
    for bracket, mark in _LEFT_OUT.items():
        name = name.replace(mark, f"{bracket}…{_CLOSING[bracket]}")
    return name


def _length(found: re.Match[str]) -> int:
    return found.end() - found.start()


def short_value(value: str) -> str:
    """A long value's beginning."""
    return value if len(value) <= _VALUE_LIMIT else value[: _VALUE_LIMIT - 1] + "…"


def short_reason(why: str) -> str:
    """What is wrong, without the explanation that follows a colon or stands in brackets."""
    return re.split(r": | \(|; ", why, maxsplit=1)[0]


def printable(text: str) -> str:
    """`text` with control characters as escapes: what a traced program is called must not steer a terminal.

    Bytes that are no UTF-8, which Python keeps as lone surrogates, are `\\xNN`.
    """
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code >= 0xDC80:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")
