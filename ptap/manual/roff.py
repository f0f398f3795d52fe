"""Text as the man macros of groff want it (groff_man(7), groff_char(7))."""

from __future__ import annotations

import re

_SIGNS = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}


def escaped(text: str) -> str:
    """Text of one or more lines that is shown as it is, and can be copied from the page."""
    signs = "".join(_SIGNS.get(each) or (each if each.isascii() else rf"\[u{ord(each):04X}]") for each in text)
    return re.sub(r"(?m)^\.", r"\\&.", signs)


def bold(text: str) -> str:
    """A word that is written as it stands."""
    return rf"\fB{escaped(text)}\fR"


def italic(text: str) -> str:
    """A word that stands for another."""
    return rf"\fI{escaped(text)}\fR"


def prose(text: str) -> str:
    """A paragraph in one line; what stands in backticks is bold, words in capitals of two letters or more are kept."""
    pieces = re.split(r"`([^`\n]+(?:\n[^`\n]+)*)`", text)
    line = "".join(bold(piece) if at % 2 else escaped(piece) for at, piece in enumerate(pieces))
    return re.sub(r"^\.", r"\\&.", " ".join(line.split()))


def literal(lines: list[str]) -> list[str]:
    """Lines that are kept apart, in the font of a terminal."""
    return [".EX", *(escaped(line) or ".br" for line in lines), ".EE"]


def tagged(tag: str, text: str) -> list[str]:
    """A term (in roff) and what is said of it (not in roff)."""
    return [".TP", tag, prose(text) or r"\&"]
