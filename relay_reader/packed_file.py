"""Files that were packed whole by gzip, zstd, xz or lz4, as systemd-coredump and users do with core files.

Owns the unpacking: a stream, piece by piece, into a temporary file that has no name and goes with its handle. Blocks
of zeros become holes, so that a sparse core file needs no more room than it did. What the packed file is is found by
its first bytes, never by its name. Damage costs what lies behind it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

_PIECE = 1 << 20
_LARGEST_WINDOW = 1 << 27
"""Bytes that zstd may look back, and with them its memory: the format's own limit where --long is not given."""
_LZMA_MEMORY = 1 << 28


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A seekable file of plain bytes; the caller closes it."""

    file: IO[bytes]
    damage: str | None
    """Why the rest could not be unpacked, None when all was."""


def open_unpacked(path: str) -> UnpackedFile:
    """The file at `path`, or a temporary file with what it packs. Raises OSError."""
    file = open(path, "rb")  # noqa: SIM115
    stream = _stream(file)
    if stream is None:
        return UnpackedFile(file, None)
    with file:
        plain = tempfile.TemporaryFile(prefix="ptap-core-")  # noqa: SIM115
        try:
            return UnpackedFile(plain, _copy(stream, plain))
        except BaseException:
            plain.close()
            raise


def _stream(file: IO[bytes]) -> Any:
    """A reader of what `file` packs, None when it is not packed."""
    begin = file.read(6)
    file.seek(0)
    for magic, opener in (
        (b"\x1f\x8b", _gzip), (b"\x28\xb5\x2f\xfd", _zstd), (b"\xfd7zXZ\0", _xz), (b"\x04\x22\x4d\x18", _lz4),
    ):  # fmt: skip
        if begin.startswith(magic):
            open_stream: Callable[[IO[bytes]], Any] = opener
            return open_stream(file)
    return None


def _gzip(file: IO[bytes]) -> Any:
    import gzip

    return gzip.GzipFile(fileobj=file)


def _zstd(file: IO[bytes]) -> Any:
    import zstandard

    expander = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    return expander.stream_reader(file, read_across_frames=True)


def _xz(file: IO[bytes]) -> Any:
    import lzma

    # A reader of one stream, with a limit on the memory that its header may ask for.
    expander = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)

    class Reader:
        def read(self, size: int) -> bytes:
            while not expander.eof:
                found = expander.decompress(file.read(_PIECE) if expander.needs_input else b"", size)
                if found:
                    return found
                if expander.needs_input and not file.peek(1):  # type: ignore[attr-defined]
                    raise EOFError("the packed data is cut short")
            return b""

    return Reader()


def _lz4(file: IO[bytes]) -> Any:
    from lz4.frame import LZ4FrameFile

    return LZ4FrameFile(file)


def _copy(stream: Any, plain: IO[bytes]) -> str | None:
    """Unpack to the end; the damage that ended it earlier."""
    size = 0
    damage = None
    zeros = bytes(_PIECE)
    while True:
        try:
            piece = stream.read(_PIECE)
        except OSError as error:
            if error.errno is not None:
                raise
            damage = str(error)  # gzip's BadGzipFile
            break
        except Exception as error:  # each library has an exception of its own
            damage = str(error)
            break
        if not piece:
            break
        if piece == zeros[: len(piece)]:
            plain.seek(len(piece), os.SEEK_CUR)
        else:
            plain.write(piece)
        size += len(piece)
    plain.truncate(size)
    plain.seek(0)
    return damage
