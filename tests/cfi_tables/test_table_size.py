"""Whole tables against the sections that they replace."""

from __future__ import annotations

import pytest

from cfi_tables.elf_image import ElfImage
from cfi_tables.table import build_table


@pytest.mark.parametrize(
    ("name", "limit"),
    [("libc.so.6", 0.21), ("libstdc++.so.6", 0.17), ("libcrypto.so.3", 0.19), ("libpython3.11.so.1.0", 0.21),
     ("gdb", 0.16), ("cc1plus", 0.17), ("libLLVM-14.so.1", 0.14)],
)  # fmt: skip
def test_installed_file(name, limit, system_file):
    image = ElfImage.open(system_file(name))
    size = image.sections[".eh_frame"].size + image.sections[".eh_frame_hdr"].size
    assert len(build_table(image).data) <= limit * size


@pytest.mark.parametrize(("name", "limit"), [("libm.so.6", 0.32), ("ls", 0.4)])
def test_small_file(name, limit, system_file):
    """Rules and codes take room, and few rows must not take more for them than they save."""
    image = ElfImage.open(system_file(name))
    size = image.sections[".eh_frame"].size + image.sections[".eh_frame_hdr"].size
    assert len(build_table(image).data) <= limit * size
