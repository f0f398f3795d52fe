"""The whole path of a recorded file, as a process of its own: read, walk, name; times in JSON on standard output.

`python -m bench.bulk_path FILE [--names]`. Without names everything is walked a second time, to tell the time of the
walk from that of loading compiled code and tables; callers take that time off the whole. Process start and imports
are part of what the caller measures.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    """Process the file named on the command line."""
    from relay_reader.perf_data import read_perf_data
    from unwind.batch_names import BatchNames
    from unwind.batch_walk import BatchWalker
    from unwind.module import ModuleCatalog

    path = sys.argv[1]
    names = BatchNames() if "--names" in sys.argv[2:] else None
    catalog = ModuleCatalog()
    begin = time.perf_counter()
    events = list(read_perf_data(path))
    read = time.perf_counter()
    batches = list(BatchWalker(catalog, 100_000).walk(events))
    walked = time.perf_counter()
    if names is not None:
        for batch in batches:
            names.places_of(batch)
    named = time.perf_counter()
    again = len(list(BatchWalker(catalog, 100_000).walk(events))) if names is None else 0
    steady = time.perf_counter() - named
    assert again in (0, len(batches))
    print(
        json.dumps(
            {
                "samples": sum(len(batch.samples) for batch in batches),
                "frames": sum(len(batch.frames) for batch in batches),
                "places": len(names.places) if names is not None else 0,
                "read": read - begin,
                "walk": walked - read,
                "names": named - walked,
                "walk_again": steady,
            }
        )
    )


if __name__ == "__main__":
    main()
