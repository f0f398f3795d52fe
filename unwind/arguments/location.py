"""Where a DWARF expression says that an object is, and the bits that can be read there (DWARF 5 §2.6).

`Location` is the result of `expression.evaluate`. `Contents` reads an object at a location bit by bit,
whatever pieces it is made of, so that a struct that is half in registers and half optimized out shows what
is known. Bits are numbered as little-endian machines store them: bit 0 is the least significant one of the first byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from unwind.arguments.frame_state import FrameState
from unwind.arguments.unavailable import Reason, Unavailable, malformed, optimized_out
from unwind.dwarf.die import Die


@dataclass(frozen=True, slots=True)
class MemoryLocation:
    """The object is in memory at a run-time address."""

    address: int


@dataclass(frozen=True, slots=True)
class RegisterLocation:
    """The object is in a register of the frame, by DWARF number."""

    number: int


@dataclass(frozen=True, slots=True)
class ValueLocation:
    """The object has no place but a known value: little-endian bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ImplicitPointerLocation:
    """A pointer that does not exist, to `offset` bytes into the object that `target` describes."""

    target: Die
    offset: int


@dataclass(frozen=True, slots=True)
class OptimizedOut:
    """The object is nowhere."""


@dataclass(frozen=True, slots=True)
class UnknownLocation:
    """The object is somewhere that this frame's state does not tell."""

    why: Unavailable


@dataclass(frozen=True, slots=True)
class Piece:
    """`bit_size` bits of the object, from bit `bit_offset` of `location` on."""

    location: Location
    bit_size: int
    bit_offset: int


@dataclass(frozen=True, slots=True)
class PiecesLocation:
    """The object is the pieces one after the other."""

    pieces: tuple[Piece, ...]


Location: TypeAlias = (
    MemoryLocation
    | RegisterLocation
    | ValueLocation
    | ImplicitPointerLocation
    | OptimizedOut
    | UnknownLocation
    | PiecesLocation
)


@dataclass(frozen=True, slots=True)
class Contents:
    """The bits of an object, or of the part of it that begins at bit `bit_offset` of `location`."""

    location: Location
    state: FrameState
    bit_offset: int = 0

    def part(self, bit_offset: int) -> Contents:
        """The contents from `bit_offset` bits on."""
        return Contents(self.location, self.state, self.bit_offset + bit_offset)

    @property
    def address(self) -> int | None:
        """Run-time address of the first byte, None for what is not in memory."""
        if isinstance(self.location, MemoryLocation) and self.bit_offset % 8 == 0:
            return self.location.address + self.bit_offset // 8
        return None

    @property
    def implicit_pointer(self) -> ImplicitPointerLocation | None:
        """Set when what begins here is a pointer that was optimized away and whose target is known."""
        location, offset = self.location, self.bit_offset
        if isinstance(location, PiecesLocation):
            for piece in location.pieces:
                if offset == 0:
                    location = piece.location
                    break
                offset -= piece.bit_size
        return location if isinstance(location, ImplicitPointerLocation) and offset == 0 else None

    def bits(self, size: int, bit_offset: int = 0) -> int:
        """`size` bits from `bit_offset` on, as an unsigned integer. Raises Unavailable."""
        return _bits(self.location, self.state, self.bit_offset + bit_offset, size)

    def data(self, size: int) -> bytes:
        """`size` bytes. Raises Unavailable."""
        return self.bits(8 * size).to_bytes(size, "little")


def _bits(location: Location, state: FrameState, offset: int, size: int) -> int:
    if size == 0:
        return 0
    if isinstance(location, MemoryLocation):
        first, last = offset // 8, (offset + size - 1) // 8
        address = (location.address + first) & state.architecture.address_mask
        return _slice(state.memory(address, last - first + 1), offset - 8 * first, size)
    if isinstance(location, RegisterLocation):
        return _slice(state.register_bytes(location.number), offset, size)
    if isinstance(location, ValueLocation):
        return _slice(location.data, offset, size)
    if isinstance(location, PiecesLocation):
        return _piecewise(location, state, offset, size)
    if isinstance(location, UnknownLocation):
        raise location.why
    if isinstance(location, ImplicitPointerLocation):
        raise Unavailable(Reason.OPTIMIZED_OUT, "the pointer itself is optimized out")
    raise optimized_out()


def _slice(data: bytes, offset: int, size: int) -> int:
    if offset < 0 or offset + size > 8 * len(data):
        raise malformed("an object is larger than its location")
    return int.from_bytes(data, "little") >> offset & ((1 << size) - 1)


def _piecewise(location: PiecesLocation, state: FrameState, offset: int, size: int) -> int:
    result = filled = 0
    for piece in location.pieces:
        if offset < piece.bit_size:
            taken = min(piece.bit_size - offset, size - filled)
            result |= _bits(piece.location, state, piece.bit_offset + offset, taken) << filled
            filled += taken
            offset = 0
            if filled == size:
                return result
        else:
            offset -= piece.bit_size
    # What no piece describes is nowhere (clang leaves out the pieces at the end).
    raise optimized_out()
