"""What an aarch64 instruction does to the call stack and to memory (Arm Architecture Reference Manual, §C4.1)."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """How an instruction goes on."""

    PLAIN = 0
    CALL = 1
    """BL, BLR and its authenticating forms."""
    RETURN = 2
    """RET, RETAA, RETAB."""
    JUMP = 3
    """BR and its authenticating forms."""
    LOAD_EXCLUSIVE = 4
    STORE_EXCLUSIVE = 5


def kind_of(word: int) -> Kind:
    """The kind of the instruction `word`."""
    if word >> 26 == 0b100101 or word & 0xFEFFF000 == 0xD63F0000:
        return Kind.CALL
    if word & 0xFFFFF000 == 0xD65F0000:
        return Kind.RETURN
    if word & 0xFEFFF000 == 0xD61F0000:
        return Kind.JUMP
    if word & 0x3FC00000 == 0x08400000:
        return Kind.LOAD_EXCLUSIVE
    if word & 0x3FC00000 == 0x08000000:
        return Kind.STORE_EXCLUSIVE
    return Kind.PLAIN


def may_write(word: int) -> bool:
    """Whether the instruction may write memory: stores, system calls, cache maintenance (DC ZVA)."""
    if word >> 24 in (0xD4, 0xD5):
        return True
    if word >> 25 & 0b0101 != 0b0100:  # not of the class "loads and stores"
        return False
    form = word >> 28 & 3
    is_vector = word >> 26 & 1
    if form == 1:  # literal loads, and what is new
        return word >> 24 & 1 == 1
    if form == 2:  # pairs
        return word >> 22 & 1 == 0
    if form == 3 and not is_vector and (word >> 24 & 1 or not word >> 21 & 1):  # by an immediate offset
        return word >> 22 & 3 == 0
    return True


def branch_target(word: int, pc: int) -> int | None:
    """Where a conditional branch at `pc` goes; None for any other instruction."""
    if word >> 24 == 0x54 or word & 0x7E000000 == 0x34000000:  # B.cond; CBZ, CBNZ
        offset = word >> 5 & 0x7FFFF
        return pc + 4 * (offset - (offset >> 18 << 19))
    if word & 0x7E000000 == 0x36000000:  # TBZ, TBNZ
        offset = word >> 5 & 0x3FFF
        return pc + 4 * (offset - (offset >> 13 << 14))
    return None
