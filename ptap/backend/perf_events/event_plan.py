"""Which kernel events a capture opens on each thread and CPU, and what a record of each one means.

Places that are the same address and kind share one event. A RETURN place needs a look at every entry too, so that
the true return address is known while the kernel's trampoline stands in its slot: an ENTRY place at the same
address gives it, else a small event of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ptap.backend.live_capture import CaptureError, PlaceKind, ProbePlace
from ptap.backend.perf_events import event_attr
from ptap.backend.perf_events.event_attr import EventAttr
from ptap.backend.perf_events.extra_event import ExtraEvent, SamplingEvent
from ptap.backend.perf_events.tracefs import TraceFilesystem
from ptap.backend.perf_events.uprobe_events import UprobeEvents
from relay_reader.perf_record import EventLayout


class Role(Enum):
    """What a record of an event is for."""

    SIDE_BAND = "side-band"
    """Mappings, names, forks and exits; never a sample."""
    HIT = "hit"
    """A sample to deliver."""
    ENTRY_HIT = "entry hit"
    """A sample to deliver, which is also the entry of a return-probed call."""
    ENTRY_SLOT = "entry slot"
    """The entry of a return-probed call, not delivered."""
    RETURN_HIT = "return hit"
    """A sample to deliver; a return-probed call came back."""


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """One event to open on every traced thread and CPU."""

    attr: EventAttr
    layout: EventLayout
    role: Role
    name: str
    """For messages: what the user asked for."""
    is_uprobe: bool = False
    """A probe in user code, which needs `event_attr.breakpoint_keeper`."""


def clamp_user_stack(size: int) -> int:
    """`size` bytes as attr.sample_stack_user takes it: a multiple of 8, at most 65,528."""
    return max(0, min((size + 7) // 8 * 8, event_attr.MAXIMUM_USER_STACK))


def side_band_event(*, enable_on_exec: bool) -> PlannedEvent:
    """The event that reports what happens to processes; all side-band records have its layout."""
    attr = event_attr.side_band(enable_on_exec=enable_on_exec)
    return PlannedEvent(attr, attr.layout(), Role.SIDE_BAND, "side-band")


def place_events(
    places: Sequence[ProbePlace], probes: UprobeEvents, user_stack: int, *, enable_on_exec: bool
) -> list[PlannedEvent]:
    """Define the probes of `places` and plan their events. Raises CaptureError."""
    indices: dict[ProbePlace, tuple[int, ...]] = {}
    for index, place in enumerate(places):
        indices[place] = indices.get(place, ()) + (index,)
    planned: list[PlannedEvent] = []
    # Entries first: an event that is opened earlier reports earlier at the same instruction.
    for place in sorted(indices, key=lambda place: place.kind is PlaceKind.RETURN):
        name = f"{place.path}+0x{place.file_offset:x}"
        number = probes.define(place.path, place.file_offset, place.kind)
        attr = event_attr.probe_hit(number, user_stack, enable_on_exec=enable_on_exec)
        layout = attr.layout(indices[place])
        twin_kind = PlaceKind.ENTRY if place.kind is PlaceKind.RETURN else PlaceKind.RETURN
        has_twin = ProbePlace(place.path, place.file_offset, twin_kind) in indices and user_stack >= 8
        if place.kind is PlaceKind.ENTRY:
            planned.append(PlannedEvent(attr, layout, Role.ENTRY_HIT if has_twin else Role.HIT, name, True))
            continue
        if not has_twin:
            entry = probes.define(place.path, place.file_offset, PlaceKind.ENTRY)
            slot = event_attr.entry_slot(entry, enable_on_exec=enable_on_exec)
            planned.append(PlannedEvent(slot, slot.layout(), Role.ENTRY_SLOT, name, True))
        planned.append(PlannedEvent(attr, layout, Role.RETURN_HIT, name, True))
    return planned


def extra_events(
    extra: Sequence[ExtraEvent],
    tracefs: TraceFilesystem | None,
    first_index: int,
    user_stack: int,
    *,
    enable_on_exec: bool,
) -> list[PlannedEvent]:
    """Plan the events that are no probe places; the k-th gives `Sample.places` (first_index + k,)."""
    planned: list[PlannedEvent] = []
    for index, event in enumerate(extra, first_index):
        if isinstance(event, SamplingEvent):
            clock = {
                "cpu-clock": event_attr.SOFTWARE_CPU_CLOCK,
                "task-clock": event_attr.SOFTWARE_TASK_CLOCK,
            }[event.kind]
            attr = event_attr.kernel_event(
                *(event_attr.TYPE_SOFTWARE, clock, user_stack),
                frequency=event.frequency,
                enable_on_exec=enable_on_exec,
            )
            name = event.kind
        else:
            assert tracefs is not None
            attr = event_attr.kernel_event(
                *(event_attr.TYPE_TRACEPOINT, _tracepoint(tracefs, event.name), user_stack),
                period=1,
                enable_on_exec=enable_on_exec,
            )
            name = event.name
        planned.append(PlannedEvent(attr, attr.layout((index,)), Role.HIT, name))
    return planned


def _tracepoint(tracefs: TraceFilesystem, name: str) -> int:
    group, _, event = name.partition(":")
    try:
        return tracefs.event_id(group, event)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise CaptureError(
                f"this kernel has no tracepoint {name}: look in /sys/kernel/tracing/available_events"
            ) from error
        raise CaptureError(
            f"cannot read the tracepoint {name}: {os.strerror(error.errno or 0)}: run as root"
        ) from error
