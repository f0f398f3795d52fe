"""Names by an image's index, one address at a time: what its units say, and nothing where there is no index."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from unwind.kernel.indexed_names import IndexedNames
from unwind.symbolize.module_symbols import ModuleSymbols
from unwind.symbolize.symbol_frame import SymbolFrame
from unwind.symbolize.symbolizer import Symbolizer


def _told(frames: list[SymbolFrame]) -> list[tuple[object, ...]]:
    return [(each.function, each.offset, each.file, each.line, each.column, each.inlined) for each in frames]


def test_they_are_those_of_the_units(build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = ElfImage.open(build("gcc", "-O2", "-g"))
    text = image.sections[".text"]
    addresses = range(text.address, text.address + text.size)
    assert all(not IndexedNames().frames_at(image, address) for address in addresses[:3])
    Symbolizer(image).build_index()
    symbols, names = ModuleSymbols.open(image.path), IndexedNames()
    for address in addresses:
        assert _told(names.frames_at(image, address)) == _told(symbols.frames_at(address)), hex(address)
    assert any(len(names.frames_at(image, address)) > 1 for address in addresses), "no inlined call was looked at"
