"""The probe places of a capture by file, and where they lie in an address space.

A mapping belongs to a file when device and inode agree. Some file systems (btrfs, overlays of older kernels)
print other numbers in /proc/PID/maps than stat(2) gives; then the mapped path is looked up as the process sees
it, through /proc/PID/root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ptap.backend.live_capture import CaptureError, PlaceKind, ProbePlace
from ptap.backend.ptrace.address_space import INT3
from ptap.backend.ptrace.memory_map import MapRow


@dataclass(slots=True)
class _Patch:
    entries: list[int] = field(default_factory=list)
    returns: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _FilePlaces:
    path: str
    identity: os.stat_result
    patches: dict[int, _Patch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MappedPlace:
    """Where an address space has the places of one file offset."""

    address: int
    path: str
    file_offset: int
    entries: tuple[int, ...]
    returns: tuple[int, ...]


class PlaceTable:
    """Probe places grouped by file and file offset."""

    def __init__(self, places: Sequence[ProbePlace]) -> None:
        """Raises CaptureError when a place's file cannot be looked at."""
        by_path: dict[str, _FilePlaces] = {}
        for index, place in enumerate(places):
            entry = by_path.get(place.path)
            if entry is None:
                try:
                    identity = os.stat(place.path)
                except OSError as error:
                    raise CaptureError(f"{place.path}: {error.strerror}; name a file that can be read") from None
                entry = by_path[place.path] = _FilePlaces(place.path, identity)
            patch = entry.patches.setdefault(place.file_offset, _Patch())
            (patch.entries if place.kind is PlaceKind.ENTRY else patch.returns).append(index)
        self._files = list(by_path.values())
        self.taken: set[tuple[str, int]] = set()
        """Path and file offset of places where somebody else's breakpoint was before ours."""

    def mapped(self, tid: int, row: MapRow) -> Iterator[MappedPlace]:
        """All that an executable mapping of `tid` holds."""
        if not row.inode:
            return
        for file in self._files:
            if not _same_file(tid, row, file):
                continue
            for offset, patch in file.patches.items():
                if 0 <= offset - row.file_offset < row.end - row.start:
                    address = row.start + offset - row.file_offset
                    yield MappedPlace(address, file.path, offset, tuple(patch.entries), tuple(patch.returns))

    def note_int3(self, place: MappedPlace) -> None:
        """An int3 was at `place` before ours: somebody else's, when the file has another byte there."""
        try:
            with open(place.path, "rb") as file:
                file.seek(place.file_offset)
                if file.read(1) not in (INT3, b""):
                    self.taken.add((place.path, place.file_offset))
        except OSError:
            return  # replaced or removed since: nothing can be said


def _same_file(tid: int, row: MapRow, file: _FilePlaces) -> bool:
    device = file.identity.st_dev
    if row.inode == file.identity.st_ino and row.device == (os.major(device), os.minor(device)):
        return True
    if os.path.basename(row.path) != os.path.basename(file.path):
        return False
    try:
        seen = os.stat(f"/proc/{tid}/root{row.path}")
    except OSError:
        # Not to be looked at from here (another user's root): the path is all there is.
        return row.path == file.path
    return os.path.samestat(seen, file.identity)
