"""Compact tables: their size against the sections they replace, building against the tools that decode the same
section, and a lookup against a plain binary search over the same start addresses.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.comparison import Bench, Comparison, Result, Unavailable
from cfi_tables.cfi_sources import frame_sections
from cfi_tables.elf_image import ElfImage
from cfi_tables.lookup import find_rule
from cfi_tables.section_rows import decode_section
from cfi_tables.table import CompactTable, build_table

_FOLDERS = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/usr/bin")
_FILES = (
    "libc.so.6",
    "libstdc++.so.6",
    "libcrypto.so.3",
    "libpython3.11.so.1.0",
    "gdb",
    "cc1plus",
    "libLLVM-14.so.1",
)
_LARGE = ("cc1plus", "libLLVM-14.so.1")
_DECODERS = {
    "readelf": ("readelf", "--debug-dump=frames-interp"),
    "llvm-dwarfdump": ("llvm-dwarfdump-14", "--eh-frame"),
}


def binaries() -> Iterator[tuple[str, Path]]:
    """(name, path) of the files that the figures are for, as far as they are installed."""
    folders = [Path(folder) for folder in _FOLDERS] + sorted(Path("/usr/lib/gcc").glob("*/*"))
    for name in _FILES:
        for folder in folders:
            if (folder / name).exists():
                yield name, folder / name
                break


def replaced_bytes(image: ElfImage) -> int:
    """Bytes of the sections that a table stands for."""
    return sum(image.sections[name].size for name in (".eh_frame", ".eh_frame_hdr") if name in image.sections)


def in_turn(actions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds that each action takes, the median of so many runs in turn."""
    spent: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(runs):
        for name, action in actions.items():
            begin = time.perf_counter()
            action()
            spent[name].append(time.perf_counter() - begin)
    return {name: median(times) for name, times in spent.items()}


def build_times(path: Path, runs: int) -> dict[str, float]:
    """Seconds to build the table, warm, and those that each installed decoder of the same section takes."""
    image = ElfImage.open(path)
    build_table(image, use_compiled=True)
    actions: dict[str, Callable[[], object]] = {"build": lambda: build_table(image, use_compiled=True)}
    for name, command in _DECODERS.items():
        if shutil.which(command[0]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
            actions[name] = partial(subprocess.run, [*command, str(path)], **quiet)
    return in_turn(actions, runs)


def decode_time(path: Path, runs: int) -> float:
    """Seconds that the section's rows alone take, without a table made of them."""
    image = ElfImage.open(path)
    sections = list(frame_sections(image, None))
    return in_turn({"decode": lambda: [decode_section(each, True) for each, _ in sections]}, runs)["decode"]


def lookup_times(table: CompactTable, runs: int, count: int = 40_000) -> dict[str, float]:
    """Nanoseconds of one lookup at a random address: in the table, and by binary search over u32 start addresses."""
    import numba

    from cfi_tables.loop_compiler import machine_code

    find: Any = machine_code(find_rule)

    @numba.njit
    def in_table(data: Any, addresses: Any) -> int:
        found = 0
        for address in addresses:
            found += find(data, 0, address)
        return found

    @numba.njit
    def by_search(starts: Any, addresses: Any) -> int:
        found = 0
        for address in addresses:
            low, high = 0, len(starts)
            while low < high:
                middle = (low + high) >> 1
                if starts[middle] <= address:
                    low = middle + 1
                else:
                    high = middle
            found += low
        return found

    starts: NDArray[np.uint32] = table.row_columns()[0].astype(np.uint32)
    low, high = table.text_range
    relative = np.random.default_rng(1).integers(0, high - low, count)
    inside, plain = relative + low, relative.astype(np.uint32)
    in_table(table.data, inside[:1])
    by_search(starts, plain[:1])
    times = in_turn({"table": lambda: in_table(table.data, inside), "search": lambda: by_search(starts, plain)}, runs)
    return {name: seconds / count * 1e9 for name, seconds in times.items()}


def run(bench: Bench) -> Result:
    """Measure every file that is installed; building only where it takes long."""
    sizes, lookups, builds, remarks = [], [], [], []
    for name, path in binaries():
        image = ElfImage.open(path)
        table = build_table(image, use_compiled=True)
        replaced = replaced_bytes(image)
        sizes.append(
            Comparison(f"size, {name}", len(table.data), replaced, "bytes", False, f"{table.row_count:,} rows")
        )
        lookup = lookup_times(table, 10 * bench.rounds)
        lookups.append(Comparison(f"lookup, {name}", lookup["table"], lookup["search"], "ns", False, "binary search"))
        if name in _LARGE:
            times = build_times(path, 3 * bench.rounds)
            builds += [
                Comparison(f"build, {name}", times["build"], seconds, "s", False, " ".join(_DECODERS[other]))
                for other, seconds in times.items()
                if other != "build"
            ]
            decoded = decode_time(path, 3 * bench.rounds)
            remarks.append(f"{name}: decoding the rows alone takes {decoded:.3f} s, the table {times['build']:.3f} s.")
    if not sizes:
        raise Unavailable("none of the files that the figures are for is installed")
    return Result(
        "Compact tables",
        "Whole table against .eh_frame and .eh_frame_hdr; a lookup at random addresses; building from a mapped file.",
        [*sizes, *lookups, *builds],
        ["python -m bench compact_tables"],
        remarks,
    )
