"""Compressed modules and boot images: what comes out is what went in, and damage is told."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct

import pytest
import zstandard

from cfi_tables.elf_image import ElfError
from cfi_tables.image_file import open_image


def _lz4_legacy(data: bytes) -> bytes:
    block = pytest.importorskip("lz4.block", reason="the Python package lz4 is not installed")
    out = bytearray(b"\x02\x21\x4c\x18")
    for at in range(0, len(data), 8 << 20):
        packed = block.compress(data[at : at + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(packed)) + packed
    return bytes(out)


_METHODS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bz2": bz2.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": _lz4_legacy,
}


@pytest.fixture
def program(build_program) -> bytes:
    return build_program("gcc", "-O2").read_bytes()


def _boot_image(payload: bytes, sectors: int = 5, protocol: int = 0x20F) -> bytes:
    """A bzImage's frame after Documentation/arch/x86/boot.rst: setup sectors, then the payload at an offset."""
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<II", setup, 0x248, 1000, len(payload))
    return bytes(setup) + bytes(1000) + payload + b"behind"


@pytest.mark.parametrize("method", list(_METHODS))
def test_compressed_file(method, program, tmp_path):
    path = tmp_path / "module"  # its name says nothing
    path.write_bytes(_METHODS[method](program))
    assert open_image(path).data.tobytes() == program


@pytest.mark.parametrize("method", [*_METHODS, "none"])
def test_boot_image(method, program, tmp_path):
    packed = program if method == "none" else _METHODS[method](program)
    size = b"" if method in ("gz", "none") else struct.pack("<I", len(program))  # what the kernel's build appends
    path = tmp_path / "vmlinuz"
    path.write_bytes(_boot_image(packed + size))
    assert open_image(path).data.tobytes() == program


@pytest.mark.parametrize("method", list(_METHODS))
def test_truncated_and_damaged_files(method, program, tmp_path):
    packed = _METHODS[method](program)
    path = tmp_path / "module"
    for size in (len(packed) // 2, len(packed) - 40, 8):
        path.write_bytes(packed[:size])
        with pytest.raises(ElfError):
            open_image(path)


def test_bombs_are_refused(tmp_path):
    zeros = b"\x7fELF" + bytes(1 << 28)
    for pack in (lzma.compress, zstandard.ZstdCompressor().compress, bz2.compress):
        path = tmp_path / "bomb"
        path.write_bytes(pack(zeros))
        with pytest.raises(ElfError, match="expands to more than"):
            open_image(path)


def test_boot_images_that_cannot_be_read(program, tmp_path):
    path = tmp_path / "vmlinuz"
    packed = gzip.compress(program)
    for data, message in (
        (_boot_image(packed)[:-200], "the kernel inside ends at byte"),
        (_boot_image(packed, protocol=0x207), "does not say where the kernel is"),
        (_boot_image(b"none of these"), "method that is not known"),
        (_boot_image(gzip.compress(b"no kernel")), "no ELF file"),
        (_boot_image(b"\x89LZO" + bytes(9)), "lzo"),
        (_boot_image(packed)[:0x24A], "inside of its setup header"),
        (b"#!/bin/sh\n", "no ELF file"),
        (b"", "empty"),
    ):
        path.write_bytes(data)
        with pytest.raises(ElfError, match=message):
            open_image(path)
