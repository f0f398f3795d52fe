"""`.eh_frame` and `.debug_frame` put together: CIEs and FDEs (DWARF 5 §6.4.1, LSB Core §10.6).

Of both formats (32- and 64-bit DWARF), CIE versions 1, 3 and 4, and augmentations of the letters z R P L S B.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cfi_writer.encoded_pointer import PointerBases, encode_number, encode_pointer
from cfi_writer.instruction import Program, SetLoc
from cfi_writer.leb128 import sleb, uleb


@dataclass(frozen=True)
class Cie:
    """A common information entry; an augmentation with other letters than those above needs `augmentation_data`."""

    program: Program = ()
    version: int = 1
    augmentation: str = ""
    encoding: int = 0
    """R: of the FDEs' pointers."""
    lsda_encoding: int = 0
    """L."""
    personality: tuple[int, int] = (0, 0)
    """P: encoding and value."""
    augmentation_data: bytes | None = None
    code_alignment: int = 1
    data_alignment: int = -8
    return_column: int = 16
    wide: bool = False
    """64-bit DWARF, which its FDEs are too."""


class FrameSectionWriter:
    """One section, entry after entry; `data` is what stands in it so far."""

    def __init__(self, is_eh: bool, address: int = 0, bases: PointerBases | None = None) -> None:
        self.data = bytearray()
        self._is_eh = is_eh
        self._address = address
        self._bases = bases or PointerBases()

    def cie(self, cie: Cie) -> int:
        """Add a CIE; gives its offset."""
        start = len(self.data)
        body = self._begin(cie.wide)
        body += bytes(4) if self._is_eh else b"\xff" * (8 if cie.wide else 4)
        body += bytes([cie.version]) + cie.augmentation.encode() + b"\0"
        if cie.version == 4:
            body += bytes([self._bases.address_size, 0])
        body += uleb(cie.code_alignment) + sleb(cie.data_alignment)
        body += bytes([cie.return_column]) if cie.version == 1 else uleb(cie.return_column)
        if cie.augmentation.startswith("z"):
            body += self._augmentation(cie, start + len(body))
        self._append_program(body, start, cie, cie.program)
        self._end(body, cie.wide)
        return start

    def fde(self, cie: Cie, cie_offset: int, start: int, length: int, program: Program, lsda: bytes = b"") -> int:
        """Add an FDE of the CIE at `cie_offset` for the code [start, start + length); gives its offset."""
        offset = len(self.data)
        body = self._begin(cie.wide)
        if self._is_eh:
            body += struct.pack("<I", offset + len(body) - cie_offset)
        else:
            body += struct.pack("<Q" if cie.wide else "<I", cie_offset)
        encoding = cie.encoding if "R" in cie.augmentation else 0
        body += encode_pointer(start, encoding, self._address + offset + len(body), self._bases)
        body += encode_number(length, encoding & 15, self._bases.address_size)
        if cie.augmentation.startswith("z"):
            body += uleb(len(lsda)) + lsda
        self._append_program(body, offset, cie, program)
        self._end(body, cie.wide)
        return offset

    def terminator(self) -> None:
        """A length of zero."""
        self.data += bytes(4)

    def _begin(self, wide: bool) -> bytearray:
        return bytearray(12 if wide else 4)

    def _end(self, body: bytearray, wide: bool) -> None:
        """Pad the entry by nops, and put its length where `_begin` left room."""
        header = 12 if wide else 4
        body += bytes(-(len(body) - header) % 8)
        if wide:
            body[:12] = b"\xff\xff\xff\xff" + struct.pack("<Q", len(body) - 12)
        else:
            body[:4] = struct.pack("<I", len(body) - 4)
        self.data += body

    def _augmentation(self, cie: Cie, place: int) -> bytes:
        """The length and the data of an augmentation that begins at section offset `place`."""
        if cie.augmentation_data is not None:
            return uleb(len(cie.augmentation_data)) + cie.augmentation_data
        data = bytearray()
        for letter in cie.augmentation:
            if letter == "R":
                data.append(cie.encoding)
            elif letter == "L":
                data.append(cie.lsda_encoding)
            elif letter == "P":
                encoding, value = cie.personality
                data.append(encoding)
                # The data is shorter than 128 bytes: its length takes one.
                data += encode_pointer(value, encoding & 0x7F, self._address + place + 1 + len(data), self._bases)
        return uleb(len(data)) + data

    def _append_program(self, body: bytearray, start: int, cie: Cie, program: Program) -> None:
        encoding = cie.encoding if "R" in cie.augmentation else 0
        for each in program:
            if isinstance(each, SetLoc):
                place = self._address + start + len(body) + 1
                body += b"\x01" + encode_pointer(each.target, encoding, place, self._bases)
            else:
                body += each
