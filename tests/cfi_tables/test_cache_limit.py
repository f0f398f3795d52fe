"""The cache's size limit, what is removed first, many processes at once, and `ptap cache`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cfi_tables import cache
from cfi_tables.elf_image import ElfImage
from cfi_tables.layout import FORMAT_VERSION
from cfi_tables.table import CompactTable, TableError, build_table


@pytest.fixture
def images(build_program) -> list[ElfImage]:
    return [ElfImage.open(build_program("gcc", level)) for level in ("-O0", "-O1", "-O2", "-O3", "-Os")]


def _used(image: ElfImage, seconds_ago: float) -> None:
    when = time.time() - seconds_ago
    os.utime(cache.table_path(image), (when, when))


def _kept(images: list[ElfImage]) -> list[bool]:
    return [cache.table_path(image).exists() for image in images]


def test_what_was_used_longest_ago_goes(images, monkeypatch):
    for age, image in enumerate(images[:4]):
        cache.table_for(image)
        _used(image, 1000 - 100 * age)
    cache.table_for(images[0])  # a use: now the first is the newest
    sizes = [cache.table_path(image).stat().st_size for image in images[:4]]
    monkeypatch.setattr(cache, "size_limit", lambda: int(sum(sizes) * 0.8))
    cache.table_for(images[4])
    kept = _kept(images)
    assert kept[0] and kept[4] and not kept[1]
    # what is kept was used after what went: 1, 2, 3 is the order of use
    assert kept[1:4] == sorted(kept[1:4])
    total = sum(table.size for table in cache.cached_tables())
    assert total <= sum(sizes) * 0.8


def test_nothing_goes_below_the_limit(images):
    for image in images:
        cache.table_for(image)
    assert cache.evict(sum(table.size for table in cache.cached_tables())) == 0
    assert _kept(images) == [True] * 5


def test_older_formats_go_first(images, monkeypatch):
    cache.table_for(images[0])
    _used(images[0], 5000)
    old = cache.tables_directory() / f"v{FORMAT_VERSION - 1}-62-abcdef.table"
    old.write_bytes(bytes(1000))
    cache.evict(cache.table_path(images[0]).stat().st_size + 500)
    assert not old.exists() and cache.table_path(images[0]).exists()


def test_a_table_of_an_older_format_is_built_again(images):
    """Under the name of the present one: its contents say what it is."""
    wanted = cache.table_for(images[0]).data.tobytes()
    path = cache.table_path(images[0])
    data = bytearray(wanted)
    data[4:6] = (FORMAT_VERSION - 1).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(TableError, match="format"):
        CompactTable.load(path)
    assert cache.table_for(images[0]).data.tobytes() == wanted
    assert path.read_bytes() == wanted


def test_a_removed_table_stays_usable_where_it_is_mapped(images):
    cache.table_for(images[0])
    mapped = cache.table_for(images[0])
    rows = list(mapped.rows())
    assert cache.clear()[0] == 1
    assert list(mapped.rows()) == rows


def test_abandoned_files_are_removed(images):
    cache.table_for(images[0])
    folder = cache.tables_directory()
    old, new = folder / ".v1-62-aa.table.1.00", folder / ".v1-62-bb.table.2.00"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.evict(0)
    assert not old.exists() and new.exists()


def test_a_table_larger_than_the_limit_is_not_kept(images, monkeypatch):
    monkeypatch.setenv("PTAP_CACHE_LIMIT", "0")
    assert cache.table_for(images[0]).row_count
    assert cache.cached_tables() == []


_WORKER = """
import random, sys
from cfi_tables import cache
from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable, build_table
cache.size_limit = lambda: int(sys.argv[1])
images = [ElfImage.open(path) for path in sys.argv[3:]]
wanted = [build_table(image).data.tobytes() for image in images]
source = random.Random(sys.argv[2])
for turn in range(60):
    which = source.randrange(len(images))
    assert cache.table_for(images[which]).data.tobytes() == wanted[which]
    if turn % 20 == 19:
        cache.clear()
"""


def test_many_processes_at_once(images, tmp_path):
    """With a limit that has room for two of five tables, so that every process removes what others use."""
    largest = max(len(build_table(image).data) for image in images)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    paths = [image.path for image in images]
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(2 * largest), str(seed), *paths], env=environment)
        for seed in range(6)
    ]
    assert [worker.wait() for worker in workers] == [0] * 6
    left = list((tmp_path / "ptap" / "tables").iterdir())
    assert not [path for path in left if path.name.startswith(".")], "temporary files were left"


def _ptap(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ptap.cli.main import main; main()", "cache", *arguments]
    surroundings = {**os.environ, "XDG_CACHE_HOME": str(folder), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=surroundings)


def test_command(images, tmp_path, monkeypatch):
    empty = _ptap(tmp_path, "list")
    assert (empty.returncode, empty.stdout) == (0, "")
    monkeypatch.setattr(cache, "tables_directory", lambda: tmp_path / "ptap" / "tables")
    for image in images[:2]:
        cache.table_for(image)
    _used(images[0], 7200)
    listed = _ptap(tmp_path, "list")
    lines = listed.stdout.splitlines()
    assert [images[1].build_id.hex() in lines[0], images[0].build_id.hex() in lines[1]] == [True, True]
    assert str(cache.table_path(images[1]).stat().st_size) in lines[0] and "x86-64" in lines[0]
    assert "2 tables" in listed.stderr and "512 MiB" in listed.stderr
    cleared = _ptap(tmp_path, "clear")
    assert cleared.returncode == 0 and "removed 2 tables" in cleared.stderr
    assert _ptap(tmp_path, "list").stdout == ""
    wrong = _ptap(tmp_path, "list", PTAP_CACHE_LIMIT="lots")
    assert wrong.returncode == 2 and "PTAP_CACHE_LIMIT" in wrong.stderr
