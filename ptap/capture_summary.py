"""What a capture file is and holds, without its stacks being walked: for `ptap info`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import Any

from relay_reader.capture import Mapping, MappingAdded, RecordsLost, Sample
from relay_reader.capture_file.facts import SourceFacts
from relay_reader.capture_file.reader import CaptureFile


class CaptureSummary:
    """Reads the file at `path` to its end. Raises CaptureFileError and OSError."""

    def __init__(self, path: str) -> None:
        self._file = CaptureFile(path)
        self._sources: dict[int, EventCounts] = {}
        for source, event in self._file.events():
            counts = self._sources.setdefault(source, EventCounts())
            counts.add(event)
        for source in self._file.sources:
            self._sources.setdefault(source, EventCounts())

    def object(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        file = self._file
        ends = file.ends
        return {
            "path": file.path,
            "bytes": os.path.getsize(file.path),
            "chunks": file.chunks,
            "complete": ends is not None and not file.faults,
            "damage": file.damage,
            "events_lost": file.events_lost,
            "bytes_skipped": file.bytes_skipped,
            "parts": {name: asdict(size) for name, size in file.sizes.items()},
            "recordings": [
                {
                    **asdict(file.sources.get(source, SourceFacts())),
                    **counts.object(),
                    "problems": ends[source].problems if ends is not None and source < len(ends) else [],
                }
                for source, counts in sorted(self._sources.items())
            ],
        }


class EventCounts:
    """Counts the events of one recording."""

    def __init__(self) -> None:
        self._events: Counter[str] = Counter()
        self._lost = 0
        self._times: tuple[int, int] | None = None
        self._processes: set[int] = set()
        self._threads: set[int] = set()
        self._mappings: dict[tuple[str, bytes | None], None] = {}
        self._hits: Counter[int] = Counter()
        self._stack_bytes = 0

    def add(self, event: object) -> None:
        """Count one event."""
        self._events[type(event).__name__] += 1
        if isinstance(event, RecordsLost):
            self._lost += event.count
        elif isinstance(event, MappingAdded):
            mapping: Mapping = event.mapping
            self._mappings[mapping.path, mapping.build_id] = None
        elif isinstance(event, Sample):
            first, last = self._times or (event.time_ns, event.time_ns)
            self._times = min(first, event.time_ns), max(last, event.time_ns)
            self._processes.add(event.pid)
            self._threads.add(event.tid)
            self._hits.update(event.places)
            self._stack_bytes += sum(len(each.data) for each in event.slices)

    def object(self) -> dict[str, Any]:
        """What was counted, as a JSON object."""
        return {
            "events": dict(self._events),
            "samples": self._events["Sample"],
            "lost": self._lost,
            "span_ns": self._times[1] - self._times[0] if self._times else 0,
            "processes": len(self._processes),
            "threads": len(self._threads),
            "stack_bytes": self._stack_bytes,
            "hits": {str(place): count for place, count in sorted(self._hits.items())},
            "mapped": [
                {"path": path, "build_id": build_id.hex() if build_id else None} for path, build_id in self._mappings
            ],
        }
