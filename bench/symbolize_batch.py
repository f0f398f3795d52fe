"""Symbolize many uniform addresses, columns in and out: `python -m bench.symbolize_batch ELF COUNT [--addresses]`.

Prints how long opening, the first batch and the same batch again took, in seconds; with --addresses, the addresses.
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
    places = np.random.default_rng(1).integers(0, int(sizes.sum()), count)
    ends = np.cumsum(sizes)
    which = np.searchsorted(ends, places, side="right")
    starts = np.array([each.address for each in sections], dtype=np.uint64)
    found: NDArray[np.uint64] = starts[which] + (places - (ends - sizes)[which]).astype(np.uint64)
    return found


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    symbolizer = Symbolizer.open(path)
    addresses = uniform_addresses(symbolizer.image, count)
    if sys.argv[3:] == ["--addresses"]:
        print("\n".join(map(hex, addresses.tolist())))
        return
    times = [time.perf_counter()]
    symbolizer.has_index()
    times.append(time.perf_counter())
    for _ in range(2):
        symbolizer.frames(addresses)
        times.append(time.perf_counter())
    print(*np.diff(times).tolist())


if __name__ == "__main__":
    main()
