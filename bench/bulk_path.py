"""The whole path of a perf.data file, as a process of its own: read, walk, name; figures in JSON on standard output.

`python -m bench.bulk_path FILE [--names] [--again]`. With --names, functions, files and lines of all frames are looked
up, and made text once for each distinct place. With --again everything is walked a second time, to tell the time of a
walk from that of loading compiled code and tables. Process start and imports are part of what the caller measures.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from itertools import chain

_NAMED_AT_ONCE = 64
"""Pieces of stacks: what is new in them is looked up together."""


def main() -> None:
    """Process the file named on the command line."""
    from cfi_tables.numpy_threads import leave_out_numpy_threads

    leave_out_numpy_threads()
    gc.disable()  # as reports do (`ptap.perf_report`)
    from relay_reader.perf_columns import PerfColumns
    from relay_reader.perf_data import PerfData
    from unwind.column_stacks import ColumnWalker
    from unwind.module import ModuleCatalog

    path = sys.argv[1]
    catalog = ModuleCatalog()
    begin = time.perf_counter()
    samples = frames = 0
    if "--names" in sys.argv[2:]:
        from unwind.column_names import ColumnNames

        names = ColumnNames()
        naming = 0.0
        waiting = []
        walks = ColumnWalker(catalog, 100_000).walk(PerfColumns(PerfData(path)))
        for stacks in chain(walks, (None,)):
            if stacks is not None:
                samples, frames = samples + len(stacks.times), frames + len(stacks.frames)
                waiting.append(stacks)
            if stacks is None or len(waiting) == _NAMED_AT_ONCE:
                named = time.perf_counter()
                for each in waiting:
                    names.numbers_of(each)
                naming += time.perf_counter() - named
                waiting = []
        named = time.perf_counter()
        texts = [names.frames(number) for number in range(names.count)]
        naming += time.perf_counter() - named
        told = {"places": len(texts), "inlined": sum(len(each) - 1 for each in texts[1:]), "names": naming}
    else:
        for stacks in ColumnWalker(catalog, 100_000).walk(PerfColumns(PerfData(path))):
            samples, frames = samples + len(stacks.times), frames + len(stacks.frames)
        told = {}
    walked = time.perf_counter()
    if "--again" in sys.argv[2:]:
        again = sum(len(stacks.frames) for stacks in ColumnWalker(catalog, 100_000).walk(PerfColumns(PerfData(path))))
        assert again == frames
        told["again"] = time.perf_counter() - walked
    print(json.dumps({"samples": samples, "frames": frames, "walk": walked - begin, **told}))


if __name__ == "__main__":
    main()
