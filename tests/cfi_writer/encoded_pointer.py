"""Encoded pointers (DW_EH_PE, LSB Core §10.5.1) as bytes."""

from __future__ import annotations

from dataclasses import dataclass

from cfi_writer.leb128 import sleb, uleb

ABSOLUTE, PC_RELATIVE, TEXT_RELATIVE, DATA_RELATIVE, ALIGNED = 0x00, 0x10, 0x20, 0x30, 0x50
FORMS = (0x00, 0x01, 0x02, 0x03, 0x04, 0x08, 0x09, 0x0A, 0x0B, 0x0C)
"""absptr, uleb128, udata2, udata4, udata8, signed, sleb128, sdata2, sdata4, sdata8."""


@dataclass(frozen=True)
class PointerBases:
    """What pointers are relative to."""

    address_size: int = 8
    text: int = 0
    data: int = 0


def encode_pointer(value: int, encoding: int, place: int, bases: PointerBases) -> bytes:
    """`value` as it stands at the address `place`, with the padding before it where it is aligned."""
    application, form = encoding & 0x70, encoding & 15
    if application == ALIGNED:
        return bytes(-place % bases.address_size) + encode_number(value, 0, bases.address_size)
    base = {ABSOLUTE: 0, PC_RELATIVE: place, TEXT_RELATIVE: bases.text, DATA_RELATIVE: bases.data}[application]
    return encode_number(value - base, form, bases.address_size)


def encode_number(value: int, form: int, address_size: int) -> bytes:
    """`value` in the low four bits of an encoding; fixed sizes wrap around, as addresses do."""
    if form == 1:
        return uleb(value)
    if form == 9:
        return sleb(value)
    size = {0: address_size, 8: address_size, 2: 2, 10: 2, 3: 4, 11: 4, 4: 8, 12: 8}[form]
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")
