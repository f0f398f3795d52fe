"""Capture through perf events: uprobes, tracepoints and timers of the kernel, with registers and stack dumps.

The public names of the back end. Modules: `tracefs` and `uprobe_events` define the probes, `event_plan` says which
events are opened and `event_attr` opens them, `ring_buffer` and `ring_reader` drain them, `command_start` starts a
command, `process_state` tells what already runs, and `capture` ties them together.
"""

from ptap.backend.perf_events.availability import available
from ptap.backend.perf_events.capture import PerfCapture
from ptap.backend.perf_events.extra_event import ExtraEvent, SamplingEvent, TracepointEvent

__all__ = ["ExtraEvent", "PerfCapture", "SamplingEvent", "TracepointEvent", "available"]
