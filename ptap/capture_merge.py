"""Several capture files into one, by time: each recording stays apart, with its own machine, processes and probes.

Times of one boot are compared as they are; those of different machines by what each file says of the time of day.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from relay_reader.capture import Event
from relay_reader.capture_file.facts import SourceEnd, SourceFacts
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.capture_file.row_layout import MOST_SOURCES
from relay_reader.capture_file.writer import CaptureWriteError, CaptureWriter


class CaptureMerge:
    """Merges the files at `paths` into a new one. Raises CaptureFileError, CaptureWriteError and OSError."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [CaptureFile(path) for path in paths]
        self._sources: list[SourceFacts] = []
        self._first: list[int] = []
        """Of each file, the number that its source 0 gets."""
        for file in self._files:
            file.read_facts()
            file.read_blobs()
            self._first.append(len(self._sources))
            count = max(file.sources, default=0) + 1
            self._sources += [file.sources.get(number, SourceFacts()) for number in range(count)]
        self._one_clock = len({(facts.machine.boot_id, facts.machine.clock) for facts in self._sources}) == 1
        if len(self._sources) > MOST_SOURCES:
            raise CaptureWriteError(f"more than {MOST_SOURCES} recordings do not fit into a file")

    def write(self, output: str) -> list[str]:
        """Write the file; what could not be read, a line each."""
        writer = CaptureWriter(output, self._sources)
        try:
            copied: set[tuple[int, int, str]] = set()
            streams = [self._events(number) for number in range(len(self._files))]
            for _, number, source, event in heapq.merge(*streams, key=lambda each: each[0]):
                for (of, name), content in self._files[number].blobs.items():
                    if (number, of, name) not in copied:
                        copied.add((number, of, name))
                        writer.add_blob(name, content, self._first[number] + of)
                writer.add(event, self._first[number] + source)
            ended = all(file.ends is not None for file in self._files)
            if ended:
                writer.close(self._ends(writer.ends))
            else:
                writer.flush()
                writer.abandon()
        finally:
            writer.abandon()
        return [f"{file.path}: {line}" for file in self._files for line in file.damage]

    def _events(self, number: int) -> Iterator[tuple[int, int, int, Event]]:
        """(time that all share, number of the file, source, event), in order."""
        last = None
        for source, event in self._files[number].events():
            facts = self._sources[self._first[number] + source]
            offset = 0 if self._one_clock else facts.machine.wall_offset_ns
            # What comes behind in its file stays behind, even if a source tells it late.
            last = event.time_ns + offset if last is None else max(last, event.time_ns + offset)
            yield last, number, source, event

    def _ends(self, counted: Sequence[SourceEnd]) -> list[SourceEnd]:
        """What the recordings came to, as their files say it, with the losses of damaged chunks."""
        ends = list(counted)
        for first, file in zip(self._first, self._files, strict=True):
            for source, end in enumerate(file.ends or ()):
                if first + source < len(ends):
                    counts = ends[first + source]
                    ends[first + source] = SourceEnd(counts.samples, counts.lost, end.problems)
        return ends
