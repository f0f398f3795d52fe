"""Files that were packed whole by gzip, zstd, xz or lz4, as systemd-coredump and users do with core files.

Owns the unpacking: a stream, piece by piece, into a temporary file that has no name and goes with its handle. Blocks
of zeros become holes, so that a sparse core file needs no more room than it did. What the packed file is is found by
its first bytes, never by its name. Damage costs what lies behind it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

_HOLE = 1 << 16
"""Bytes; as many zeros at once become a hole."""
_LARGEST_WINDOW = 1 << 27
"""Bytes that zstd may look back, and with them its memory: the format's own limit where --long is not given."""
_LZMA_MEMORY = 1 << 28


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A seekable file of plain bytes; the caller closes it."""

    file: IO[bytes]
    damage: str | None
    """Why the rest could not be unpacked, None when all was."""


@dataclass(frozen=True, slots=True)
class _Packing:
    """A format. What `make` gives has `decompress`, `eof` and `unused_data`, as in the standard library."""

    magic: bytes
    make: Callable[[], Any]
    piece: int
    """Bytes taken in at once, so few that what comes out of them is some 30 MB at the most."""


def _gzip() -> Any:
    import zlib

    return zlib.decompressobj(wbits=31)


def _zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()


def _xz() -> Any:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def _lz4() -> Any:
    from lz4.frame import LZ4FrameDecompressor

    return LZ4FrameDecompressor()


_PACKINGS = (
    _Packing(b"\x1f\x8b", _gzip, 1 << 14),
    _Packing(b"\x28\xb5\x2f\xfd", _zstd, 1 << 10),
    _Packing(b"\xfd7zXZ\0", _xz, 1 << 12),
    _Packing(b"\x04\x22\x4d\x18", _lz4, 1 << 16),
)


def open_unpacked(path: str) -> UnpackedFile:
    """The file at `path`, or a temporary file with what it packs. Raises OSError."""
    file = open(path, "rb")  # noqa: SIM115
    begin = file.read(8)
    file.seek(0)
    packing = next((each for each in _PACKINGS if begin.startswith(each.magic)), None)
    if packing is None:
        return UnpackedFile(file, None)
    with file:
        plain = tempfile.TemporaryFile(prefix="ptap-core-")  # noqa: SIM115
        try:
            return UnpackedFile(plain, _unpack(file, packing, plain))
        except BaseException:
            plain.close()
            raise


def _unpack(file: IO[bytes], packing: _Packing, plain: IO[bytes]) -> str | None:
    """Unpack to the end; the damage that ended it earlier."""
    damage = None
    size = 0
    pieces = _pieces(file, packing)
    while True:
        try:
            piece = next(pieces, None)
        except OSError:
            raise
        except Exception as error:  # each library has an exception of its own
            damage = str(error)
            break
        if piece is None:
            break
        size += len(piece)
        for at in range(0, len(piece), _HOLE):
            part = piece[at : at + _HOLE]
            if part.count(0) == len(part):
                plain.seek(len(part), os.SEEK_CUR)
            else:
                plain.write(part)
    plain.truncate(size)
    plain.seek(0)
    return damage


def _pieces(file: IO[bytes], packing: _Packing) -> Iterator[bytes]:
    """What comes out, piece by piece; of several packed parts one after the other, as `cat` joins them, of all."""
    expander = packing.make()
    begun = False
    while data := file.read(packing.piece):
        while data:
            begun = True
            yield expander.decompress(data)
            data = b""
            if expander.eof:
                data = expander.unused_data or b""
                expander = packing.make()
                begun = False
                if data.count(0) == len(data):  # padding
                    data = b""
    if begun:
        raise EOFError("the packed data is cut short")
