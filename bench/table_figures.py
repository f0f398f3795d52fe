"""Figures of compact tables, each against something measured in the same run: `python -m bench.table_figures`.

Size against the sections that a table replaces, building against the tools that decode the same section, and one
lookup against a binary search over the same start addresses. Every time is the least of several runs, taken in turn,
since what else a machine does only ever adds to it.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import ElfImage
from cfi_tables.hot_loop import compiled
from cfi_tables.lookup import find_rule
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


def size_ratio(image: ElfImage, table: CompactTable) -> float:
    """The whole table against .eh_frame and .eh_frame_hdr."""
    replaced = sum(image.sections[name].size for name in (".eh_frame", ".eh_frame_hdr") if name in image.sections)
    return len(table.data) / replaced


def least_times(actions: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds that each action takes at least, of so many runs in turn."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(runs):
        for name, action in actions.items():
            begin = time.perf_counter()
            action()
            best[name] = min(best[name], time.perf_counter() - begin)
    return best


def build_times(path: Path, runs: int = 5) -> dict[str, float]:
    """Seconds to build the table, warm, and those that each installed decoder of the same section takes."""
    image = ElfImage.open(path)
    build_table(image, use_compiled=True)
    actions: dict[str, Callable[[], object]] = {"build": lambda: build_table(image, use_compiled=True)}
    for name, command in _DECODERS.items():
        if shutil.which(command[0]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
            actions[name] = partial(subprocess.run, [*command, str(path)], **quiet)
    return least_times(actions, runs)


def lookup_times(table: CompactTable, count: int = 40_000, runs: int = 40) -> dict[str, float]:
    """Nanoseconds of one lookup at a random address: in the table, and by binary search over u32 start addresses."""
    import numba

    find: Any = compiled(find_rule)

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
    times = least_times(
        {"table": lambda: in_table(table.data, inside), "search": lambda: by_search(starts, plain)}, runs
    )
    return {name: seconds / count * 1e9 for name, seconds in times.items()}


def main() -> None:
    for name, path in binaries():
        image = ElfImage.open(path)
        table = build_table(image)
        lookup = lookup_times(table)
        print(
            f"{name:22} {table.row_count:7} rows  {len(table.data):7} bytes  {size_ratio(image, table):.3f} of CFI  "
            f"lookup {lookup['table']:.0f} ns = {lookup['table'] / lookup['search']:.2f} binary searches"
        )
        if name in _LARGE:
            times = build_times(path)
            print(f"{'':22} built in {times['build'] * 1e3:.0f} ms; " + ", ".join(
                f"{other} takes {seconds / times['build']:.1f} times that"
                for other, seconds in times.items() if other != "build"
            ))  # fmt: skip


if __name__ == "__main__":
    main()
