"""The table cache: hits, damage, races, places that cannot be written, and what a hit may import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfi_tables import cache
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable, TableError, build_table


@pytest.fixture
def image(build_program):
    return ElfImage.open(build_program("gcc", "-O2"))


def test_hit_equals_build(image, monkeypatch):
    built = cache.table_for(image)
    assert cache.table_path(image).exists()
    monkeypatch.setattr("cfi_tables.table.build_table", lambda *_: pytest.fail("built again"))
    assert cache.table_for(image).data.tobytes() == built.data.tobytes()


def test_every_kind_of_damage_is_built_again(image):
    whole = cache.table_for(image).data.tobytes()
    path = cache.table_path(image)
    for damage in (b"", whole[:50], whole[:-8], whole[:300] + bytes([whole[300] ^ 1]) + whole[301:], whole + bytes(8)):
        path.write_bytes(damage)
        with pytest.raises(TableError):
            CompactTable.load(path)
        assert cache.table_for(image).data.tobytes() == whole
        assert path.read_bytes() == whole


def test_another_programs_table_is_not_taken(image, build_program):
    other = ElfImage.open(build_program("gcc", "-O0"))
    path = cache.table_path(image)
    path.parent.mkdir(parents=True)
    build_table(other).save(path)
    assert cache.table_for(image).build_id == image.build_id


def test_unwritable_place(image, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr(cache, "tables_directory", lambda: file / "tables")
    assert cache.table_for(image).row_count > 0


def test_failed_save_leaves_nothing(image, tmp_path, monkeypatch):
    table = build_table(image)

    def fail(self: Path, target: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no"):
        table.save(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []


_WORKER = """
import sys
from cfi_tables.cache import table_for
from cfi_tables.elf_image import ElfImage
table = table_for(ElfImage.open(sys.argv[1]))
assert table.row_count
print(sorted({"numba", "construct", "elftools"} & set(sys.modules)))
"""


def test_racing_processes_and_what_a_hit_imports(image, tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", _WORKER, image.path]
    racers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0, 0, 0, 0]
    folder = tmp_path / "ptap" / "tables"
    assert len(list(folder.iterdir())) == 1, "temporary files were left"
    hit = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert hit.stdout.strip() == "[]"
