"""Call frame sections of real files, in small pieces, and damage to them: the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from oracles.call_frame_interpreter import Setting, entries, read_section

from cfi_tables.cfi_sources import frame_sections
from cfi_tables.elf_image import EM_AARCH64, ElfImage
from cfi_tables.section_rows import FrameSection

_LARGEST_PIECE = 480
_MARGIN = 256
_LARGEST_SPAN = 1 << 20
_PIECES = 24


@dataclass(frozen=True)
class Piece:
    """A CIE with some of its FDEs, where they lie in their file."""

    path: str
    section: FrameSection
    """`ranges` is one, a little more than what the FDEs describe."""

    @property
    def code(self) -> tuple[int, int]:
        return self.section.ranges[0]

    def damaged(self, data: bytes) -> FrameSection:
        """The piece with other contents."""
        return replace(self.section, data=np.frombuffer(data, dtype=np.uint8))


def setting_of(section: FrameSection) -> Setting:
    """The section in the interpreter's terms."""
    where = section.architecture
    return Setting(
        section.name == ".eh_frame", section.address, where.address_size, section.text_base, section.data_base,
        len(where.register_names), where.return_column, where.machine == EM_AARCH64,
    )  # fmt: skip


def pieces(paths: Sequence[str | Path]) -> list[Piece]:
    """Pieces of all the files' sections, spread over each of them."""
    found: list[Piece] = []
    for path in paths:
        for section, _ in frame_sections(ElfImage.open(path), None):
            every = list(_pieces_of(str(path), section))
            found += every[:: max(len(every) // _PIECES, 1)]
    return found


def _pieces_of(path: str, section: FrameSection) -> Iterator[Piece]:
    is_eh = section.name == ".eh_frame"
    data = section.data.tobytes()
    listed = list(entries(data, is_eh))
    ends = {offset: end for offset, _, _, end, _ in listed}
    index = 0
    while index < len(listed):
        _, kind, _, _, cie = listed[index]
        contents, address = data[cie : ends[cie]], section.address + cie
        while index < len(listed) and (kind := listed[index][1]) == "fde" and listed[index][4] == cie:
            moved = _moved(data, listed[index], len(contents), cie, is_eh)
            if moved is None or (len(contents) + len(moved) > _LARGEST_PIECE and contents != data[cie : ends[cie]]):
                break
            contents += moved
            index += 1
        index += kind != "fde" or contents == data[cie : ends[cie]]
        piece = replace(section, data=np.frombuffer(contents, dtype=np.uint8), address=address)
        fdes = read_section(contents, setting_of(piece)).fdes
        if fdes:
            low, high = min(fde.start for fde in fdes) - _MARGIN, max(fde.end for fde in fdes) + _MARGIN
            if high - low < _LARGEST_SPAN:
                yield Piece(path, replace(piece, ranges=[(max(low, 0), high)]))


def _moved(data: bytes, entry: tuple[int, str, int, int, int], place: int, cie: int, is_eh: bool) -> bytes | None:
    """An FDE at `place` behind its CIE alone; None of one in 64-bit DWARF.

    Compilers' pointers are relative in 32 bits; others point elsewhere then, which is damage as well.
    """
    offset, _, body, end, _ = entry
    if body != offset + 8:
        return None
    if not is_eh:
        return data[offset : offset + 4] + bytes(4) + data[body:end]
    distance = offset - cie - place
    pointer = int.from_bytes(data[body : body + 4], "little") + distance & 0xFFFFFFFF
    return (
        data[offset : offset + 4] + (place + 4).to_bytes(4, "little") + pointer.to_bytes(4, "little")
        + data[body + 4 : end]
    )  # fmt: skip


_BYTES = (0, 1, 2, 4, 0x7F, 0x80, 0xFF)
_LENGTHS = (b"\xff\xff\xff\x7f", b"\xf0\xff\xff\xff", b"\xff" * 4 + b"\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\xff" * 8 + b"\x7f", b"\x80" * 12, b"\xff" * 12)  # fmt: skip


def damage(source: random.Random, data: bytes) -> bytes:
    """A changed copy: bytes, bits, lengths, pieces moved, a cut, or nothing but random bytes."""
    kind = source.random()
    if kind < 0.03:
        return source.randbytes(source.randrange(1, len(data)))
    changed = bytearray(data)
    if kind < 0.13:
        del changed[source.randrange(len(changed)) :]
    elif kind < 0.2:
        at = source.randrange(len(changed))
        changed[at:] = source.randbytes(len(changed) - at)
    elif kind < 0.3:
        start, length = source.randrange(len(changed)), source.choice([1, 4, 8, 30])
        moved = changed[start : start + length]
        at = source.randrange(len(changed))
        changed[at : at + source.choice([0, len(moved)])] = moved
    elif kind < 0.4:
        at, written = source.randrange(len(changed)), source.choice(_LENGTHS)
        changed[at : at + len(written)] = written
    else:
        for _ in range(source.choice([1, 1, 2, 3, 8, 40])):
            at = source.randrange(len(changed))
            choice = source.random()
            if choice < 0.4:
                changed[at] ^= 1 << source.randrange(8)
            else:
                changed[at] = source.choice(_BYTES) if choice < 0.7 else source.randrange(256)
    return bytes(changed) or b"\0"
