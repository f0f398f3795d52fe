"""Address spaces: which file is mapped where, for each process, as of the event last applied.

Fed with the mapping, fork, exec and exit events of a capture in time order; read by the walk and by probe
bookkeeping. A process that execs starts from nothing: no mapping of the old program is ever seen in the new one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from relay_reader.capture import (
    Event,
    Mapping,
    MappingAdded,
    ProcessExeced,
    ProcessForked,
    ThreadExited,
    ThreadNamed,
)


class AddressSpace:
    """The executable mappings of one process, sorted by start and free of overlaps."""

    def __init__(self, mappings: list[Mapping] | None = None) -> None:
        self._mappings: list[Mapping] = list(mappings or [])
        self._starts = [mapping.start for mapping in self._mappings]
        self.version = 0
        """Grows with every change, so that readers know when what they derived is stale."""

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._mappings)

    def __len__(self) -> int:
        return len(self._mappings)

    def find(self, address: int) -> Mapping | None:
        """The mapping that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._mappings[index].end:
            return self._mappings[index]
        return None

    def add(self, mapping: Mapping) -> None:
        """Map over whatever is there, as mmap with MAP_FIXED does: overlapped parts of older mappings go."""
        kept: list[Mapping] = []
        for old in self._mappings:
            if old.end <= mapping.start or old.start >= mapping.end:
                kept.append(old)
                continue
            if old.start < mapping.start:
                kept.append(replace(old, end=mapping.start))
            if old.end > mapping.end:
                shift = mapping.end - old.start
                kept.append(replace(old, start=mapping.end, file_offset=old.file_offset + shift))
        kept.append(mapping)
        self._set(sorted(kept, key=lambda each: each.start))

    def clear(self) -> None:
        """Forget every mapping: the process runs another program."""
        self._set([])

    def copy(self) -> AddressSpace:
        """What a forked child starts with."""
        return AddressSpace(self._mappings)

    def _set(self, mappings: list[Mapping]) -> None:
        if mappings != self._mappings:
            self._mappings = mappings
            self._starts = [mapping.start for mapping in mappings]
            self.version += 1


class AddressSpaces:
    """The address spaces and the names of all processes of a capture."""

    def __init__(self) -> None:
        self._by_pid: dict[int, AddressSpace] = {}
        self._comm_by_tid: dict[int, str] = {}

    def of(self, pid: int) -> AddressSpace:
        """The address space of `pid`, empty when nothing was told of it."""
        return self._by_pid.setdefault(pid, AddressSpace())

    def comm(self, pid: int, tid: int) -> str:
        """The name of thread `tid`: its own, else its process's, else ""."""
        return self._comm_by_tid.get(tid) or self._comm_by_tid.get(pid, "")

    def apply(self, event: Event) -> None:
        """Bring the state up to `event`; samples and losses change nothing."""
        match event:
            case MappingAdded(pid=pid, mapping=mapping):
                self.of(pid).add(mapping)
            case ProcessForked(pid=pid, parent_pid=parent, tid=tid, parent_tid=parent_tid, inherits=inherits):
                if pid != parent:
                    self._by_pid[pid] = self.of(parent).copy() if inherits else AddressSpace()
                self._comm_by_tid[tid] = self.comm(parent, parent_tid)
            case ProcessExeced(pid=pid, comm=comm):
                self.of(pid).clear()
                self._comm_by_tid[pid] = comm
            case ThreadNamed(tid=tid, comm=comm):
                self._comm_by_tid[tid] = comm
            case ThreadExited(pid=pid, tid=tid):
                # Records of a dying process may still follow its exit record, so its space is kept: a pid that
                # comes again begins with a fork, which replaces it.
                if tid != pid:
                    self._comm_by_tid.pop(tid, None)
