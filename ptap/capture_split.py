"""One capture file into several, each of which can be read without the others: by time, by size, or by process.

Every piece begins with what holds at its time: the mappings and the names of the processes, as they would be told if
the recording had begun there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay_reader.capture import (
    Event,
    KernelSectionPlaced,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    Sample,
    ThreadNamed,
)
from relay_reader.capture_file.facts import SourceFacts
from relay_reader.capture_file.reader import CaptureFile
from relay_reader.capture_file.writer import CaptureWriter
from unwind.address_space import AddressSpaces

_OPEN_AT_ONCE = 32
"""Pieces that are written at once, each with a chunk in memory; for more the file is read again."""


@dataclass(slots=True)
class _State:
    """What holds at a point of the file, by source."""

    spaces: dict[int, AddressSpaces] = field(default_factory=dict)
    threads: dict[tuple[int, int], int] = field(default_factory=dict)
    """(source, tid) -> pid."""
    sections: dict[tuple[int, int, int], KernelSectionPlaced] = field(default_factory=dict)

    def apply(self, source: int, event: Event) -> None:
        """Follow one event."""
        self.spaces.setdefault(source, AddressSpaces()).apply(event)
        if isinstance(event, (ProcessForked, ThreadNamed, Sample)):
            self.threads[source, event.tid] = event.pid
        elif isinstance(event, ProcessExeced):
            self.threads[source, event.pid] = event.pid
        elif isinstance(event, KernelSectionPlaced):
            self.sections[source, event.module, event.section] = event

    def all(self, time_ns: int) -> Iterator[tuple[int, Event]]:
        """The events that tell all of it, with their sources."""
        for source, spaces in self.spaces.items():
            for pid, _ in spaces.items():
                yield from ((source, event) for event in self.process(time_ns, source, pid))
        for (source, _, _), placed in self.sections.items():
            yield source, replace(placed, time_ns=time_ns)

    def process(self, time_ns: int, source: int, pid: int) -> Iterator[Event]:
        """The events that tell of one process."""
        spaces = self.spaces[source]
        for mapping in spaces.of(pid):
            yield MappingAdded(time_ns, pid, mapping)
        for tid, comm in spaces.names():
            if self.threads.get((source, tid)) == pid:
                yield ThreadNamed(time_ns, pid, tid, comm)


class CaptureSplit:
    """Splits the file at `path` into `PREFIX.NAME.ptap`. Raises CaptureFileError, CaptureWriteError and OSError."""

    def __init__(self, path: str, prefix: str) -> None:
        self._file = CaptureFile(path)
        self._prefix = prefix
        self._sources: list[SourceFacts] = []
        self._file.read_facts()
        self._file.read_blobs()
        count = max(self._file.sources, default=0) + 1
        self._sources = [self._file.sources.get(number, SourceFacts()) for number in range(count)]

    def by_time(self, every_ns: int) -> list[str]:
        """A piece for each span of `every_ns` that has events, numbered from the first event on."""
        begin: int | None = None
        latest = 0

        def piece(event: Event, _: CaptureWriter | None) -> int:
            nonlocal begin, latest
            if begin is None:
                begin = event.time_ns
            # What is told late stays behind what came before it.
            latest = max(latest, (event.time_ns - begin) // every_ns)
            return latest

        return self._in_turn(piece)

    def by_size(self, size: int) -> list[str]:
        """Pieces that end with the first chunk at which they have `size` bytes."""
        number = 0

        def piece(_: Event, writer: CaptureWriter | None) -> int:
            nonlocal number
            number += writer is not None and writer.bytes_written >= size
            return number

        return self._in_turn(piece)

    def _in_turn(self, piece_of: Callable[[Event, CaptureWriter | None], int]) -> list[str]:
        """Write pieces one after another; `piece_of` tells the number of the one that an event goes to."""
        state = _State()
        written: list[str] = []
        writer: CaptureWriter | None = None
        current = -1
        copied: set[tuple[int, str]] = set()
        try:
            for source, event in self._file.events():
                number = piece_of(event, writer)
                if writer is None or number != current:
                    if writer is not None:
                        writer.close()
                    writer, current, copied = self._open(f"{number:04d}", written), number, set()
                    for of, told in state.all(event.time_ns):
                        writer.add(told, of)
                self._copy_blobs(writer, copied)
                writer.add(event, source)
                state.apply(source, event)
            if writer is not None:
                writer.close()
        finally:
            if writer is not None:
                writer.abandon()
        return written

    def by_process(self) -> list[str]:
        """A piece for each process that has events of its own; losses, which are of no process, are in each."""
        processes: dict[tuple[int, int], None] = {}
        for source, event in self._file.events():
            pid = _pid_of(event)
            if pid is not None:
                processes[source, pid] = None
        written: list[str] = []
        names = list(processes)
        for at in range(0, len(names), _OPEN_AT_ONCE):
            self._some_processes(names[at : at + _OPEN_AT_ONCE], written)
        return written

    def _some_processes(self, names: list[tuple[int, int]], written: list[str]) -> None:
        several = len(self._sources) > 1
        state = _State()
        writers: dict[tuple[int, int], CaptureWriter] = {}
        copied: dict[tuple[int, int], set[tuple[int, str]]] = {name: set() for name in names}
        try:
            for name in names:
                writers[name] = self._open(f"{name[0]}-{name[1]}" if several else str(name[1]), written)
            begun: set[tuple[int, int]] = set()
            for source, event in self._file.events():
                pid = _pid_of(event)
                state.apply(source, event)
                for name, writer in writers.items():
                    if name[0] != source or (pid is not None and pid != name[1]):
                        continue
                    self._copy_blobs(writer, copied[name])
                    begins = pid is not None and name not in begun
                    begun |= {name} if begins else set()
                    if begins and isinstance(event, Sample):
                        self._tell(writer, state.process(event.time_ns, source, name[1]), source)
                    writer.add(event, source)
                    if begins and not isinstance(event, Sample):
                        # Behind a fork, which takes over what the parent has, of which this piece knows nothing.
                        self._tell(writer, state.process(event.time_ns, source, name[1]), source)
            for writer in writers.values():
                writer.close()
        finally:
            for writer in writers.values():
                writer.abandon()

    @staticmethod
    def _tell(writer: CaptureWriter, events: Iterator[Event], source: int) -> None:
        for event in events:
            writer.add(event, source)

    def _copy_blobs(self, writer: CaptureWriter, copied: set[tuple[int, str]]) -> None:
        """What events speak of, as far as it was read, once for each piece."""
        if len(copied) == len(self._file.blobs):
            return
        for key, content in self._file.blobs.items():
            if key not in copied:
                copied.add(key)
                writer.add_blob(key[1], content, key[0])

    def _open(self, name: str, written: list[str]) -> CaptureWriter:
        path = f"{self._prefix}.{name}.ptap"
        if Path(path).exists() and Path(path).samefile(self._file.path):
            raise FileExistsError(17, "it is the file that is split; give another --output", path)
        written.append(path)
        return CaptureWriter(path, self._sources)

    @property
    def damage(self) -> list[str]:
        """What could not be read, a line each."""
        return [f"{self._file.path}: {line}" for line in self._file.damage]


def _pid_of(event: Event) -> int | None:
    """The process that an event is of; None where it is of none, and of all."""
    pid = getattr(event, "pid", None)
    return pid if isinstance(pid, int) else None
