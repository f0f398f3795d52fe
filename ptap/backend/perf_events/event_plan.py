"""Which kernel events a capture opens on each thread and CPU, and what a record of each one means.

Places are grouped: one kernel event has many probes. Places that are the same address and kind are one probe. A
RETURN place needs a look at every entry too, so that the true return address is known while the kernel's trampoline
stands in its slot: an ENTRY place at the same address gives it, else a small event of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ptap.backend.live_capture import CaptureError, PlaceKind, ProbePlace
from ptap.backend.perf_events import event_attr
from ptap.backend.perf_events.event_attr import EventAttr
from ptap.backend.perf_events.extra_event import ExtraEvent, KernelProbeEvent, OffCpuEvent, SamplingEvent
from ptap.backend.perf_events.kprobe_events import KprobeEvents
from ptap.backend.perf_events.off_cpu import SwitchTracepoint
from ptap.backend.perf_events.tracefs import TraceFilesystem
from ptap.backend.perf_events.uprobe_events import UprobeEvents
from relay_reader.perf_record import EventLayout

PAGE_OFFSET = 0xFFF


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
    SWITCH_OUT = "switch out"
    """A thread leaves the processor: a sample to deliver when it has come back."""


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """One event to open on every traced thread and CPU."""

    attr: EventAttr
    layout: EventLayout
    role: Role
    name: str
    """For messages: what the user asked for."""
    places_by_page_offset: Mapping[int, tuple[int, ...]] | None = None
    """For probes in user code: `Sample.places` by the low bits (PAGE_OFFSET) of the probed address."""


def clamp_user_stack(size: int) -> int:
    """`size` bytes as attr.sample_stack_user takes it: a multiple of 8, at most 65,528."""
    return max(0, min((size + 7) // 8 * 8, event_attr.MAXIMUM_USER_STACK))


def side_band_event(*, switches: bool = False, enable_on_exec: bool) -> PlannedEvent:
    """The event that reports what happens to processes; all side-band records have its layout."""
    attr = event_attr.side_band(switches=switches, enable_on_exec=enable_on_exec)
    return PlannedEvent(attr, attr.layout(), Role.SIDE_BAND, "side-band")


def place_events(
    places: Sequence[ProbePlace], probes: UprobeEvents, user_stack: int, *, enable_on_exec: bool
) -> list[PlannedEvent]:
    """Define the probes of `places` and plan their events. Raises CaptureError."""
    indices: dict[ProbePlace, tuple[int, ...]] = {}
    for index, place in enumerate(places):
        indices[place] = indices.get(place, ()) + (index,)
    by_role: dict[Role, list[ProbePlace]] = {Role.ENTRY_HIT: [], Role.HIT: [], Role.ENTRY_SLOT: []}
    returns: list[ProbePlace] = []
    for place in indices:
        twin_kind = PlaceKind.ENTRY if place.kind is PlaceKind.RETURN else PlaceKind.RETURN
        twin = ProbePlace(place.path, place.file_offset, twin_kind)
        has_twin = twin in indices and user_stack >= 8
        if place.kind is PlaceKind.ENTRY:
            by_role[Role.ENTRY_HIT if has_twin else Role.HIT].append(place)
            continue
        returns.append(place)
        if not has_twin:
            by_role[Role.ENTRY_SLOT].append(place)
    by_role[Role.RETURN_HIT] = returns
    planned: list[PlannedEvent] = []
    for role, members in by_role.items():
        for group in _told_apart_by_page_offset(members):
            number = _define(probes, group, role)
            attr = _ATTR_OF_ROLE[role](number, user_stack, enable_on_exec=enable_on_exec)
            by_offset = {place.file_offset & PAGE_OFFSET: indices[place] for place in group}
            first = f"{group[0].path}+0x{group[0].file_offset:x}"
            name = first if len(group) == 1 else f"{first} (defined with {len(group) - 1} more)"
            planned.append(PlannedEvent(attr, attr.layout(), role, name, by_offset))
    return planned


def _define(probes: UprobeEvents, group: Sequence[ProbePlace], role: Role) -> int:
    name = probes.new_name()
    number = 0
    for place in group:
        kind = PlaceKind.RETURN if role is Role.RETURN_HIT else PlaceKind.ENTRY
        number = probes.define(name, place.path, place.file_offset, kind)
    return number


def _told_apart_by_page_offset(places: Sequence[ProbePlace]) -> list[list[ProbePlace]]:
    # One kernel event takes many probes, and that matters: each event costs descriptors, and near 0.1 s of waiting for
    # grace periods when it is closed. A hit tells its address only, but mappings are page-aligned, so that the
    # offset in its page is that of the file: enough, when no two places of an event share it.
    groups: list[dict[int, ProbePlace]] = []
    for place in places:
        offset = place.file_offset & PAGE_OFFSET
        for group in groups:
            if offset not in group:
                group[offset] = place
                break
        else:
            groups.append({offset: place})
    return [list(group.values()) for group in groups]


def _slot_attr(event_id: int, user_stack: int, *, enable_on_exec: bool) -> EventAttr:
    return event_attr.entry_slot(event_id, enable_on_exec=enable_on_exec)


_ATTR_OF_ROLE = {
    Role.HIT: event_attr.probe_hit,
    Role.ENTRY_HIT: event_attr.probe_hit,
    Role.ENTRY_SLOT: _slot_attr,
    Role.RETURN_HIT: event_attr.return_hit,
}


def extra_events(
    extra: Sequence[ExtraEvent],
    tracefs: TraceFilesystem | None,
    kernel_probes: KprobeEvents | None,
    first_index: int,
    user_stack: int,
    *,
    enable_on_exec: bool,
    switches: SwitchTracepoint | None = None,
) -> list[PlannedEvent]:
    """Plan the events that are no probe places; the k-th gives `Sample.places` (first_index + k,).

    Kernel probes that the kernel will not set are left out. Raises CaptureError.
    """
    planned: list[PlannedEvent] = []
    for index, event in enumerate(extra, first_index):
        role, weight = Role.HIT, None
        if isinstance(event, OffCpuEvent):
            if any(each.role is Role.SWITCH_OUT for each in planned):
                continue
            attr = event_attr.switch_out(
                switches.number if switches else None, user_stack, enable_on_exec=enable_on_exec
            )
            name, role = "context-switches", Role.SWITCH_OUT
        elif isinstance(event, SamplingEvent):
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
            if event.weighs_time:
                weight = 1_000_000_000 // event.frequency  # what the kernel makes of a frequency, too
        elif isinstance(event, KernelProbeEvent):
            assert kernel_probes is not None
            number = kernel_probes.define(event)
            if number is None:
                continue
            attr = event_attr.kernel_event(
                event_attr.TYPE_TRACEPOINT, number, user_stack, period=1, enable_on_exec=enable_on_exec
            )
            name = event.name
        else:
            assert tracefs is not None
            attr = event_attr.kernel_event(
                *(event_attr.TYPE_TRACEPOINT, _tracepoint(tracefs, event.name), user_stack),
                period=1,
                enable_on_exec=enable_on_exec,
            )
            name = event.name
        planned.append(PlannedEvent(attr, attr.layout((index,), weight=weight), role, name))
    return planned


def _tracepoint(tracefs: TraceFilesystem, name: str) -> int:
    group, _, event = name.partition(":")
    try:
        return tracefs.event_id(group, event)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise CaptureError(f"this kernel has no tracepoint {name}{_nearest_tracepoints(tracefs, name)}") from error
        raise CaptureError(
            f"cannot read the tracepoint {name}: {os.strerror(error.errno or 0)}: run as root"
        ) from error


def _nearest_tracepoints(tracefs: TraceFilesystem, name: str) -> str:
    from unwind.symbolize.nearest_name import nearest_names

    try:
        close = nearest_names(name, tracefs.read("available_events").split(), 3)
    except OSError:
        close = []
    return f"; the nearest: {', '.join(close)}" if close else ": look in /sys/kernel/tracing/available_events"
