"""What one frame of a stack is called: a function, where it is in the source, and whether it was inlined."""

from __future__ import annotations

from dataclasses import dataclass, field

from unwind.dwarf.die import Die


@dataclass(slots=True)
class SymbolFrame:
    """A function at an address; several of them, innermost first, when calls were inlined there."""

    function: str | None
    """As people write it: demangled, with its scopes; None when only the line is known."""
    linkage_name: str | None
    """The symbol name, where it differs from the name in the source."""
    offset: int | None
    """Address less function start. None for inlined frames and in parts that lie apart (cold code)."""
    file: str | None
    """Path of the source file, the compilation directory joined in front where it is relative."""
    line: int | None
    """Line, from 1; for a frame that called an inlined one, the line of that call."""
    column: int | None
    """Column, from 1; None when the compiler gave none."""
    inlined: bool
    """The frame is an inlined call; the next frame is what it was inlined into."""
    die: Die | None = field(default=None, compare=False, repr=False)
    """The DW_TAG_subprogram or DW_TAG_inlined_subroutine entry."""
    function_start: int | None = None
    """Entry address of the function or inlined copy (file virtual address)."""
