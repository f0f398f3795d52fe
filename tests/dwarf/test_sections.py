"""Sections as the readers get them: where they are mapped, or expanded to what objcopy expands them to."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cfi_tables.elf_image import ElfError, ElfImage
from unwind.dwarf.sections import DwarfSections

SIZE_FIELD = 8
"""Offset of the size in the compression header of a 64-bit file (gABI, Elf64_Chdr)."""


def test_a_section_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-g", "-o", "main", "main.c"], cwd=tmp_path, check=True)
    image = ElfImage.open(tmp_path / "main")
    data = DwarfSections(image).get(".debug_info")
    assert len(data) == image.sections[".debug_info"].size
    assert np.shares_memory(np.frombuffer(data, dtype=np.uint8), image.data)


@pytest.fixture(scope="module", params=["zeros", "noise", "empty tail"])
def compressed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An object whose .debug_str is compressed by objcopy, and what is in it."""
    folder = tmp_path_factory.mktemp("compressed")
    noise = random.Random(1).randbytes(1 << 20).hex().encode()
    contents = {"zeros": bytes(5 << 20), "noise": noise, "empty tail": noise + bytes((3 << 20) + 1)}[request.param]
    (folder / "contents").write_bytes(contents)
    (folder / "empty.s").write_text("")
    subprocess.run(["gcc", "-c", "-o", "plain.o", "empty.s"], cwd=folder, check=True)
    add = ["objcopy", "--add-section", ".debug_str=contents", "plain.o", "added.o"]
    subprocess.run(add, cwd=folder, check=True)
    subprocess.run(["objcopy", "--compress-debug-sections=zlib", "added.o", "small.o"], cwd=folder, check=True)
    return folder / "small.o", contents


def test_an_expanded_section_is_what_was_compressed(compressed: tuple[Path, bytes]) -> None:
    path, contents = compressed
    assert bytes(DwarfSections(ElfImage.open(path)).get(".debug_str")) == contents


@pytest.mark.parametrize("change", [-(1 << 19), -1, 1, 1 << 19])
def test_a_size_that_is_not_so_is_told(compressed: tuple[Path, bytes], change: int) -> None:
    path, contents = compressed
    image = ElfImage.open(path)
    assert image.sections[".debug_str"].size < len(contents)
    data = bytearray(path.read_bytes())
    at = image.sections[".debug_str"].offset + SIZE_FIELD
    data[at : at + 8] = (len(contents) + change).to_bytes(8, "little")
    damaged = ElfImage.from_bytes(bytes(data), "damaged")
    with pytest.raises(ElfError, match=r"\.debug_str expands to"):
        damaged.section_data(".debug_str")
