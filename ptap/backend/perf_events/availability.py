"""Does this back end work here? Found out by doing, for `ptap doctor` and the automatic choice."""

from __future__ import annotations

import os
import tempfile

from ptap.backend.live_capture import CaptureError, PlaceKind
from ptap.backend.perf_events import event_attr
from ptap.backend.perf_events.probe_definitions import stale_events
from ptap.backend.perf_events.ring_buffer import perf_refusal
from ptap.backend.perf_events.tracefs import TraceFilesystem
from ptap.backend.perf_events.uprobe_events import UprobeEvents


def available() -> str | None:
    """None when the back end can capture here; else what refuses, its value, and what would allow it.

    Defines a probe on an empty temporary file, opens it, and removes it: no running program is touched.
    """
    try:
        tracefs = TraceFilesystem()
    except CaptureError as error:
        return str(error)
    try:
        return _try_probe(tracefs)
    finally:
        tracefs.close()


def sampling_available() -> str | None:
    """None when processors can be sampled here; else what refuses, its value, and what would allow it."""
    try:
        os.close(event_attr.open_event(event_attr.ring_owner(1), -1, 0))
    except OSError as error:
        return perf_refusal(error)
    return None


def _try_probe(tracefs: TraceFilesystem) -> str | None:
    events = UprobeEvents(tracefs)
    fds: list[int] = []
    try:
        with tempfile.NamedTemporaryFile(prefix="ptap-") as file:
            file.write(bytes(4096))
            file.flush()
            number = events.define(events.new_name(), file.name, 0, PlaceKind.ENTRY)
            hit = event_attr.probe_hit(number, 8, enable_on_exec=False)
            fds.append(event_attr.open_event(hit, os.getpid(), -1))
            fds.append(event_attr.open_event(event_attr.breakpoint_keeper(hit), -1, 0))
    except CaptureError as error:
        return str(error)
    except OSError as error:
        return perf_refusal(error)
    finally:
        for fd in fds:
            os.close(fd)
        events.remove()
    return None


def leftovers() -> list[str]:
    """Groups of probe events whose owner was killed; the next capture removes them.

    Empty when tracefs cannot be read.
    """
    try:
        tracefs = TraceFilesystem()
    except CaptureError:
        return []
    try:
        return sorted({group for _, group, _ in stale_events(tracefs)})
    except OSError:
        return []
    finally:
        tracefs.close()
