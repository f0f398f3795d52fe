"""Stacks from the cache alone: the same as the trace builder's, without NumPy, and never from what is damaged."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from live_stack.conftest import ROOT, stacks

from cfi_tables.cache import cached_path, tables_directory
from cfi_tables.compiled_cache import compiled_cache_directory
from cfi_tables.elf_image import ElfImage
from unwind.symbolize.index_cache import cached_index
from unwind.symbolize.index_layout import FORMAT_VERSION
from unwind.symbolize.index_lookup import IndexLookup
from unwind.symbolize.small_lookup import SmallLookup
from unwind.symbolize.symbolizer import Symbolizer


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache without tables and names, with the machine code of the usual one, which takes a minute to make."""
    compiled = compiled_cache_directory()
    cache = tmp_path / "cache"
    (cache / "ptap").mkdir(parents=True)
    if compiled is not None:
        (cache / "ptap" / "compiled").symlink_to(compiled.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.mark.parametrize(("mode", "threads"), [("threads", 5), ("handlers", 2), ("deep", 1)])
def test_the_same_as_the_trace_builder_says(standing, own_cache, mode, threads):
    process = standing(mode, threads)
    built, cold = stacks(process.pid)
    assert not cold.is_warm
    cold.keep_names()
    warm, report = stacks(process.pid)
    assert report.is_warm
    for ours, theirs in zip(warm, built, strict=True):
        assert {**ours, "time_ns": 0} == {**theirs, "time_ns": 0}
    assert list(report.closing_lines(False)) == list(cold.closing_lines(False))
    if mode == "deep":
        assert sum(frame["function"] == "descend" for frame in warm[0]["frames"]) == 1501
        (cut,), limited = stacks(process.pid, max_depth=100)
        assert limited.is_warm and cut["stop"] == "too_deep" and len(cut["frames"]) == 100


def test_no_numpy_is_imported(standing, own_cache):
    process = standing("threads", 5)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    command = [sys.executable, "-X", "importtime", "-m", "ptap", "stack", str(process.pid)]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and "descend" in runs[1].stdout
    modules = {
        line.rpartition("|")[2].strip() for line in runs[1].stderr.splitlines() if line.startswith("import time")
    }
    assert "unwind.warm_traces" in modules
    assert not modules & {"numpy", "numba", "construct", "elftools", "unwind.trace_builder"}


@pytest.mark.parametrize("kept", ["table", "names"])
def test_damage_in_the_cache_is_noticed(standing, own_cache, kept):
    process = standing("threads", 5)
    whole, cold = stacks(process.pid)
    cold.keep_names()
    name = ElfImage.open(process.program).build_id.hex()
    found = [each for each in tables_directory().glob(f"*{name}*") if (each.suffix == ".table") == (kept == "table")]
    (path,) = found
    content = bytearray(path.read_bytes())
    for place in (len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        found, report = stacks(process.pid)
        assert not report.is_warm
        assert [trace["frames"] for trace in found] == [trace["frames"] for trace in whole]
    path.write_bytes(content)
    path.write_bytes(content[: len(content) // 2])
    assert not stacks(process.pid)[1].is_warm


def test_one_address_at_a_time_says_what_many_at_once_do(programs):
    image = ElfImage.open(programs.build("inline_nest"))
    symbolizer = Symbolizer(image)
    symbolizer.build_index()
    index = cached_index(image, None)
    assert index is not None
    many = IndexLookup(index)
    small = SmallLookup(cached_path(image, None, FORMAT_VERSION, "symbols"), image.machine, image.build_id)
    low, high = min(index.arrays["mapped"]), max(index.arrays["mapped"])
    text = image.sections[".text"]
    addresses = np.arange(max(low, text.address - 64), min(high, text.address + text.size + 64), dtype=np.uint64)
    found = many.frames(addresses)
    offsets = many.function_offsets(addresses)
    deepest = 0
    for number, address in enumerate(addresses.tolist()):
        frames = small.frames(address)
        part = slice(found.offsets[number], found.offsets[number + 1])
        theirs = [
            (found.name_table[name] or None, found.file_table[file] or None, line or None, column or None, inlined)
            for name, file, line, column, inlined in zip(
                *(
                    each[part].tolist()
                    for each in (found.names, found.files, found.lines, found.columns, found.inlined)
                ),
                strict=True,
            )
        ]
        assert [tuple(frame) for frame in frames] == theirs
        assert small.function_offset(address) == (None if offsets[number] < 0 else offsets[number])
        deepest = max(deepest, len(frames))
    assert deepest >= 3
