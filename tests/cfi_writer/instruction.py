"""Every call frame instruction (DWARF 5 §6.4.2 and §7.24, LSB Core §10.5.2, GNU's and Arm's own) as bytes.

Each function is named by its DW_CFA constant. Offsets that the instruction holds factored are given factored. What
depends on where it lies, set_loc, is an object that `FrameSectionWriter` encodes when it knows the place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cfi_writer.leb128 import sleb, uleb


@dataclass(frozen=True)
class SetLoc:
    """DW_CFA_set_loc: go on at the address `target`."""

    target: int


Program = Sequence[bytes | SetLoc]
"""The instructions of a CIE or an FDE in order."""

NOP = b"\x00"
REMEMBER_STATE = b"\x0a"
RESTORE_STATE = b"\x0b"
AARCH64_NEGATE_RA_STATE_WITH_PC = b"\x2c"
AARCH64_NEGATE_RA_STATE = b"\x2d"


def advance_loc(delta: int) -> bytes:
    """`delta`, below 64, is in units of the code alignment, as in the other forms."""
    return bytes([0x40 | delta])


def advance_loc1(delta: int) -> bytes:
    return b"\x02" + struct.pack("<B", delta)


def advance_loc2(delta: int) -> bytes:
    return b"\x03" + struct.pack("<H", delta)


def advance_loc4(delta: int) -> bytes:
    return b"\x04" + struct.pack("<I", delta)


def def_cfa(register: int, offset: int) -> bytes:
    return b"\x0c" + uleb(register) + uleb(offset)


def def_cfa_sf(register: int, factored: int) -> bytes:
    return b"\x12" + uleb(register) + sleb(factored)


def def_cfa_register(register: int) -> bytes:
    return b"\x0d" + uleb(register)


def def_cfa_offset(offset: int) -> bytes:
    return b"\x0e" + uleb(offset)


def def_cfa_offset_sf(factored: int) -> bytes:
    return b"\x13" + sleb(factored)


def def_cfa_expression(expression: bytes) -> bytes:
    return b"\x0f" + uleb(len(expression)) + expression


def undefined(register: int) -> bytes:
    return b"\x07" + uleb(register)


def same_value(register: int) -> bytes:
    return b"\x08" + uleb(register)


def offset(register: int, factored: int) -> bytes:
    """`register` is below 64."""
    return bytes([0x80 | register]) + uleb(factored)


def offset_extended(register: int, factored: int) -> bytes:
    return b"\x05" + uleb(register) + uleb(factored)


def offset_extended_sf(register: int, factored: int) -> bytes:
    return b"\x11" + uleb(register) + sleb(factored)


def gnu_negative_offset_extended(register: int, factored: int) -> bytes:
    """The offset is minus `factored`."""
    return b"\x2f" + uleb(register) + uleb(factored)


def val_offset(register: int, factored: int) -> bytes:
    return b"\x14" + uleb(register) + uleb(factored)


def val_offset_sf(register: int, factored: int) -> bytes:
    return b"\x15" + uleb(register) + sleb(factored)


def in_register(register: int, source: int) -> bytes:
    """DW_CFA_register."""
    return b"\x09" + uleb(register) + uleb(source)


def expression(register: int, code: bytes) -> bytes:
    return b"\x10" + uleb(register) + uleb(len(code)) + code


def val_expression(register: int, code: bytes) -> bytes:
    return b"\x16" + uleb(register) + uleb(len(code)) + code


def restore(register: int) -> bytes:
    """`register` is below 64."""
    return bytes([0xC0 | register])


def restore_extended(register: int) -> bytes:
    return b"\x06" + uleb(register)


def gnu_args_size(size: int) -> bytes:
    return b"\x2e" + uleb(size)
