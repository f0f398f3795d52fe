"""Source languages of units, as far as names depend on them (DWARF 5 table 7.17)."""

from __future__ import annotations

WITHOUT_SCOPES = (0x01, 0x02, 0x0C, 0x1D, 0x2C, 0x8001)
"""DW_LANG_C89, C, C99, C11, C17 and Mips_Assembler: functions are in no namespace or class."""


def has_scopes(language: int | None) -> bool:
    """Whether functions of DW_LANG `language` may be named after namespaces and classes; an unknown one's may."""
    return language not in WITHOUT_SCOPES
