"""zstd frames expanded piece by piece, so that memory follows what comes out and not what a header says.

A frame says how much it holds and how far back it refers (its window), and memory for both would be taken before the
first byte is there. Windows are limited to 128 MiB, as by zstd itself where --long is not given.
"""

from __future__ import annotations

_LARGEST_WINDOW = 1 << 27
_PIECE = 1 << 10
"""Bytes taken in at once: they expand to 32 MiB at the most, since four bytes may stand for a block of 128 KiB."""


def expand_zstd(data: bytes, limit: int) -> bytes | None:
    """The first frame in `data`, expanded; None when it has more than `limit` bytes.

    Raises ValueError for data that is damaged or cut short.
    """
    import zstandard

    expander = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()
    parts: list[bytes] = []
    size = 0
    for at in range(0, len(data), _PIECE):
        try:
            parts.append(expander.decompress(data[at : at + _PIECE]))
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None
        size += len(parts[-1])
        if size > limit:
            return None
        if expander.eof:
            return b"".join(parts)
    raise ValueError("the compressed data is cut short")
