"""Files that hold an ELF image inside: compressed kernel modules, and kernels as they are booted.

Owns the unwrapping: .ko.gz, .ko.xz, .ko.zst and a bzImage (vmlinuz), whose payload may be compressed by gzip, bzip2,
xz, lzma, lz4 or zstd. What is inside is found by magic numbers, never by the file's name; the place of a bzImage's
payload is in its setup header (Documentation/arch/x86/boot.rst). What comes out is an ordinary `ElfImage`.

A compressed file may expand 200-fold and to 4 GiB; beyond that it is no module and no kernel.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfi_tables.elf_image import ElfError, ElfImage

_RATIO = 200
_LIMIT = 1 << 32
_LZMA_MEMORY = 1 << 28
"""Bytes that an xz or lzma file may ask for; kernels and modules ask for half of that at most (a dictionary)."""

_SETUP_SECTORS = 0x1F1
_BOOT_MAGIC = 0x202
_PROTOCOL = 0x206
_PAYLOAD = 0x248
_FIRST_PROTOCOL_WITH_PAYLOAD = 0x208


def open_image(path: str | Path) -> ElfImage:
    """The ELF image in the file at `path`: the file itself, or what it wraps.

    Raises ElfError for what holds no ELF image, OSError from opening.
    """
    name = str(path)
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a pipe would wait for its writer
        raise ElfError(f"{name}: no regular file; name a program, a library, a module or a kernel")
    with open(path, "rb") as file:
        begin = file.read(_BOOT_MAGIC + 4)
        if begin[:4] == b"\x7fELF" or not begin:
            return ElfImage.open(path)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if begin[_BOOT_MAGIC : _BOOT_MAGIC + 4] == b"HdrS":
        return ElfImage.from_bytes(_boot_payload(data, name), name)
    if _expander(begin) is not None:
        return ElfImage.from_bytes(expand(data[:], name), name)
    raise ElfError(
        f"{name}: no ELF file, no compressed one and no x86 boot image; name a program, a library, a module or a kernel"
    )


def expand(data: bytes, name: str) -> bytes:
    """`data` decompressed by the method that its first bytes name. Raises ElfError."""
    expander = _expander(data)
    if expander is None:
        raise ElfError(f"{name}: compressed by a method that is not known (it begins with {data[:4].hex()})")
    limit = min(_LIMIT, len(data) * _RATIO + (1 << 20))
    try:
        found = expander(data, limit)
    except ElfError:
        raise
    except Exception as error:  # each library has an exception of its own, imported only when it is needed
        raise ElfError(f"{name}: cannot be decompressed ({error}); install the file again") from None
    if found is None or len(found) > limit:
        raise ElfError(f"{name}: expands to more than {limit} bytes, which no module or kernel does")
    return found


def _boot_payload(data: Any, name: str) -> bytes:
    """The kernel in a bzImage."""
    size = len(data)
    if size < _PAYLOAD + 8:
        raise ElfError(f"{name}: the boot image ends inside of its setup header; install the kernel again")
    (protocol,) = struct.unpack_from("<H", data, _PROTOCOL)
    if protocol < _FIRST_PROTOCOL_WITH_PAYLOAD:
        raise ElfError(f"{name}: boot protocol {protocol:#x} does not say where the kernel is; name its vmlinux")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD)
    start = ((data[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    if start + length > size:
        raise ElfError(f"{name}: the kernel inside ends at byte {start + length}, the file at {size}; install it again")
    payload = data[start : start + length]
    if payload[:4] == b"\x7fELF":
        return bytes(payload)
    found = expand(payload, name)
    if found[:4] != b"\x7fELF":
        raise ElfError(f"{name}: what the boot image holds is no ELF file; name the kernel's vmlinux")
    return found


_Expander = Callable[[bytes, int], bytes | None]


def _expander(data: bytes) -> _Expander | None:
    """Chosen as the kernel's lib/decompress.c does. Trailing bytes (a boot image appends a size) are passed over."""
    for magic, expander in (
        (b"\x1f\x8b", _gzip), (b"\xfd7zXZ\0", _xz), (b"\x5d\x00\x00", _lzma), (b"BZh", _bzip2),
        (b"\x28\xb5\x2f\xfd", _zstd), (b"\x02\x21\x4c\x18", _lz4_legacy), (b"\x89LZO", _lzo),
    ):  # fmt: skip
        if data.startswith(magic):
            return expander
    return None


def _gzip(data: bytes, limit: int) -> bytes:
    import zlib

    expander = zlib.decompressobj(wbits=31)
    found = expander.decompress(data, limit + 1)
    if not expander.eof and len(found) <= limit:
        raise ValueError("the compressed data is cut short")
    return found


def _whole(expander: Any, data: bytes, limit: int) -> bytes:
    """By an LZMADecompressor or BZ2Decompressor."""
    found: bytes = expander.decompress(data, limit + 1)
    if not expander.eof and len(found) <= limit:
        raise ValueError("the compressed data is cut short")
    return found


def _xz(data: bytes, limit: int) -> bytes:
    import lzma

    return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY), data, limit)


def _lzma(data: bytes, limit: int) -> bytes:
    import lzma

    return _whole(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY), data, limit)


def _bzip2(data: bytes, limit: int) -> bytes:
    import bz2

    return _whole(bz2.BZ2Decompressor(), data, limit)


def _zstd(data: bytes, limit: int) -> bytes | None:
    from cfi_tables.zstd_stream import expand_zstd

    return expand_zstd(data, limit)


def _lz4_legacy(data: bytes, limit: int) -> bytes | None:
    """LZ4's legacy frame: blocks of 8 MiB, each behind its compressed size."""
    try:
        from lz4.block import decompress
    except ImportError:
        raise ElfError("this kernel is compressed by lz4; install the Python package lz4 (pip install lz4)") from None
    parts: list[bytes] = []
    at, size = 4, 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if length == 0x184C2102:  # another frame begins
            at += 4
            continue
        if length == 0 or at + 4 + length > len(data):
            break  # the size that a boot image appends
        parts.append(decompress(data[at + 4 : at + 4 + length], uncompressed_size=8 << 20))
        size += len(parts[-1])
        if size > limit:
            return None
        at += 4 + length
    return b"".join(parts)


def _lzo(data: bytes, limit: int) -> bytes:
    raise ElfError("this kernel is compressed by lzo, which is not supported; name its vmlinux")
