"""What printing one outermost object has met so far: shared by everything that prints its parts.

A part that cannot be known shows its cause in angle brackets and the other parts go on; only when nothing of the
object is known is the whole unavailable, for the first cause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from unwind.arguments.frame_state import FrameState
from unwind.arguments.location import Contents
from unwind.arguments.unavailable import Unavailable, damage_as_unavailable
from unwind.dwarf.die import Die

# gdb's default of `print max-depth`.
DEEPEST = 20
MOST_LEAVES = 4_000
"""Values printed of one object, beyond which the rest is `...`: gdb prints 200 of each of 200."""


@dataclass(slots=True)
class Printing:
    """`value` prints an object of a type at a depth; it raises Unavailable."""

    state: FrameState
    value: Callable[[Die | None, Contents, Printing, int], str]
    known: int = 0
    """Parts whose value was told."""
    leaves: int = 0
    first_failure: Unavailable | None = None
    virtual_bases: set[Die] = field(default_factory=set)
    static_members: set[Die] = field(default_factory=set)
    """Static members of a class type that were shown: one may contain itself."""

    @property
    def full(self) -> bool:
        """Enough was printed: what follows is `...`."""
        return self.leaves > MOST_LEAVES

    def part(self, type_: Die | None, contents: Contents, depth: int) -> str:
        """The text of a part of the object."""
        try:
            with damage_as_unavailable():
                return self.value(type_, contents, self, depth)
        except Unavailable as why:
            return self.failed(why)

    def failed(self, why: Unavailable) -> str:
        """The text of a part that is not known."""
        self.first_failure = self.first_failure or why
        return f"<{why}>"
