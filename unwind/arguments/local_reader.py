"""Local variables of a function or inlined call at a frame: those of every block that the pc is in.

Takes the entry of the function (DW_TAG_subprogram or DW_TAG_inlined_subroutine) and the frame's state. Blocks are
DW_TAG_lexical_block entries (DWARF 5 §3.5); variables of calls inlined in them belong to those calls' own frames.
Static variables count as locals of the block that declares them, as in gdb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from unwind.arguments.argument_reader import Argument, argument_of, declared
from unwind.arguments.frame_state import FrameState
from unwind.arguments.unavailable import Unavailable, damage_as_unavailable
from unwind.dwarf.die import Die
from unwind.dwarf.enumeration import At, Op, Tag

_DEEPEST = 256
_MOST_BLOCKS = 20_000
_STATIC = (bytes((Op.ADDR,)), bytes((Op.ADDRX,)), bytes((Op.GNU_ADDR_INDEX,)))


@dataclass(frozen=True, slots=True)
class Local(Argument):
    """One variable; exactly one of `value` and `why` is set."""

    line: int | None
    """The source line that declares it."""
    shadowed: bool
    """A variable of a block further in has the same name."""


def locals_of(die: Die, state: FrameState) -> list[Local]:
    """The variables in scope at the frame's pc, the innermost block's first, each block's in their declared order.

    Where the list itself is damaged, it ends with a variable named "..." that says so.
    """
    found: list[Local] = []
    seen: set[str] = set()
    try:
        with damage_as_unavailable():
            for block in reversed(_blocks(die, state.pc)):
                names = set()
                for entry in _variables(block):
                    variable = argument_of(entry, state, die.tag == Tag.INLINED_SUBROUTINE)
                    line = entry.inherited(At.DECL_LINE)
                    found.append(
                        Local(
                            variable.name,
                            variable.type,
                            variable.value,
                            variable.why,
                            line if isinstance(line, int) and line else None,
                            variable.name in seen,
                        )
                    )
                    names.add(variable.name)
                seen |= names
    except Unavailable as why:
        found.append(Local("...", "", None, str(why), None, False))
    return found


@lru_cache(maxsize=4096)
def _blocks(die: Die, pc: int) -> tuple[Die, ...]:
    """The function or inlined call, then the blocks in it that hold `pc`, outermost first. Raises DwarfError."""
    found = [die]
    # A block without addresses of its own is part of the one around it.
    pending = [die]
    looked_at = 0
    while pending and len(found) < _DEEPEST:
        for child in pending.pop().children():
            if child.tag != Tag.LEXICAL_BLOCK:
                continue
            looked_at += 1
            if looked_at > _MOST_BLOCKS:
                return tuple(found)
            ranges = child.ranges()
            if not ranges:
                found.append(child)
                pending.append(child)
            elif any(low <= pc < high for low, high in ranges):
                found.append(child)
                pending = [child]
                break
    return tuple(found)


@lru_cache(maxsize=4096)
def _variables(block: Die) -> tuple[Die, ...]:
    return (*declared(block, Tag.VARIABLE), *_unplaced_statics(block))


def _unplaced_statics(block: Die) -> Iterator[Die]:
    """Static variables of the blocks that only the abstract instance has: no addresses tell where they are in scope.

    They have their values at any pc, and are shown as of the block around them, as by gdb.
    """
    origin = block.reference(At.ABSTRACT_ORIGIN)
    if origin is None:
        return
    placed = {child.reference(At.ABSTRACT_ORIGIN) for child in block.children() if child.tag == Tag.LEXICAL_BLOCK}
    pending = [child for child in origin.children() if child.tag == Tag.LEXICAL_BLOCK and child not in placed]
    looked_at = 0
    while pending and looked_at < _MOST_BLOCKS:
        looked_at += 1
        for child in pending.pop().children():
            if child.tag == Tag.LEXICAL_BLOCK:
                pending.append(child)
            elif child.tag == Tag.VARIABLE and child.inherited(At.NAME):
                where = child.get(At.LOCATION)
                if isinstance(where, bytes) and where[:1] in _STATIC:
                    yield child
