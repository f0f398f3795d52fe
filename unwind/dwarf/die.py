"""What a debugging information entry (DIE) is to its readers (DWARF 5 §2.1, §7.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Unit(Protocol):
    """A compilation, partial or type unit (DWARF 5 §3.1)."""

    offset: int
    version: int
    address_size: int
    offset_size: int
    """4 or 8: the DWARF format."""

    @property
    def language(self) -> int | None:
        """DW_LANG of the unit."""

    @property
    def producer(self) -> str | None:
        """The compiler's name, and often its options; None where it is not told."""

    def addrx(self, index: int) -> int:
        """The address at `index` of the unit's part of .debug_addr."""

    def die_at(self, offset: int) -> Die | None:
        """The entry at `offset` of .debug_info (of any unit of the same file), None when none begins there.

        Expressions name entries so (DW_OP_call2, DW_OP_const_type, DW_OP_implicit_pointer, …); offsets that
        are relative to the unit are `unit.offset` less.
        """


class Die(Protocol):
    """One entry. Attribute values are decoded by class, whatever form they had (DWARF 5 §7.5.5):

    address → int; constant → int (signed where the form or implicit_const is); flag → bool; string → str;
    exprloc and block → bytes; reference → the referred entry by `reference()`; loclist → by `locations()`.
    """

    offset: int
    """Offset in .debug_info."""
    tag: int

    def __hash__(self) -> int:
        """Entries are equal, and hash so, when they are the same entry of the same file."""

    @property
    def unit(self) -> Unit:
        """The unit that the entry is in."""

    def get(self, attribute: int) -> int | bool | str | bytes | None:
        """The value of DW_AT `attribute` of this entry alone, None when it is not there."""

    def has(self, attribute: int) -> bool:
        """Whether this entry alone has DW_AT `attribute`, of whatever class."""

    def reference(self, attribute: int) -> Die | None:
        """The entry that a reference-class attribute names, in whatever unit or file it lies."""

    def inherited(self, attribute: int) -> int | bool | str | bytes | None:
        """`get`, looked for along DW_AT_abstract_origin and DW_AT_specification too."""

    def inherited_reference(self, attribute: int) -> Die | None:
        """`reference`, looked for along DW_AT_abstract_origin and DW_AT_specification too."""

    def parent(self) -> Die | None:
        """The entry that owns this one, None for a unit's entry. Qualified names need it."""

    def children(self) -> Iterator[Die]:
        """Child entries in order."""

    def ranges(self) -> list[tuple[int, int]]:
        """The file virtual addresses [low, high) of the entry's code; [] when it has none."""

    def locations(self, attribute: int, pc: int) -> bytes | None:
        """The expression in force at `pc` (a file virtual address) of an exprloc or loclist attribute.

        b"" when the entry's location list covers `pc` with an empty expression (optimized out), None when there is
        no attribute or no covering list entry. Lists of DWARF 2-4 (.debug_loc) and 5 (.debug_loclists).
        """
