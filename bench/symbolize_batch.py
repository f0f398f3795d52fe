"""Symbolize many uniform addresses, columns in and out: `python -m bench.symbolize_batch ELF COUNT [OPTION]`.

Prints how long opening, the first batch and the same batch again took, in seconds; with --once there is no second
batch; with --addresses nothing is symbolized, and the addresses are printed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from cfi_tables.elf_image import SHF_EXECINSTR, ElfImage
from unwind.symbolize.symbolizer import Symbolizer


def uniform_addresses(image: ElfImage, count: int) -> NDArray[np.uint64]:
    """The same addresses at each call, uniform over the sections with code."""
    sections = [each for each in image.section_list if each.flags & SHF_EXECINSTR and each.size]
    sizes = np.array([each.size for each in sections], dtype=np.int64)
    places = (_scattered(count) % np.uint64(sizes.sum())).astype(np.int64)
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, places, side="right")
    starts = np.array([each.address for each in sections], dtype=np.uint64)
    found: NDArray[np.uint64] = starts[which] + (places - (ends - sizes)[which]).astype(np.uint64)
    return found


def _scattered(count: int) -> NDArray[np.uint64]:
    """Pseudo-random numbers (SplitMix64); to import numpy.random takes a tenth of what is measured."""
    found = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ found >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ found >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return found ^ found >> np.uint64(31)


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    symbolizer = Symbolizer.open(path)
    addresses = uniform_addresses(symbolizer.image, count)
    if "--addresses" in sys.argv:
        print("\n".join(map(hex, addresses.tolist())))
        return
    times = [time.perf_counter()]
    symbolizer.has_index()
    times.append(time.perf_counter())
    for _ in range(1 if "--once" in sys.argv else 2):
        symbolizer.frames(addresses)
        times.append(time.perf_counter())
    print(*np.diff(times).tolist())


if __name__ == "__main__":
    main()
