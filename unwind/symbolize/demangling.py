"""Linkage names made readable. Demangling (Itanium C++, Rust, D) is the pydemumble library's."""

from __future__ import annotations

from functools import lru_cache

MANGLED = ("_Z", "_R", "__Z", "___Z", "_D")


@lru_cache(maxsize=65536)
def demangled(name: str) -> str:
    """`name` demangled, or as it is when it is no mangled name."""
    return _demangled(name) if name.startswith(MANGLED) else name


def can_demangle(name: str) -> bool:
    """Whether a mangled name is one that `demangled` can read; for a look at many of them, which are not kept."""
    return _demangled(name) != name


def _demangled(name: str) -> str:
    import pydemumble

    # A suffix that compilers add to clones (`.cold`, `.part.0`) is no part of the mangled name.
    stem, dot, suffix = name.partition(".")
    text = pydemumble.demangle(name)
    if text and text != name:
        return str(text)
    text = pydemumble.demangle(stem) if dot else ""
    return f"{text} [{dot}{suffix}]" if text and text != stem else name


def readable_name(symbol: str) -> str:
    """A name of a symbol or of an index as people read it: demangled, that of a PLT stub with its `@plt`."""
    stem, mark, rest = symbol.partition("@")
    return demangled(stem) + mark + rest
