"""Keeping the breakpoints of an address space in step with what is mapped there.

Called when the dynamic linker says that something has changed, and after exec. Gives the executable mappings
that are new, and patches the probe places that they hold.
"""

from __future__ import annotations

from bisect import bisect_right

from ptap.backend.ptrace.address_space import AddressSpace
from ptap.backend.ptrace.library_watch import loader_breakpoint
from ptap.backend.ptrace.memory_map import MapRow, read_memory_map
from ptap.backend.ptrace.place_table import PlaceTable
from relay_reader.capture import Mapping


def refresh(tid: int, space: AddressSpace, places: PlaceTable) -> list[Mapping]:
    """Look at the mappings of thread `tid` anew; those that are executable and new since the last look.

    Raises OSError when the thread has ended.
    """
    rows, text = read_memory_map(tid)
    if text == space.map_text:
        return []
    first_look = not space.rows
    _forget_unmapped(space, rows)
    known = {row for row in space.rows if row.executable}
    space.rows, space.map_text = rows, text
    added = []
    for row in rows:
        if not row.executable or row in known or row.path == "[vsyscall]":
            continue
        added.append(row.mapping())
        for place in places.mapped(tid, row):
            point = space.insert(place.address)
            if point is not None:
                point.entry_places, point.return_places = place.entries, place.returns
                if point.taken:
                    places.note_int3(place)
    if first_look:
        rendezvous = loader_breakpoint(tid, rows)
        point = space.insert(rendezvous) if rendezvous is not None else None
        if point is not None:
            point.loader = True
    return added


def _forget_unmapped(space: AddressSpace, rows: list[MapRow]) -> None:
    """Drop the breakpoints whose memory is gone, and mend those that were mapped anew at the same place.

    A mapping that has only changed its extent or protection still holds the int3.
    """
    for address in [*space.breakpoints, *space.retired]:
        before, now = _row_at(space.rows, address), _row_at(rows, address)
        if now is None or before is None or _backing(before) != _backing(now):
            space.forget(address)
        elif address in space.breakpoints and space.breakpoints[address].permanent:
            space.reinsert(address)


def _backing(row: MapRow) -> tuple[object, ...]:
    if row.inode:
        return row.device, row.inode, row.start - row.file_offset
    return (row.path,)


def _row_at(rows: list[MapRow], address: int) -> MapRow | None:
    index = bisect_right(rows, address, key=lambda row: row.start) - 1
    return rows[index] if index >= 0 and address < rows[index].end else None
