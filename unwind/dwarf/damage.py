"""What is said about DWARF that cannot be read: where, and why.

Readers raise `DwarfError`; whoever reads many units catches it, keeps its `DwarfProblem` and goes on with
the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DwarfReason(Enum):
    """Why a part of the debugging information cannot be used."""

    TRUNCATED = "it ends in the middle of an entry"
    BAD_VERSION = "its version is not one of DWARF 2 to 5"
    BAD_UNIT = "its unit header does not make sense"
    BAD_ABBREVIATION = "an entry uses an abbreviation that is not declared"
    BAD_FORM = "an attribute has a form that no DWARF version defines"
    BAD_REFERENCE = "an entry refers to a place where there is none"
    BAD_LIST = "a range or location list has an entry kind that no DWARF version defines"
    BAD_LINE_PROGRAM = "a line number program does not make sense"
    TOO_DEEP = "its entries refer to each other in a circle or are nested without end"
    NO_SECTION = "a section that it refers to is missing"
    SPLIT = "its entries are in a separate .dwo file, which cannot be used"
    NO_ALTERNATE = "it refers to a shared (dwz) debug file that is not there"


@dataclass(frozen=True, slots=True)
class DwarfProblem:
    """One piece of debugging information that could not be used."""

    reason: DwarfReason
    section: str
    """Name of the section, such as `.debug_info`."""
    offset: int
    """Byte offset in the section at which it was noticed."""
    unit_offset: int | None = None
    """Offset of the unit that it belongs to, in .debug_info or .debug_types."""
    detail: str = ""
    """Which file it is in where that is not the program's own, and what was wrong with it."""

    def __str__(self) -> str:
        unit = "" if self.unit_offset is None else f" (unit at {self.unit_offset:#x})"
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.section}+{self.offset:#x}{unit}: {self.reason.value}{detail}"


class DwarfError(Exception):
    """A part of the debugging information cannot be read; `problem` says which and why."""

    def __init__(self, reason: DwarfReason, section: str, offset: int, unit_offset: int | None = None) -> None:
        self.problem = DwarfProblem(reason, section, offset, unit_offset)
        super().__init__(str(self.problem))
